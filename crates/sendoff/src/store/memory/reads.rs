//! What the store does under its lock: reads.

use std::sync::Arc;

use super::{
    inner::{Inner, micros},
    rows::Row,
};
use crate::{
    error::Result,
    guid::{Guid, GuidSuffix},
    job::{Header, JobId, JobRecord, Lane, labels},
    ports::{Filter, Page, PageRequest},
    state::{POISON_CRASHES, Past},
    time::Timestamp,
};

impl Inner {
    pub(super) fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> Vec<Header> {
        let after = after.map(|(at, id)| (micros(at), id.0));
        let until = micros(until).saturating_sub(u64::from(planted!(self, DueWithoutUntil)));
        let limit = limit.saturating_add(usize::from(planted!(self, DueLimitOffByOne)));
        self.due
            .from(after.unwrap_or_default())
            .filter(|entry| after != Some(*entry) || planted!(self, DueRepeatsAfter))
            .take_while(|(at, _)| *at <= until)
            .take(limit)
            .map(|(_, id)| self.header(id, self.row(id)))
            .collect()
    }

    pub(super) fn ready(&self, lane: &Lane, now: Timestamp, limit: usize) -> Vec<Header> {
        let now = if planted!(self, ReadyIgnoresNow) { Timestamp::MAX } else { now };
        if planted!(self, ReadyIgnoresPriority) {
            let due = self.due(None, now, usize::MAX).into_iter();
            return due.filter(|header| *header.lane == *lane).take(limit).collect();
        }
        let ready = self.lanes.ready(lane, micros(now)).take(limit);
        ready.map(|id| self.header(id, self.row(id))).collect()
    }

    pub(super) fn header(&self, id: u64, row: &Row) -> Header {
        Header {
            id: JobId(id),
            lane: self.lanes.lane(row.lane).clone(),
            priority: row.priority,
            next_at: row.life.next_at,
            alone: row.life.crashes >= POISON_CRASHES,
        }
    }

    pub(super) fn get(&self, guid: Guid) -> Option<JobRecord> {
        self.find(guid).map(|id| self.record(self.row(id)))
    }

    pub(super) fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page> {
        let suffix = filter.guid_suffix.as_deref().map(GuidSuffix::parse).transpose()?;
        let after = page.after.map(|id| id.0);
        Ok(if page.newest_first && !planted!(self, NewestFirstIgnored) {
            let after = if planted!(self, NewestRepeatsAfter) { after.map(|id| id + 1) } else { after };
            self.page(self.rows.before(after), filter, suffix, page)
        } else {
            let after =
                if planted!(self, ListRepeatsAfter) { after.and_then(|id| id.checked_sub(1)) } else { after };
            self.page(self.rows.after(after), filter, suffix, page)
        })
    }

    fn page<'r>(
        &self,
        rows: impl Iterator<Item = (u64, &'r Row)>,
        filter: &Filter,
        suffix: Option<GuidSuffix>,
        page: PageRequest,
    ) -> Page {
        let mut rows = rows.peekable();
        let mut records = Vec::new();
        let mut last = None;
        for (id, row) in rows.by_ref().take(page.row_budget.max(1)) {
            last = Some(JobId(id));
            if self.matches(filter, suffix, row) {
                records.push(self.record(row));
            }
            if records.len() >= page.limit {
                break;
            }
        }
        Page { records, next: if rows.peek().is_some() { last } else { None } }
    }

    fn matches(&self, filter: &Filter, suffix: Option<GuidSuffix>, row: &Row) -> bool {
        let Filter { state, unfinished, queue, label, submitted_by, delivery, guid_suffix: _, from, to } =
            filter;
        state.is_none_or(|state| row.life.state == state)
            && !(*unfinished && row.life.state.is_final())
            && suffix.is_none_or(|suffix| suffix.is_of(&row.guid) || planted!(self, SuffixIgnored))
            && queue.as_ref().is_none_or(|queue| **queue == *self.lanes.lane(row.lane).queue)
            && delivery.is_none_or(|delivery| row.delivery == delivery)
            && from.is_none_or(|from| row.life.run_at >= from)
            && to.is_none_or(|to| row.life.run_at < to)
            && submitted_by
                .as_ref()
                .is_none_or(|submitter| row.submitted_by().is_some_and(|by| **by == **submitter))
            && label.as_ref().is_none_or(|(name, value)| labels(&row.request).get(name) == Some(value))
    }

    pub(super) fn record(&self, row: &Row) -> JobRecord {
        let nothing = Past::default();
        let past = row.life.past.as_deref().unwrap_or(&nothing);
        let lane = self.lanes.lane(row.lane);
        JobRecord {
            guid: row.guid,
            queue: lane.queue.clone(),
            state: row.life.state,
            starter: lane.starter.clone(),
            target: lane.destination.clone(),
            delivery: row.delivery,
            priority: row.priority,
            labels: labels(&row.request),
            run_at: row.life.run_at,
            next_at: row.life.next_at,
            expires_at: row.expires_at,
            queued_at: row.queued_at,
            claimed_at: past.claimed_at,
            starting_at: past.starting_at,
            started_at: past.started_at,
            ended_at: row.life.ended_at,
            wait_us: past.wait_us,
            took_us: past
                .started_at
                .zip(past.starting_at)
                .map(|(started_at, starting_at)| started_at.micros_since(starting_at)),
            attempt: row.life.attempt,
            max_attempts: row.max_attempts,
            crashes: row.life.crashes,
            fence: row.life.fence,
            node: past.node.clone(),
            receipt: past.receipt,
            last_error: past.last_error.clone(),
            possible_duplicate: row.life.possible_duplicate,
            cancel_requested_at: row.life.cancel_requested_at,
            quarantined: false,
            clock_skew_us: past.clock_skew_us,
            submitted_by: row.submitted_by().cloned(),
        }
    }

    pub(super) fn lanes(&self, after: Option<&Arc<Lane>>, limit: usize) -> Vec<Arc<Lane>> {
        self.lanes.waiting(after).take(limit).cloned().collect()
    }
}
