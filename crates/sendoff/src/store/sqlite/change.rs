//! T3 to T13: one guarded update each. A guard that does not hold changes no row.

use rusqlite::{OptionalExtension, params};

use super::{
    names::{guid_name, key_name, look_up_own, may_be_own},
    rows::{self, class_code, job_id, row_id},
    sql::Sql,
    writer::Writer,
};
use crate::{
    crash::Deed,
    error::Result,
    guid::Guid,
    job::{JobRecord, LastError},
    ports::{CancelVerdict, Changed, Expired, Prune, Settled, Settlement},
    state::{self, Outcome, POISON_CRASHES, Resolution, State},
    time::Timestamp,
};

pub(super) const PENDING: u8 = State::Pending.code();
pub(super) const STARTING: u8 = State::Starting.code();

pub(super) type Answer<T> = rusqlite::Result<Result<T>>;

pub(super) fn settle(
    writer: &mut Writer<'_>,
    (settlements, now): &(Vec<Settlement>, Timestamp),
) -> Answer<Vec<Settled>> {
    let settled = settlements
        .iter()
        .map(|settlement| settle_one(writer, settlement, *now))
        .collect::<rusqlite::Result<_>>();
    writer.deeds.done(Deed::Outcome);
    settled.map(Ok)
}

fn settle_one(writer: &mut Writer<'_>, settlement: &Settlement, now: Timestamp) -> rusqlite::Result<Settled> {
    let id = row_id(settlement.id);
    // A row that this store claimed is starting as long as it was not settled.
    let stood = match writer.starting.remove(&id) {
        Some(lane) => Some((STARTING, lane)),
        None => peek(writer, id)?,
    };
    let Some((before, lane)) = stood else {
        // Only what is final is ever deleted; which final state it had nobody knows.
        return Ok(Settled { state: State::Unknown, applied: false });
    };
    let fence = settlement.fence;
    let begun = settlement.begun.map(|begun| begun.starting_at.as_micros());
    let skew = settlement.begun.map(|begun| begun.clock_skew_us);
    let now = now.as_micros();
    let st = &mut writer.st;
    let ended = |changed: usize, state: State| (changed > 0).then_some(state.code());
    let after = match &settlement.outcome {
        Outcome::Started { started_at, receipt } => {
            let started = started_at.as_micros();
            let values = params![id, fence, begun, skew, started, receipt.status, receipt.pid, now];
            ended(st[Sql::Started].execute(values)?, State::Started)
        }
        Outcome::Retry { next_at, ambiguous, error } => {
            let (class, message, at) = error_cells(error);
            let next = next_at.as_micros();
            let values = params![id, fence, begun, skew, next, now, ambiguous, class, message, at];
            st[Sql::Retry].query_row(values, |row| row.get(0)).optional()?
        }
        Outcome::Failed { ambiguous, error } => {
            let (class, message, at) = error_cells(error);
            let values = params![id, fence, begun, skew, now, ambiguous, class, message, at];
            ended(st[Sql::Failed].execute(values)?, State::Failed)
        }
        Outcome::Unknown { error } => {
            let (class, message, at) = error_cells(error);
            let values = params![id, fence, begun, skew, now, class, message, at];
            ended(st[Sql::Unknown].execute(values)?, State::Unknown)
        }
        Outcome::Expired => {
            let values = params![id, fence, begun, skew, now];
            st[Sql::Overdue].query_row(values, |row| row.get(0)).optional()?
        }
        Outcome::Released { next_at, error } => {
            let (class, message, at) = error.as_ref().map(error_cells).unzip3();
            let next = next_at.as_micros();
            let values = params![id, fence, begun, skew, next, now, class, message, at];
            st[Sql::Release].query_row(values, |row| row.get(0)).optional()?
        }
    };
    let Some(after) = after else {
        let stands = peek(writer, id)?.map_or(State::Unknown, |(state, _)| known(state));
        return Ok(Settled { state: stands, applied: false });
    };
    writer.moved(lane, Some(before), Some(after))?;
    Ok(Settled { state: known(after), applied: true })
}

fn error_cells(error: &LastError) -> (u8, &str, i64) {
    (class_code(error.class), &error.message, error.at.as_micros())
}

/// For three columns that are null together.
trait Unzip3<A, B, C> {
    fn unzip3(self) -> (Option<A>, Option<B>, Option<C>);
}

impl<A, B, C> Unzip3<A, B, C> for Option<(A, B, C)> {
    fn unzip3(self) -> (Option<A>, Option<B>, Option<C>) {
        self.map_or((None, None, None), |(a, b, c)| (Some(a), Some(b), Some(c)))
    }
}

pub(super) fn cancel(
    writer: &mut Writer<'_>,
    (guids, now): &(Vec<Guid>, Timestamp),
) -> Answer<Vec<CancelVerdict>> {
    let cancelled = guids.iter().map(|guid| cancel_one(writer, guid, *now)).collect::<rusqlite::Result<_>>();
    writer.deeds.done(Deed::Cancel);
    cancelled.map(Ok)
}

fn cancel_one(writer: &mut Writer<'_>, guid: &Guid, now: Timestamp) -> rusqlite::Result<CancelVerdict> {
    let Some(id) = find(writer, guid)? else { return Ok(CancelVerdict::NotFound) };
    let Some((before, lane)) = peek(writer, id)? else { return Ok(CancelVerdict::NotFound) };
    let cancelled = writer.st[Sql::Cancel].execute(params![id, now.as_micros()])? > 0;
    if cancelled {
        writer.moved(lane, Some(before), Some(State::Cancelled.code()))?;
    } else {
        writer.st[Sql::LateCancel].execute(params![id, now.as_micros()])?;
    }
    let Some(record) = record(writer, id)?.map(Box::new) else { return Ok(CancelVerdict::NotFound) };
    Ok(match record.state {
        State::Cancelled => CancelVerdict::Cancelled { id: cancelled.then(|| job_id(id)), record },
        _ => CancelVerdict::TooLate(record),
    })
}

pub(super) fn reschedule(
    writer: &mut Writer<'_>,
    (guid, run_at): &(Guid, Timestamp),
) -> Answer<Option<Changed>> {
    let Some(id) = find(writer, guid)? else { return Ok(Ok(None)) };
    let applied = writer.st[Sql::Reschedule].execute(params![id, run_at.as_micros()])? > 0;
    writer.deeds.done(Deed::Reschedule);
    changed(writer, id, applied)
}

pub(super) fn resolve(
    writer: &mut Writer<'_>,
    (guid, to, now): &(Guid, Resolution, Timestamp),
) -> Answer<Option<Changed>> {
    let Some(id) = find(writer, guid)? else { return Ok(Ok(None)) };
    let Some((before, lane)) = peek(writer, id)? else { return Ok(Ok(None)) };
    let now = now.as_micros();
    let (after, rows) = match to {
        Resolution::Started => (State::Started, None),
        Resolution::Failed => (State::Failed, None),
        Resolution::Pending => {
            (State::Pending, Some(writer.st[Sql::ResolvePending].execute(params![id, now])?))
        }
    };
    let rows = match rows {
        Some(rows) => rows,
        None => writer.st[Sql::ResolveEnded].execute(params![id, now, after.code()])?,
    };
    if rows > 0 {
        writer.moved(lane, Some(before), Some(after.code()))?;
    }
    changed(writer, id, rows > 0)
}

fn changed(writer: &mut Writer<'_>, id: i64, applied: bool) -> Answer<Option<Changed>> {
    let Some(record) = record(writer, id)? else { return Ok(Ok(None)) };
    let Writer { st, lanes, .. } = writer;
    let header = st[Sql::Header].query_row([id], |row| rows::header(row, lanes)).optional()?.flatten();
    Ok(Ok(Some(Changed { applied, header, record })))
}

pub(super) fn reclaim(writer: &mut Writer<'_>, (limit, now): &(usize, Timestamp)) -> Answer<usize> {
    let mut reclaimed = 0;
    while reclaimed < *limit {
        let Some(&(id, fence)) = writer.left.get(writer.left_done) else { break };
        writer.left_done += 1;
        let values = params![
            id,
            fence,
            now.as_micros(),
            POISON_CRASHES,
            class_code(crate::job::ErrorClass::Poison),
            state::POISONED,
            class_code(crate::job::ErrorClass::Crash),
            state::CRASHED,
        ];
        let row = writer.st[Sql::Reclaim].query_row(values, |row| Ok((row.get(0)?, row.get(1)?)));
        if let Some((after, lane)) = row.optional()? {
            writer.moved(lane, Some(STARTING), Some(after))?;
            writer.deeds.done(Deed::Reclaim);
            reclaimed += 1;
        }
    }
    Ok(Ok(reclaimed))
}

pub(super) fn expire(writer: &mut Writer<'_>, (limit, now): &(usize, Timestamp)) -> Answer<Expired> {
    let now = now.as_micros();
    let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
    let past: Vec<(i64, Option<[u8; 16]>, i64)> = writer.st[Sql::PastDeadline]
        .query_map([now, limit], |row| Ok((row.get(0)?, row.get(1).ok(), row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut ended = Vec::with_capacity(past.len());
    for (id, guid, lane_id) in past {
        let (Some(guid), Some(lane)) = (guid, writer.lanes.get(lane_id)?) else {
            writer.st[Sql::Quarantine].execute([id])?;
            continue;
        };
        let after = writer.st[Sql::Expire].query_row([id, now], |row| row.get(0)).optional()?;
        if let Some(after) = after {
            writer.moved(lane_id, Some(PENDING), Some(after))?;
            ended.push((job_id(id), Guid::from_bytes(guid), lane, known(after)));
            writer.deeds.done(Deed::Expire);
        }
    }
    let next: Option<i64> = writer.st[Sql::NextDeadline].query_row([], |row| row.get(0))?;
    Ok(Ok(Expired { ended, next: next.and_then(Timestamp::from_micros) }))
}

pub(super) fn prune(writer: &mut Writer<'_>, prune: &Prune) -> Answer<usize> {
    let submitter = match &prune.submitted_by {
        None => None,
        Some(name) => match writer.actors.find(name)? {
            None => return Ok(Ok(0)),
            known => known,
        },
    };
    let mut ids: Vec<i64> = Vec::new();
    let kinds: &[Sql] = if prune.unknown_too { &[Sql::Ended, Sql::EndedUnknown] } else { &[Sql::Ended] };
    for &kind in kinds {
        let room = i64::try_from(prune.limit - ids.len()).unwrap_or(i64::MAX);
        let values = params![prune.before.as_micros(), submitter, room];
        for id in writer.st[kind].query_map(values, |row| row.get(0))? {
            ids.push(id?);
        }
    }
    let mut pruned = 0;
    for id in ids {
        let row = writer.st[Sql::Delete].query_row([id], |row| {
            let (lane, state): (i64, u8) = (row.get(0)?, row.get(1)?);
            let own: bool = row.get(2)?;
            Ok((lane, state, own, row.get(3).ok(), row.get::<_, Option<Box<str>>>(4)?))
        });
        let Some((lane, state, own, guid, key)) = row.optional()? else { continue };
        let guid = guid.map(Guid::from_bytes);
        if let Some(guid) = guid.filter(|guid| !(own && may_be_own(guid))) {
            writer.names.give_up(guid_name(&guid))?;
        }
        if let Some(key) = key {
            writer.names.give_up(key_name(&key))?;
        }
        writer.moved(lane, Some(state), None)?;
        writer.deeds.done(Deed::Prune);
        pruned += 1;
    }
    Ok(Ok(pruned))
}

fn known(code: u8) -> State {
    // The table's CHECK admits no other code.
    State::from_code(code).unwrap_or(State::Unknown)
}

fn peek(writer: &mut Writer<'_>, id: i64) -> rusqlite::Result<Option<(u8, i64)>> {
    writer.st[Sql::Peek].query_row([id], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

fn record(writer: &mut Writer<'_>, id: i64) -> rusqlite::Result<Option<JobRecord>> {
    let Writer { st, lanes, actors, grants, .. } = writer;
    st[Sql::Record].query_row([id], |row| rows::record(row, lanes, actors, grants)).optional()
}

/// The row of this guid.
fn find(writer: &mut Writer<'_>, guid: &Guid) -> rusqlite::Result<Option<i64>> {
    if let Some(id) = look_up_own(&mut writer.st[Sql::OwnGuid], guid)? {
        return Ok(Some(id));
    }
    writer.names.find(&guid_name(guid))
}
