//! T2: claims by id, and of other due jobs of a lane where the wanted ones are gone.

use std::{collections::HashMap, sync::Arc};

use tokio_postgres::{Row, types::Type};

use super::{
    ask::{Answer, Param},
    call::{ClaimWithin, Work},
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
    Claiming::send(tx, group, calls).await?.take(tx, group, calls).await?;
    replace(tx, group, calls).await
}

/// The rows of claims by id.
pub(super) struct Claiming {
    by_id: Vec<Row>,
    within: Vec<Row>,
}

impl Claiming {
    pub(super) async fn send(tx: &Transaction<'_>, group: &[Work], calls: &[usize]) -> Answer<Self> {
        let (mut by_id, mut within) = (Vec::new(), Vec::new());
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
        let (by_id, within) = tokio::join!(biased; rows_of(tx, by_id, true), rows_of(tx, within, false));
        Ok(Self { by_id: by_id?, within: within? })
    }

    /// Gives the calls what they have got.
    pub(super) async fn take(
        self,
        tx: &Transaction<'_>,
        group: &mut [Work],
        calls: &[usize],
    ) -> Result<(), Stop> {
        let mut claimed: HashMap<_, _> = read(tx, &self.by_id).await?.into_iter().collect();
        claimed.extend(read(tx, &self.within).await?);
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
                    call.set(call.input.0.iter().map(verdict).collect());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

pub(super) fn is_mine(tx: &Transaction<'_>, by: &Claim) -> bool {
    *tx.me.lease.node() == by.node
}

/// Claims those of these rows that are due and free. A row that was claimed and cannot be read comes as
/// `None`.
pub(super) async fn claim_ids(
    tx: &Transaction<'_>,
    wanted: Vec<(i64, i64)>,
) -> Result<HashMap<JobId, Option<Claimed>>, Stop> {
    let rows = rows_of(tx, wanted, true).await?;
    Ok(read(tx, &rows).await?.into_iter().collect())
}

/// Claims those of these rows that are due and free; without `all` those of queues with limits are
/// left alone.
async fn rows_of(tx: &Transaction<'_>, wanted: Vec<(i64, i64)>, all: bool) -> Answer<Vec<Row>> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, nows): (Vec<i64>, Vec<i64>) = wanted.into_iter().unzip();
    let params: [Param<'_>; 4] =
        [(&tx.me.id, Type::INT8), (&ids, Type::INT8_ARRAY), (&nows, Type::INT8_ARRAY), (&all, Type::BOOL)];
    tx.rows(Sql::Claim, &params).await
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

/// Whether calls did not get all that they wanted, though another job might do.
pub(super) fn has_lost(group: &[Work], calls: &[usize]) -> bool {
    calls.iter().any(|&call| match &group[call] {
        Work::ClaimWithin(ClaimWithin { output: Some(Ok(verdicts)), .. }) => {
            verdicts.iter().any(|verdict| matches!(verdict, ClaimVerdict::Lost))
        }
        _ => false,
    })
}

/// What the calls of a group have lost of one lane.
struct Lost {
    lane: Arc<Lane>,
    /// The earliest of the calls' times: what is due then is due for all.
    now: Timestamp,
    places: Vec<(usize, usize)>,
}

/// Claims other due jobs of the lanes whose wanted ones were lost, and gives them in their place. One
/// statement for each lane, however many calls: each walks past all that is locked.
pub(super) async fn replace(tx: &Transaction<'_>, group: &mut [Work], calls: &[usize]) -> Result<(), Stop> {
    let mut lost: Vec<Lost> = Vec::new();
    let mut known: HashMap<Arc<Lane>, usize> = HashMap::new();
    for &call in calls {
        let Work::ClaimWithin(ClaimWithin { input: (wanted, by), output: Some(Ok(verdicts)), .. }) =
            &group[call]
        else {
            continue;
        };
        if !is_mine(tx, by) {
            continue;
        }
        for (item, (wanted, verdict)) in wanted.iter().zip(verdicts).enumerate() {
            if wanted.only || !matches!(verdict, ClaimVerdict::Lost) {
                continue;
            }
            let place = *known.entry(wanted.lane.clone()).or_insert_with(|| {
                lost.push(Lost { lane: wanted.lane.clone(), now: by.now, places: Vec::new() });
                lost.len() - 1
            });
            lost[place].now = lost[place].now.min(by.now);
            lost[place].places.push((call, item));
        }
    }
    for Lost { lane, now, places } in lost {
        let others = claim_others(tx, &lane, now, places.len(), false).await?;
        for ((call, item), other) in places.into_iter().zip(others) {
            if let Work::ClaimWithin(ClaimWithin { output: Some(Ok(verdicts)), .. }) = &mut group[call] {
                verdicts[item] = ClaimVerdict::Claimed(Box::new(other));
            }
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
