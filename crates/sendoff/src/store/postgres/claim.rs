//! T2: claims by id, and of other due jobs of a lane where the wanted ones are gone.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::{Row, types::Type};

use super::{
    call::Work,
    rows::{self, job_id, row_id},
    sql::Sql,
    texts::Columns,
    transaction::{Stop, Transaction},
};
use crate::{
    job::{JobId, Lane},
    ports::{Claim, ClaimVerdict, Claimed, Wanted},
    state::POISON_CRASHES,
    time::Timestamp,
};

/// Claims of a group. What remains of those within the fleet's limits is for [`super::limited`].
pub(super) async fn claim(tx: &Transaction<'_>, group: &mut [Work], calls: &[usize]) -> Result<(), Stop> {
    let mut by_id: Vec<(i64, i64)> = Vec::new();
    let mut within: Vec<(i64, i64)> = Vec::new();
    for &call in calls {
        match &group[call] {
            Work::Claim(claim) if is_mine(tx, &claim.input.1) => {
                let now = claim.input.1.now.as_micros();
                by_id.extend(claim.input.0.iter().map(|id| (row_id(*id), now)));
            }
            Work::ClaimWithin(claim) if is_mine(tx, &claim.input.1) => {
                let now = claim.input.1.now.as_micros();
                within.extend(claim.input.0.iter().map(|wanted| (row_id(wanted.id), now)));
            }
            _ => {}
        }
    }
    let mut claimed = claim_ids(tx, by_id, true).await?;
    claimed.extend(claim_ids(tx, within, false).await?);
    for &call in calls {
        match &mut group[call] {
            Work::Claim(call) => {
                // An id that comes twice is claimed by the first.
                call.set(call.input.0.iter().map(|id| claimed.remove(id).flatten()).collect());
            }
            Work::ClaimWithin(call) => {
                let verdict = |wanted: &Wanted| match claimed.remove(&wanted.id).flatten() {
                    Some(claimed) => ClaimVerdict::Claimed(Box::new(claimed)),
                    None => ClaimVerdict::Lost,
                };
                let mut verdicts: Vec<_> = call.input.0.iter().map(verdict).collect();
                if is_mine(tx, &call.input.1) {
                    let (wanted, by) = &call.input;
                    replace(tx, wanted, by.now, &mut verdicts).await?;
                }
                call.set(verdicts);
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn is_mine(tx: &Transaction<'_>, by: &Claim) -> bool {
    *tx.me.lease.node() == by.node
}

/// Claims those of these rows that are due and free; without `all` those of queues with limits are
/// left alone. A row that was claimed and cannot be read comes as `None`.
pub(super) async fn claim_ids(
    tx: &Transaction<'_>,
    wanted: Vec<(i64, i64)>,
    all: bool,
) -> Result<HashMap<JobId, Option<Claimed>>, Stop> {
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let (ids, nows): (Vec<i64>, Vec<i64>) = wanted.into_iter().unzip();
    let rows = tx
        .rows(
            Sql::Claim,
            &[
                (&tx.me.id, Type::INT8),
                (&ids, Type::INT8_ARRAY),
                (&nows, Type::INT8_ARRAY),
                (&all, Type::BOOL),
            ],
        )
        .await?;
    let read = read(tx, &rows).await?;
    Ok(read.into_iter().collect())
}

/// Claims the first due jobs of a lane, at most `limit`.
pub(super) async fn claim_others(
    tx: &Transaction<'_>,
    lane: &Arc<Lane>,
    now: Timestamp,
    limit: usize,
    all: bool,
) -> Result<Vec<Claimed>, Stop> {
    let Some(lane) = tx.shared.interned.find_lane(tx.ask(), lane).await? else { return Ok(Vec::new()) };
    let (now, limit) = (now.as_micros(), i64::try_from(limit).unwrap_or(i64::MAX));
    // What must start alone takes nobody's place.
    let alone = POISON_CRASHES.cast_signed();
    let rows = tx
        .rows(
            Sql::ClaimOthers,
            &[
                (&tx.me.id, Type::INT8),
                (&lane, Type::INT4),
                (&now, Type::INT8),
                (&limit, Type::INT8),
                (&all, Type::BOOL),
                (&alone, Type::INT4),
            ],
        )
        .await?;
    Ok(read(tx, &rows).await?.into_iter().filter_map(|(_, claimed)| claimed).collect())
}

/// Claims other due jobs of the lanes whose wanted ones were lost, and gives them in their place.
pub(super) async fn replace(
    tx: &Transaction<'_>,
    wanted: &[Wanted],
    now: Timestamp,
    verdicts: &mut [ClaimVerdict],
) -> Result<(), Stop> {
    let mut lost: Vec<(&Arc<Lane>, Vec<usize>)> = Vec::new();
    let mut places: HashMap<&Arc<Lane>, usize> = HashMap::new();
    for (item, wanted) in wanted.iter().enumerate() {
        if wanted.only || !matches!(verdicts[item], ClaimVerdict::Lost) {
            continue;
        }
        let place = *places.entry(&wanted.lane).or_insert_with(|| {
            lost.push((&wanted.lane, Vec::new()));
            lost.len() - 1
        });
        lost[place].1.push(item);
    }
    for (lane, items) in lost {
        let others = claim_others(tx, lane, now, items.len(), false).await?;
        for (item, other) in items.into_iter().zip(others) {
            verdicts[item] = ClaimVerdict::Claimed(Box::new(other));
        }
    }
    Ok(())
}

/// Reads claimed rows. One that cannot be read is put back and never claimed again.
async fn read(tx: &Transaction<'_>, rows: &[Row]) -> Result<Vec<(JobId, Option<Claimed>)>, Stop> {
    let known = tx.shared.interned.known(tx.ask(), rows, Columns::Job).await?;
    let mut broken: Vec<i64> = Vec::new();
    let mut claimed = Vec::with_capacity(rows.len());
    for row in rows {
        let kept = rows::kept(row, &known);
        let claimed_at = Timestamp::from_micros(row.try_get(CLAIMED_AT)?);
        let (Some(job), Some(claimed_at)) = (kept.job, claimed_at) else {
            broken.push(row.try_get(0)?);
            claimed.push((job_id(row.try_get(0)?), None));
            continue;
        };
        claimed.push((
            kept.id,
            Some(Claimed {
                id: kept.id,
                run_at: job.run_at,
                job: Arc::new(job),
                fence: kept.fence,
                attempt: kept.attempt,
                claimed_at,
                crashes: kept.crashes,
            }),
        ));
    }
    if !broken.is_empty() {
        tracing::error!(
            jobs = broken.len(),
            "stored jobs cannot be read; they are quarantined and left alone"
        );
        tx.rows(Sql::PutBack, &[(&broken, Type::INT8_ARRAY)]).await?;
    }
    Ok(claimed)
}

/// The column after those of `job_columns!`.
const CLAIMED_AT: usize = 19;
