//! What the store does under its lock: writes.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    grants::Grants,
    lanes::{Lanes, rank},
    names::Index,
    rows::{Names, Row, Rows},
    sorted::Sorted,
};
use crate::{
    error::{Error, Result},
    guid::Guid,
    job::{Job, JobId, QueueLimits},
    ports::{
        CancelVerdict, Changed, Claim, Claimed, Conflict, Expired, InsertBatch, Inserted, NewJob, Prune,
        Settled, Settlement,
    },
    state::{Life, Refused, Resolution, State, Transition},
    time::Timestamp,
};

/// Rows and everything that follows from them.
#[derive(Default)]
pub(super) struct Inner {
    pub(super) rows: Rows,
    pub(super) lanes: Lanes,
    pub(super) guids: Index,
    keys: Index,
    /// Pending rows by `next_at`.
    pub(super) due: Sorted,
    /// Pending rows with a deadline, by it.
    deadlines: Sorted,
    /// Final rows but for unknown ones, by `ended_at`.
    ended: Sorted,
    /// Unknown rows, by `ended_at`: apart, since they outlive the others.
    unknown: Sorted,
    grants: Grants,
    /// The request stored last: many jobs in a row often ask for the same.
    last_request: Option<Arc<str>>,
    pub(super) bookmarks: HashMap<String, Vec<u8>>,
    pub(super) queues: BTreeMap<Arc<str>, QueueLimits>,
    /// Attempts that were under way when the store was opened: rows and fences.
    pub(super) orphans: VecDeque<(u64, u32)>,
    pub(super) closed: bool,
    #[cfg(feature = "testing")]
    pub(super) fault: Option<super::Fault>,
}

/// Where a row stands in the indexes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    state: State,
    /// `next_at` of a pending row, `ended_at` of a final one.
    at: u64,
    expires_at: Option<u64>,
    lane: u32,
    priority: u8,
}

impl Place {
    fn of(row: &Row) -> Self {
        let at = match row.life.state {
            State::Pending => micros(row.life.next_at),
            State::Starting => 0,
            _ => row.life.ended_at.map_or(0, micros),
        };
        Self {
            state: row.life.state,
            at,
            expires_at: row.expires_at.map(micros),
            lane: row.lane,
            priority: row.priority,
        }
    }
}

/// An instant as the key of an index.
pub(super) fn micros(at: Timestamp) -> u64 {
    at.as_micros().cast_unsigned()
}

/// Why an item of a batch gets no row.
enum Taken {
    By(Guid),
    Conflict(Conflict),
}

impl Inner {
    pub(super) fn insert(&mut self, batch: InsertBatch) -> Result<Vec<Inserted>> {
        let InsertBatch { jobs, atomic, bookmark, now } = batch;
        if let Some(NewJob { job, .. }) =
            jobs.iter().find(|new| new.claim.is_some() && !claimable(&new.job, now))
        {
            let message = format!("job {} is not due, so it cannot be claimed as it is inserted", job.guid);
            return Err(Error::invalid(message));
        }
        let first = self.rows.next_id();
        // The items that got rows; the n-th of them has the n-th number from `first`.
        let mut created = Vec::with_capacity(jobs.len());
        let mut verdicts = Vec::with_capacity(jobs.len());
        for (item, new) in jobs.into_iter().enumerate() {
            let verdict = match self.taken(&new.job) {
                None => {
                    created.push(item);
                    Inserted::Created(JobId(self.add(&new, now)))
                }
                Some((Taken::By(guid), _)) => Inserted::Existing(guid),
                Some((Taken::Conflict(conflict), id)) => {
                    let nth = id.checked_sub(first).and_then(|nth| usize::try_from(nth).ok());
                    let with_item = nth.map(|nth| created[nth]);
                    Inserted::Conflict(Conflict { with_item, ..conflict })
                }
            };
            verdicts.push(verdict);
        }
        if atomic && verdicts.iter().any(|verdict| matches!(verdict, Inserted::Conflict(_))) {
            if planted!(self, BookmarkKeptOnConflict) {
                self.bookmarks.extend(bookmark);
            }
            if !planted!(self, AtomicBatchKeepsTheGood) {
                for id in first..self.rows.next_id() {
                    self.delete(id);
                }
            }
            for verdict in &mut verdicts {
                if !matches!(verdict, Inserted::Conflict(_)) {
                    *verdict = Inserted::Skipped;
                }
            }
            return Ok(verdicts);
        }
        self.bookmarks.extend(bookmark);
        Ok(verdicts)
    }

    /// Who holds this job's guid or key, and in which row.
    fn taken(&self, job: &Job) -> Option<(Taken, u64)> {
        let by_guid = if job.own_guid { None } else { self.find(job.guid) };
        let by_key = job.idempotency_key.as_deref().and_then(|key| self.find_key(key));
        let (id, field) = match (by_guid, by_key) {
            (None, None) => return None,
            (Some(by_guid), Some(by_key)) if by_guid != by_key => {
                let conflict = self.conflict(by_key, "idempotency_key");
                return Some((Taken::Conflict(conflict), by_key));
            }
            (Some(id), _) => (id, "guid"),
            (None, Some(id)) => (id, "idempotency_key"),
        };
        let row = self.row(id);
        if planted!(self, ContentNotCompared) || same_content(&row.request, &job.request) {
            return Some((Taken::By(row.guid), id));
        }
        Some((Taken::Conflict(self.conflict(id, field)), id))
    }

    fn conflict(&self, id: u64, field: &'static str) -> Conflict {
        Conflict { with: self.row(id).guid, with_item: None, field }
    }

    fn add(&mut self, new: &NewJob, now: Timestamp) -> u64 {
        let NewJob { job, claim } = new;
        let mut life = Life::new(job.run_at);
        if let Some(node) = claim {
            // Looked at before anything of the batch was inserted.
            let claimed = life.apply(&job.facts(), now, &Transition::Claim { node: node.clone() });
            debug_assert!(claimed.is_ok());
        }
        let names = (job.idempotency_key.is_some() || job.submitted_by.is_some() || job.grant.is_some())
            .then(|| {
                let idempotency_key = job.idempotency_key.clone();
                Box::new(Names {
                    idempotency_key,
                    submitted_by: job.submitted_by.clone(),
                    grant: job.grant.as_ref().map(|grant| self.grants.shared(grant)),
                })
            });
        let row = Row {
            guid: job.guid,
            request: self.shared_request(&job.request),
            queued_at: job.queued_at,
            expires_at: job.expires_at,
            names,
            lane: self.lanes.add(&job.lane, life.state),
            max_attempts: job.max_attempts,
            priority: job.priority,
            delivery: job.delivery,
            own_guid: job.own_guid,
            life,
        };
        let place = Place::of(&row);
        let id = self.rows.push(row);
        self.guids.insert(&job.guid, id);
        if let Some(key) = job.idempotency_key.as_deref() {
            self.keys.insert(&key, id);
        }
        self.index(id, place);
        id
    }

    /// This request; if it is the same as the one before, that one, so that both are kept once.
    fn shared_request(&mut self, request: &Arc<str>) -> Arc<str> {
        match &self.last_request {
            Some(last) if last == request => last.clone(),
            _ => self.last_request.insert(request.clone()).clone(),
        }
    }

    /// Deletes a row, whatever its state.
    fn delete(&mut self, id: u64) {
        let Some(row) = self.rows.get(id) else { return };
        let place = Place::of(row);
        self.guids.remove(&row.guid, id);
        if let Some(key) = row.idempotency_key() {
            self.keys.remove(&key, id);
        }
        self.unindex(id, place);
        self.lanes.remove(place.lane, place.state);
        self.rows.remove(id);
    }

    /// Takes one step with one row; `None` if there is no such row. All changes of rows go this way.
    fn step(&mut self, id: u64, now: Timestamp, step: &Transition) -> Option<Result<State, Refused>> {
        let row = self.rows.get_mut(id)?;
        let before = Place::of(row);
        let facts = row.facts();
        #[cfg(not(feature = "testing"))]
        let result = row.life.apply(&facts, now, step);
        #[cfg(feature = "testing")]
        let result = super::fault::apply(self.fault, &mut row.life, &facts, now, step);
        let after = Place::of(row);
        if result.is_ok() && before != after {
            self.unindex(id, before);
            self.index(id, after);
            if !(planted!(self, CancelNotCounted) && after.state == State::Cancelled) {
                self.lanes.recount(after.lane, before.state, after.state);
            }
        }
        Some(result)
    }

    fn index(&mut self, id: u64, place: Place) {
        match place.state {
            State::Pending => {
                self.due.insert((place.at, id));
                self.lanes.wait(place.lane, rank(place.priority, place.at), id);
                if let Some(expires_at) = place.expires_at {
                    self.deadlines.insert((expires_at, id));
                }
            }
            State::Starting => {}
            State::Unknown => self.unknown.insert((place.at, id)),
            _ => self.ended.insert((place.at, id)),
        }
    }

    fn unindex(&mut self, id: u64, place: Place) {
        match place.state {
            State::Pending => {
                self.due.remove((place.at, id));
                self.lanes.unwait(place.lane, rank(place.priority, place.at), id);
                if let Some(expires_at) = place.expires_at {
                    self.deadlines.remove((expires_at, id));
                }
            }
            State::Starting => {}
            State::Unknown => self.unknown.remove((place.at, id)),
            _ => self.ended.remove((place.at, id)),
        }
    }

    pub(super) fn claim(&mut self, ids: &[JobId], by: &Claim) -> Vec<Option<Claimed>> {
        let step = Transition::Claim { node: by.node.clone() };
        ids.iter()
            .map(|id| {
                self.step(id.0, by.now, &step)?.ok()?;
                let row = self.row(id.0);
                Some(Claimed {
                    id: *id,
                    job: Arc::new(self.job(row)),
                    fence: row.life.fence,
                    attempt: row.life.attempt,
                    claimed_at: by.now,
                    run_at: row.life.run_at,
                    crashes: row.life.crashes,
                })
            })
            .collect()
    }

    /// The unchanging part of a row, put together again: kept as it came, it would double the
    /// memory of a job that may wait for years.
    fn job(&self, row: &Row) -> Job {
        Job {
            guid: row.guid,
            own_guid: row.own_guid,
            idempotency_key: row.idempotency_key().map(Box::from),
            lane: self.lanes.lane(row.lane).clone(),
            priority: row.priority,
            delivery: row.delivery,
            max_attempts: row.max_attempts,
            queued_at: row.queued_at,
            run_at: row.life.run_at,
            expires_at: row.expires_at,
            request: row.request.clone(),
            submitted_by: row.submitted_by().cloned(),
            grant: row.grant().cloned().filter(|_| !planted!(self, GrantForgotten)),
        }
    }

    pub(super) fn settle(&mut self, settlements: Vec<Settlement>, now: Timestamp) -> Vec<Settled> {
        settlements
            .into_iter()
            .map(|Settlement { id, fence, begun, outcome }| {
                match self.step(id.0, now, &Transition::Settle { fence, begun, outcome }) {
                    Some(Ok(state)) => Settled { state, applied: true },
                    Some(Err(refused)) => Settled { state: refused.state, applied: false },
                    // Pruned since.
                    None => Settled { state: State::Unknown, applied: false },
                }
            })
            .collect()
    }

    pub(super) fn cancel(&mut self, guids: &[Guid], now: Timestamp) -> Vec<CancelVerdict> {
        // All are looked up first: the waits for memory of one search and the next overlap then.
        let found: Vec<_> = guids.iter().map(|guid| self.find(*guid)).collect();
        found
            .into_iter()
            .map(|id| id.map_or(CancelVerdict::NotFound, |id| self.cancel_row(id, now)))
            .collect()
    }

    fn cancel_row(&mut self, id: u64, now: Timestamp) -> CancelVerdict {
        let was = self.row(id).life.state;
        let state = self.step(id, now, &Transition::Cancel);
        let record = Box::new(self.record(self.row(id)));
        match state {
            Some(Ok(State::Cancelled)) => {
                CancelVerdict::Cancelled { id: (was != State::Cancelled).then_some(JobId(id)), record }
            }
            _ => CancelVerdict::TooLate(record),
        }
    }

    pub(super) fn reschedule(&mut self, guid: Guid, run_at: Timestamp, now: Timestamp) -> Option<Changed> {
        self.change(guid, now, &Transition::Reschedule { run_at })
    }

    pub(super) fn resolve(&mut self, guid: Guid, to: Resolution, now: Timestamp) -> Option<Changed> {
        self.change(guid, now, &Transition::Resolve { to })
    }

    fn change(&mut self, guid: Guid, now: Timestamp, step: &Transition) -> Option<Changed> {
        let id = self.find(guid)?;
        let applied = self.step(id, now, step)?.is_ok();
        let row = self.row(id);
        let header = (row.life.state == State::Pending).then(|| self.header(id, row));
        Some(Changed { applied, header, record: self.record(row) })
    }

    pub(super) fn reclaim(&mut self, limit: usize, now: Timestamp) -> usize {
        if planted!(self, ReclaimTakesNewClaims) && self.orphans.is_empty() {
            self.orphans = self.starting();
        }
        let mut reclaimed = 0;
        while reclaimed < limit {
            let Some((id, fence)) = self.orphans.pop_front() else { break };
            // Settled since, and perhaps claimed again: then it is an attempt of ours.
            let same = self.rows.get(id).is_some_and(|row| row.life.fence == fence);
            if same && matches!(self.step(id, now, &Transition::Reclaim), Some(Ok(_))) {
                reclaimed += 1;
            }
        }
        reclaimed
    }

    /// The attempts under way: rows and fences.
    pub(super) fn starting(&self) -> VecDeque<(u64, u32)> {
        let starting = self.rows.after(None).filter(|(_, row)| row.life.state == State::Starting);
        starting.map(|(id, row)| (id, row.life.fence)).collect()
    }

    /// Those of one node.
    #[cfg(feature = "testing")]
    pub(super) fn starting_under(&self, node: &str) -> VecDeque<(u64, u32)> {
        let own = |id| {
            let past = self.row(id).life.past.as_ref();
            past.and_then(|past| past.node.as_deref()) == Some(node)
        };
        self.starting().into_iter().filter(|(id, _)| own(*id)).collect()
    }

    pub(super) fn expire(&mut self, limit: usize, now: Timestamp) -> Expired {
        let last = if planted!(self, ExpireIgnoresDeadline) { u64::MAX } else { micros(now) };
        let late = self.deadlines.from((0, 0)).take_while(|(at, _)| *at <= last).take(limit);
        let late: Vec<u64> = late.map(|(_, id)| id).collect();
        let mut ended = Vec::with_capacity(late.len());
        for id in late {
            if let Some(Ok(state)) = self.step(id, now, &Transition::Expire) {
                let row = self.row(id);
                ended.push((JobId(id), row.guid, self.lanes.lane(row.lane).clone(), state));
            }
        }
        let next = self.deadlines.first().and_then(|(_, id)| self.row(id).expires_at);
        Expired { ended, next }
    }

    pub(super) fn prune(&mut self, prune: &Prune) -> usize {
        let before = micros(prune.before) + u64::from(planted!(self, PruneIncludesBefore));
        let unknown =
            if prune.unknown_too || planted!(self, PruneTakesUnknown) { Some(&self.unknown) } else { None };
        let pending = if planted!(self, PruneTakesPending) { Some(&self.due) } else { None };
        let gone: Vec<u64> = [Some(&self.ended), unknown, pending]
            .into_iter()
            .flatten()
            .flat_map(|ended| ended.from((0, 0)).take_while(|(at, _)| *at < before))
            .map(|(_, id)| id)
            .filter(|id| {
                let Some(submitter) = prune.submitted_by.as_deref() else { return true };
                self.row(*id).submitted_by().is_some_and(|by| **by == *submitter)
            })
            .take(prune.limit)
            .collect();
        for id in &gone {
            self.delete(*id);
        }
        gone.len()
    }

    pub(super) fn set_queue(&mut self, queue: Arc<str>, limits: Option<QueueLimits>) {
        match limits {
            Some(_) if planted!(self, QueueLimitsNotReplaced) && self.queues.contains_key(&queue) => {}
            Some(limits) => {
                self.queues.insert(queue, limits);
            }
            None if planted!(self, QueueLimitsNotForgotten) => {}
            None => {
                self.queues.remove(&queue);
            }
        }
    }

    pub(super) fn find(&self, guid: Guid) -> Option<u64> {
        self.guids.find(&guid, |id| self.row(id).guid == guid)
    }

    fn find_key(&self, key: &str) -> Option<u64> {
        if planted!(self, KeyNotUnique) {
            return None;
        }
        self.keys.find(&key, |id| self.row(id).idempotency_key() == Some(key))
    }

    pub(super) fn row(&self, id: u64) -> &Row {
        self.rows.get(id).expect("an index names a row that is there")
    }
}

fn claimable(job: &Job, now: Timestamp) -> bool {
    job.run_at <= now && !Life::past_deadline(&job.facts(), now)
}

/// Whether two requests are equal as JSON.
fn same_content(one: &str, other: &str) -> bool {
    let parse = serde_json::from_str::<serde_json::Value>;
    one == other || matches!((parse(one), parse(other)), (Ok(one), Ok(other)) if one == other)
}
