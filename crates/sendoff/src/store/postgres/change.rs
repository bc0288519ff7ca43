//! T7 to T9, T12 and T13, reschedules and the limits of queues.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::{
    call::Work,
    fleet,
    plan::Item,
    rows::{self, guid_of, job_id, row_id, uuid_of},
    sql::Sql,
    texts::Columns,
    transaction::{Stop, Transaction},
};
use crate::{
    error::{Error, ErrorKind},
    guid::Guid,
    job::{JobRecord, QueueLimits},
    ports::{CancelVerdict, Changed, Expired, Prune},
    state::{Resolution, State},
    time::Timestamp,
};

/// When to look again at jobs past their deadline that somebody else holds.
const HELD: Duration = Duration::from_millis(250);
/// How often a cancel looks again at jobs that went back to pending meanwhile.
const ROUNDS: usize = 8;

pub(super) async fn cancel(tx: &Transaction<'_>, group: &mut [Work], items: &[Item]) -> Result<(), Stop> {
    let mut open: Vec<(Guid, Timestamp)> = Vec::with_capacity(items.len());
    for &(call, item) in items {
        if let Work::Cancel(call) = &group[call] {
            open.extend(call.input.0.get(item).map(|guid| (*guid, call.input.1)));
        }
    }
    let mut verdicts: HashMap<Guid, CancelVerdict> = HashMap::new();
    let mut changed: HashSet<Guid> = HashSet::new();
    for round in 0.. {
        if open.is_empty() {
            break;
        }
        if round == ROUNDS {
            let words = "jobs were claimed and given back again and again; nothing was done, try again";
            return Err(Stop::Refused(Error::new(ErrorKind::Busy, words)));
        }
        let guids: Vec<Uuid> = open.iter().map(|(guid, _)| uuid_of(guid)).collect();
        let nows: Vec<i64> = open.iter().map(|(_, now)| now.as_micros()).collect();
        let both = [(&guids as _, Type::UUID_ARRAY), (&nows as _, Type::INT8_ARRAY)];
        let (cancelled, late, found) = tokio::join!(
            biased;
            tx.rows(Sql::Cancel, &both),
            tx.rows(Sql::LateCancel, &both),
            tx.rows(Sql::Records, &both[..1]),
        );
        for row in cancelled? {
            changed.insert(guid_of(row.try_get(1)?));
        }
        late?;
        let records = records(tx, &found?).await?;
        // Between the two updates another node may have given a job back.
        open.retain(|(guid, _)| records.get(guid).is_some_and(|(_, record)| record.state == State::Pending));
        for (guid, (id, record)) in records {
            let record = Box::new(record);
            let verdict = match record.state {
                State::Cancelled => {
                    let id = changed.contains(&guid).then(|| job_id(id));
                    CancelVerdict::Cancelled { id, record }
                }
                _ => CancelVerdict::TooLate(record),
            };
            verdicts.insert(guid, verdict);
        }
    }
    for &(call, item) in items {
        let Work::Cancel(call) = &mut group[call] else { continue };
        let all = call.input.0.len();
        let verdict = verdicts.remove(&call.input.0[item]).unwrap_or(CancelVerdict::NotFound);
        if let Ok(output) = call.output.get_or_insert_with(|| Ok(vec![CancelVerdict::NotFound; all])) {
            output[item] = verdict;
        }
    }
    Ok(())
}

async fn records(tx: &Transaction<'_>, rows: &[Row]) -> Result<HashMap<Guid, (i64, JobRecord)>, Stop> {
    let known = tx.shared.interned.known(tx.ask(), rows, Columns::Record).await?;
    let mut records = HashMap::with_capacity(rows.len());
    for row in rows {
        let record = rows::record(row, &known);
        records.insert(record.guid, (row.try_get(0)?, record));
    }
    Ok(records)
}

/// A call that has a step of its own.
pub(super) async fn alone(tx: &Transaction<'_>, work: &mut Work) -> Result<(), Stop> {
    match work {
        Work::Reschedule(call) => {
            let (guid, run_at) = call.input;
            call.set(reschedule(tx, guid, run_at).await?);
        }
        Work::Resolve(call) => {
            let (guid, to, now) = call.input;
            call.set(resolve(tx, guid, to, now).await?);
        }
        Work::Reclaim(call) => {
            let (limit, now) = call.input;
            call.set(fleet::reclaim(tx.ask(), limit, now).await?);
        }
        Work::Quarantine(call) => {
            let ids: Vec<i64> = call.input.iter().map(|id| row_id(*id)).collect();
            tx.rows(Sql::Quarantine, &[(&ids, Type::INT8_ARRAY)]).await?;
            call.set(());
        }
        Work::Expire(call) => {
            let (limit, now) = call.input;
            call.set(expire(tx, limit, now).await?);
        }
        Work::Prune(call) => {
            let pruned = prune(tx, &call.input).await?;
            call.set(pruned);
        }
        Work::SetQueue(call) => {
            let (queue, limits) = &call.input;
            set_queue(tx, queue, limits.as_ref()).await?;
            call.set(());
        }
        Work::Insert(_) | Work::Claim(_) | Work::ClaimWithin(_) | Work::Settle(_) | Work::Cancel(_) => {}
    }
    Ok(())
}

async fn reschedule(tx: &Transaction<'_>, guid: Guid, run_at: Timestamp) -> Result<Option<Changed>, Stop> {
    let (guid, run_at) = (uuid_of(&guid), run_at.as_micros());
    let moved = tx.rows(Sql::Reschedule, &[(&guid, Type::UUID), (&run_at, Type::INT8)]).await?;
    changed(tx, guid, !moved.is_empty()).await
}

async fn resolve(
    tx: &Transaction<'_>,
    guid: Guid,
    to: Resolution,
    now: Timestamp,
) -> Result<Option<Changed>, Stop> {
    let (guid, now) = (uuid_of(&guid), now.as_micros());
    let ended = |state: State| i16::from(state.code());
    let rows = match to {
        Resolution::Pending => {
            tx.rows(Sql::ResolvePending, &[(&guid, Type::UUID), (&now, Type::INT8)]).await?
        }
        Resolution::Started | Resolution::Failed => {
            let state = ended(if to == Resolution::Started { State::Started } else { State::Failed });
            let params = [(&guid as _, Type::UUID), (&now as _, Type::INT8), (&state as _, Type::INT2)];
            tx.rows(Sql::ResolveEnded, &params).await?
        }
    };
    changed(tx, guid, !rows.is_empty()).await
}

async fn changed(tx: &Transaction<'_>, guid: Uuid, applied: bool) -> Result<Option<Changed>, Stop> {
    let named = [(&guid as _, Type::UUID)];
    let (found, header) = tokio::join!(biased; tx.rows(Sql::Record, &named), tx.rows(Sql::HeaderOf, &named));
    let (header, mut records) = (header?, records(tx, &found?).await?);
    let Some((_, record)) = records.remove(&guid_of(guid)) else { return Ok(None) };
    let known = tx.shared.interned.known(tx.ask(), &header, Columns::Header).await?;
    let header = header.first().and_then(|row| rows::header(row, &known));
    Ok(Some(Changed { applied, header, record }))
}

async fn expire(tx: &Transaction<'_>, most: usize, at: Timestamp) -> Result<Expired, Stop> {
    let (now, limit) = (at.as_micros(), i64::try_from(most).unwrap_or(i64::MAX));
    let past = [(&now as _, Type::INT8), (&limit as _, Type::INT8)];
    let (rows, next) = tokio::join!(biased; tx.rows(Sql::Expire, &past), tx.rows(Sql::NextDeadline, &[]));
    let rows = rows?;
    let lanes: Vec<i32> = rows.iter().map(|row| row.try_get(2)).collect::<Result<_, _>>()?;
    let known = tx.shared.interned.lanes(tx.ask(), &lanes).await?;
    let mut ended = Vec::with_capacity(rows.len());
    for row in &rows {
        let state = u8::try_from(row.try_get::<_, i16>(3)?).ok().and_then(State::from_code);
        let lane = known.lane(row.try_get(2)?);
        if let (Some(lane), Some(state)) = (lane, state) {
            ended.push((job_id(row.try_get(0)?), guid_of(row.try_get(1)?), Arc::clone(lane), state));
        }
    }
    let next = match next?.first() {
        Some(row) => row.try_get::<_, Option<i64>>(0)?.and_then(Timestamp::from_micros),
        None => None,
    };
    // What is past and was left is locked by another node, perhaps for long: no use asking at once.
    let held = |next: &Timestamp| *next <= at && rows.len() < most;
    let next = next.map(|next| if held(&next) { at.saturating_add(HELD) } else { next });
    Ok(Expired { ended, next })
}

async fn prune(tx: &Transaction<'_>, prune: &Prune) -> Result<usize, Stop> {
    let submitter = match &prune.submitted_by {
        None => None,
        Some(name) if name.contains('\0') => return Ok(0),
        Some(name) => match tx.shared.interned.find_actor(tx.ask(), name).await? {
            None => return Ok(0),
            known => known,
        },
    };
    let before = prune.before.as_micros();
    let kinds: &[Sql] =
        if prune.unknown_too { &[Sql::PruneEnded, Sql::PruneUnknown] } else { &[Sql::PruneEnded] };
    let mut pruned = 0;
    for &kind in kinds {
        let room = i64::try_from(prune.limit - pruned).unwrap_or(i64::MAX);
        let rows =
            tx.rows(kind, &[(&before, Type::INT8), (&submitter, Type::INT4), (&room, Type::INT8)]).await?;
        let gone: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        pruned += usize::try_from(gone).unwrap_or(0);
    }
    Ok(pruned)
}

async fn set_queue(tx: &Transaction<'_>, queue: &str, limits: Option<&QueueLimits>) -> Result<(), Stop> {
    if queue.contains('\0') {
        return Err(Stop::Refused(Error::invalid("queue: its name may not hold the character U+0000")));
    }
    let Some(limits) = limits else {
        tx.rows(Sql::ForgetQueueLimits, &[(&queue, Type::TEXT)]).await?;
        return Ok(());
    };
    let text = serde_json::to_string(limits).unwrap_or_default();
    if serde_json::from_str::<QueueLimits>(&text).ok() != Some(*limits) {
        let words = format!("the limits of queue {queue} cannot be stored: {text}");
        return Err(Stop::Refused(Error::invalid(words)));
    }
    tx.rows(Sql::SetQueueLimits, &[(&queue, Type::TEXT), (&text, Type::TEXT)]).await?;
    Ok(())
}
