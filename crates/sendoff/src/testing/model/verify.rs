//! Comparing everything that a store shows with the model.

use std::sync::Arc;

use super::{Model, Row};
use crate::{
    guid::Guid,
    job::{Header, JobId, JobRecord, Lane},
    ports::{Counts, Filter, PageRequest},
    state::State,
    time::Timestamp,
};

/// More than any test inserts, and small enough for a limit in SQL.
const ALL: usize = 100_000;

impl Model {
    /// One record from the store.
    pub async fn get(&self, guid: Guid) -> Option<JobRecord> {
        self.store().get(guid).await.expect("get")
    }

    /// Compares these jobs' records and all counts with the model.
    pub(super) async fn check(&self, guids: impl IntoIterator<Item = Guid>) {
        for guid in guids {
            let expected = self.row_of(guid).map(|place| self.rows()[place].record());
            assert_eq!(self.get(guid).await, expected, "the record of {guid}");
        }
        let counts = self.store().counts().await.expect("counts");
        let rows = self.rows().iter().map(|row| (&*row.job.lane.queue, row.life.state));
        assert_eq!(counts, recount(rows), "counts, and a recount");
    }

    pub(super) async fn check_ids(&self, ids: &[JobId]) {
        let rows = self.rows().iter().filter(|row| ids.contains(&row.id));
        let guids: Vec<_> = rows.map(|row| row.job.guid).collect();
        self.check(guids).await;
    }

    /// Compares all that the store shows with the model, in pages and at once.
    pub async fn verify(&self, now: Timestamp) {
        let records: Vec<_> = self.rows().iter().map(Row::record).collect();
        for limit in [3, ALL] {
            let listed = self.list(Filter::default(), limit, ALL).await;
            assert_eq!(listed, records, "all records, {limit} a page");
            let mut listed = self.list_newest(Filter::default(), limit, ALL).await;
            listed.reverse();
            assert_eq!(listed, records, "all records from the newest, {limit} a page");
        }
        let queues = self.store().queues().await.expect("queues");
        assert_eq!(queues, self.queues, "the limits of queues");
        let counts = self.store().counts().await.expect("counts");
        let listed = records.iter().map(|record| (&*record.queue, record.state));
        assert_eq!(counts, recount(listed), "counts, and a recount");
        self.verify_order(now).await;
        for (name, value) in &self.bookmarks {
            let bookmark = self.store().bookmark(name.clone()).await.expect("bookmark");
            assert_eq!(bookmark.as_ref(), Some(value), "the bookmark {name}");
        }
    }

    /// Compares `due`, `lanes` and `ready` with the model.
    async fn verify_order(&self, now: Timestamp) {
        let pending: Vec<_> = self.pending().collect();
        for (until, limit) in [(Timestamp::MAX, ALL), (Timestamp::MAX, 3), (now, 2)] {
            let mut expected: Vec<_> =
                pending.iter().filter(|header| header.next_at <= until).cloned().collect();
            expected.sort_by_key(|header| (header.next_at, header.id));
            assert_eq!(self.due(until, limit).await, expected, "due until {until:?}, {limit} at a time");
        }
        let mut lanes: Vec<Arc<Lane>> = pending.iter().map(|header| header.lane.clone()).collect();
        lanes.sort();
        lanes.dedup();
        let whole = self.lanes(ALL).await;
        let mut sorted = whole.clone();
        sorted.sort();
        assert_eq!(sorted, lanes, "lanes with pending rows, in any order");
        assert_eq!(self.lanes(1).await, whole, "lanes with pending rows, one at a time");
        for lane in lanes {
            let mut expected: Vec<_> = pending
                .iter()
                .filter(|header| header.lane == lane && header.next_at <= now)
                .cloned()
                .collect();
            expected.sort_by_key(|header| (std::cmp::Reverse(header.priority), header.next_at, header.id));
            for limit in [2, expected.len(), ALL] {
                let ready = self.store().ready(lane.clone(), now, limit).await.expect("ready");
                let first = &expected[..expected.len().min(limit)];
                assert_eq!(ready, first, "the first {limit} ready at {now:?} in {lane:?}");
            }
        }
    }

    /// The headers of the pending jobs.
    pub fn pending(&self) -> impl Iterator<Item = Header> + '_ {
        self.rows().iter().filter(|row| row.life.state == State::Pending).map(Row::header)
    }

    /// All that is due until then, read in pages.
    async fn due(&self, until: Timestamp, limit: usize) -> Vec<Header> {
        let mut due: Vec<Header> = Vec::new();
        loop {
            let after = due.last().map(|header| (header.next_at, header.id));
            let page = self.store().due(after, until, limit).await.expect("due");
            assert!(page.len() <= limit, "{} headers with a limit of {limit}", page.len());
            let last = page.len() < limit;
            due.extend(page);
            if last {
                return due;
            }
            assert!(due.len() <= self.rows().len(), "pages of `due` repeat rows");
        }
    }

    /// All lanes with pending rows, read in pages.
    async fn lanes(&self, limit: usize) -> Vec<Arc<Lane>> {
        let mut lanes: Vec<Arc<Lane>> = Vec::new();
        loop {
            let page = self.store().lanes(lanes.last().cloned(), limit).await.expect("lanes");
            assert!(page.len() <= limit, "{} lanes with a limit of {limit}", page.len());
            let last = page.len() < limit;
            lanes.extend(page);
            if last {
                return lanes;
            }
            assert!(lanes.len() <= self.rows().len(), "pages of `lanes` repeat lanes");
        }
    }

    /// All records that match, read in pages.
    pub async fn list(&self, filter: Filter, limit: usize, row_budget: usize) -> Vec<JobRecord> {
        self.pages(filter, PageRequest { after: None, newest_first: false, limit, row_budget }).await
    }

    /// The same with the newest first.
    pub async fn list_newest(&self, filter: Filter, limit: usize, row_budget: usize) -> Vec<JobRecord> {
        self.pages(filter, PageRequest { after: None, newest_first: true, limit, row_budget }).await
    }

    async fn pages(&self, filter: Filter, request: PageRequest) -> Vec<JobRecord> {
        let PageRequest { newest_first, limit, .. } = request;
        let mut records = Vec::new();
        let mut after = None;
        loop {
            let request = PageRequest { after, ..request };
            let page = self.store().list(filter.clone(), request).await.expect("list");
            assert!(page.records.len() <= limit, "{} records with a limit of {limit}", page.records.len());
            records.extend(page.records);
            let gets_on =
                |next| after.is_none_or(|after| if newest_first { next < after } else { after < next });
            assert!(page.next.is_none_or(gets_on), "a page does not get on");
            assert!(records.len() <= self.rows().len(), "pages repeat records");
            after = page.next;
            if after.is_none() {
                return records;
            }
        }
    }
}

/// Counts made from queues and states.
fn recount<'a>(jobs: impl IntoIterator<Item = (&'a str, State)>) -> Counts {
    let mut counts = Counts::default();
    for (queue, state) in jobs {
        let states = match counts.queues.get_mut(queue) {
            Some(states) => states,
            None => counts.queues.entry(queue.to_owned()).or_default(),
        };
        *states.entry(state).or_default() += 1;
    }
    counts
}
