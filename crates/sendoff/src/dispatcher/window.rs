//! The near future: the pending jobs whose time comes first, in memory; the rest waits in the store.
//!
//! The window is bounded by a number of jobs, not by a time: few jobs are known for years ahead and
//! nothing has to be looked up, of many the first thousands are known. Invariant: every pending job
//! whose `(next_at, id)` is at or before the horizon is here, or was handed on as due, or belongs to
//! a lane that is marked for a refill. What lies behind the horizon is found by scans, which move it
//! on. Everything here is a hint: the store's guards decide, so a job that is listed twice or no
//! longer pending does no harm.
//!
//! In a fleet other nodes store jobs unseen, also before the horizon, so that the invariant holds
//! only for what was stored when the scan over it was asked for. Therefore the window is bounded by
//! a time as well, and each look at the store (at least every poll interval) scans from the very
//! beginning to a look-ahead of two intervals: a job is found by the first look after it was stored
//! or, if it was too far ahead then, by one at least an interval before it is due. A look re-reads
//! what is known already, but never more than it takes to fill the window or one page; when a page
//! holds nothing but due jobs, the lanes are listed instead, so no look costs O(pending). A look that
//! is asked for while a scan is under way begins when that is answered. Jobs of this node's own
//! beyond the look-ahead are not kept: a later look finds them with all others.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    job::{Header, JobId, Lane},
    time::Timestamp,
};

/// Jobs kept; of more, the farthest are left to a later scan.
const NEAR_JOBS: usize = 65_536;
/// Rows asked for in one scan.
const SCAN_ROWS: usize = 4_096;
/// Scan on when fewer jobs are left.
const NEAR_LOW: usize = SCAN_ROWS / 2;
/// Lanes asked for at once.
const LIST_LANES: usize = 1_024;

type Key = (Timestamp, JobId);

const fn everything_at(at: Timestamp) -> Key {
    (at, JobId(u64::MAX))
}

#[derive(Debug)]
struct Near {
    lane: Arc<Lane>,
    priority: u8,
    alone: bool,
}

/// What to ask the store for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Due { after: (Timestamp, JobId), until: Timestamp, limit: usize },
    Lanes { after: Option<Arc<Lane>>, limit: usize },
}

#[derive(Debug)]
pub(super) struct Window {
    near: BTreeMap<Key, Near>,
    horizon: Key,
    scan: Scan,
    listing: Listing,
    capacity: usize,
    /// Scans go so far: to the end of time, or in a fleet to the look-ahead of the last look.
    until: Timestamp,
    /// The look-ahead, in a fleet.
    ahead: Option<Duration>,
    look: Look,
}

/// Looking from the beginning, for what other nodes stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Done,
    /// As soon as no scan or listing is under way.
    Wanted,
    /// Its first page must be asked for, however much is known.
    Begun,
}

/// A look at what lies behind the horizon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scan {
    Idle,
    Asked,
    /// The horizon was drawn back meanwhile: the answer would leave a hole.
    Void,
}

/// Asking for the lanes that have pending jobs, at the beginning and when scans fall behind.
#[derive(Debug, PartialEq, Eq)]
enum Listing {
    Done,
    Wanted(Option<Arc<Lane>>),
    Asked,
}

impl Window {
    /// A window that knows nothing yet: it begins with the lanes.
    pub(super) fn new() -> Self {
        Self {
            near: BTreeMap::new(),
            horizon: everything_at(Timestamp::MIN),
            scan: Scan::Idle,
            listing: Listing::Wanted(None),
            capacity: NEAR_JOBS,
            until: Timestamp::MAX,
            ahead: None,
            look: Look::Done,
        }
    }

    /// One of a store that others fill as well: it looks so far ahead, again and again.
    pub(super) fn shared(ahead: Duration) -> Self {
        Self { until: Timestamp::MIN, ahead: Some(ahead), ..Self::new() }
    }

    /// Others may have stored something.
    pub(super) fn look_again(&mut self) {
        self.look = Look::Wanted;
    }

    /// A job became pending, or its time was changed.
    pub(super) fn add(&mut self, header: Header) {
        if self.is_near(&header) {
            self.insert(header);
        }
    }

    /// The same with a job that may be due: if it is, and would be kept, it is handed on at once.
    pub(super) fn add_or_pass(&mut self, header: Header, now: Timestamp) -> Option<Header> {
        if header.next_at > now {
            self.add(header);
            return None;
        }
        self.is_near(&header).then_some(header)
    }

    fn is_near(&self, header: &Header) -> bool {
        match self.ahead {
            // While a scan is under way its snapshot may be older than this job: keep it until then.
            None => self.scan != Scan::Idle || (header.next_at, header.id) <= self.horizon,
            Some(_) => header.next_at <= self.until,
        }
    }

    fn insert(&mut self, header: Header) {
        let Header { id, lane, priority, next_at, alone } = header;
        self.near.insert((next_at, id), Near { lane, priority, alone });
        if self.near.len() > self.capacity
            && let Some(((next_at, JobId(id)), _)) = self.near.pop_last()
        {
            // An answer under way may be older than the job that was left out.
            if self.scan == Scan::Asked {
                self.scan = Scan::Void;
            }
            // Everything before that job is still known.
            let before = match id.checked_sub(1) {
                Some(id) => (next_at, JobId(id)),
                None => (next_at, JobId(0)),
            };
            self.horizon = self.horizon.min(before);
        }
    }

    /// The next job that is due at `now`, taken out.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<Header> {
        let entry = self.near.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((next_at, id), Near { lane, priority, alone }) = entry.remove_entry();
        Some(Header { id, lane, priority, next_at, alone })
    }

    /// When the next job is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.near.first_key_value().map(|((at, _), _)| *at)
    }

    /// What has to be asked of the store now, if anything; the answer is expected.
    pub(super) fn ask(&mut self, now: Timestamp) -> Option<Ask> {
        if let Listing::Wanted(after) = &mut self.listing {
            let after = after.take();
            if after.is_none() {
                // What is due by now is found through its lanes, the rest by scans from here on.
                self.horizon = self.horizon.max(everything_at(now));
                if self.until == Timestamp::MIN {
                    self.until = self.look_ahead(now);
                }
            }
            self.listing = Listing::Asked;
            return Some(Ask::Lanes { after, limit: LIST_LANES });
        }
        if self.scan != Scan::Idle {
            return None;
        }
        if self.look == Look::Wanted && self.listing == Listing::Done {
            self.look = Look::Begun;
            self.until = self.look_ahead(now);
            self.horizon = everything_at(Timestamp::MIN);
        }
        let short = self.near.len() < NEAR_LOW || self.look == Look::Begun;
        if !short || self.horizon >= everything_at(self.until) {
            return None;
        }
        if self.look == Look::Begun {
            self.look = Look::Done;
        }
        self.scan = Scan::Asked;
        Some(Ask::Due { after: self.horizon, until: self.until, limit: SCAN_ROWS })
    }

    fn look_ahead(&self, now: Timestamp) -> Timestamp {
        self.ahead.map_or(Timestamp::MAX, |ahead| now.saturating_add(ahead))
    }

    /// The answer to [`Ask::Due`].
    pub(super) fn scanned(&mut self, headers: Vec<Header>, now: Timestamp) {
        let scan = std::mem::replace(&mut self.scan, Scan::Idle);
        let full = headers.len() >= SCAN_ROWS;
        if scan == Scan::Asked {
            self.horizon = match headers.last() {
                Some(last) if full => self.horizon.max((last.next_at, last.id)),
                _ => everything_at(self.until),
            };
            for header in headers {
                self.insert(header);
            }
            if full && self.horizon.0 <= now && self.listing == Listing::Done {
                // So much is due already that going through it row by row would take too long.
                self.listing = Listing::Wanted(None);
            }
        }
        if self.ahead.is_some() {
            return;
        }
        // Jobs behind the horizon were kept only for the time of the scan.
        self.near.split_off(&(self.horizon.0, JobId(self.horizon.1.0.saturating_add(1))));
    }

    /// [`Ask::Due`] failed.
    pub(super) fn scan_failed(&mut self) {
        if self.ahead.is_some() && self.look == Look::Done {
            self.look = Look::Wanted;
        }
        self.scan = Scan::Void;
        self.scanned(Vec::new(), Timestamp::MIN);
    }

    /// The answer to [`Ask::Lanes`]; the caller marks these lanes.
    pub(super) fn listed(&mut self, lanes: &[Arc<Lane>]) {
        self.listing = match lanes.last() {
            Some(last) if lanes.len() >= LIST_LANES => Listing::Wanted(Some(last.clone())),
            _ => Listing::Done,
        };
    }

    /// [`Ask::Lanes`] failed: begin again.
    pub(super) fn list_failed(&mut self) {
        self.listing = Listing::Wanted(None);
    }

    /// Whether due jobs may be in lanes that were not listed yet.
    pub(super) fn is_listing(&self) -> bool {
        self.listing != Listing::Done
    }

    /// Whether there is nothing here and nothing behind the horizon.
    pub(super) fn is_blank(&self) -> bool {
        let all_seen = self.scan == Scan::Idle && self.horizon == everything_at(self.until);
        self.near.is_empty() && all_seen && !self.is_listing()
    }

    #[cfg(test)]
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { capacity, ..Self::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000 + seconds * 1_000_000).unwrap()
    }

    fn header(id: u64, seconds: i64) -> Header {
        let lane = Lane { queue: "q".into(), starter: "s".into(), destination: None };
        Header { id: JobId(id), lane: Arc::new(lane), priority: 0, next_at: at(seconds), alone: false }
    }

    fn listed(mut window: Window, now: Timestamp) -> Window {
        assert_eq!(window.ask(now), Some(Ask::Lanes { after: None, limit: LIST_LANES }));
        window.listed(&[]);
        window
    }

    fn scan(window: &mut Window, now: Timestamp) -> Key {
        match window.ask(now) {
            Some(Ask::Due { after, until: Timestamp::MAX, .. }) => after,
            other => panic!("no scan but {other:?}"),
        }
    }

    fn full_page(seconds: i64) -> Vec<Header> {
        (0..SCAN_ROWS as u64).map(|id| header(id, seconds)).collect()
    }

    #[test]
    fn begins_with_the_lanes_and_scans_from_there() {
        let mut window = listed(Window::new(), at(0));
        assert_eq!(scan(&mut window, at(0)), everything_at(at(0)));
        assert_eq!(window.ask(at(0)), None, "one scan at a time");
        window.scanned(vec![header(1, 5)], at(0));
        assert_eq!(window.ask(at(0)), None, "everything is known");
        window.add(header(2, 1_000_000_000));
        assert_eq!(window.near.len(), 2);
    }

    #[test]
    fn a_job_inserted_during_a_scan_is_not_missed() {
        let mut window = listed(Window::new(), at(0));
        scan(&mut window, at(0));
        window.add(header(9_999, 3));
        window.add(header(9_998, 90));
        window.scanned(full_page(5), at(0));
        assert_eq!(window.pop_due(at(4)).map(|header| header.id), Some(JobId(9_999)));
        assert_eq!(window.near.len(), SCAN_ROWS, "the one behind the horizon is left to the next scan");
    }

    #[test]
    fn a_full_scan_moves_the_horizon_to_its_last_row() {
        let mut window = listed(Window::new(), at(0));
        scan(&mut window, at(0));
        window.scanned(full_page(10), at(0));
        assert_eq!(window.ask(at(0)), None, "enough is known");
        window.add(header(9_999, 50));
        while window.pop_due(at(11)).is_some() {}
        assert_eq!(window.next_due(), None);
        assert_eq!(scan(&mut window, at(11)), (at(10), JobId(SCAN_ROWS as u64 - 1)));
    }

    #[test]
    fn what_does_not_fit_is_found_by_a_later_scan() {
        let mut window = listed(Window::with_capacity(2), at(0));
        scan(&mut window, at(0));
        window.scanned(vec![header(1, 5)], at(0));
        window.add(header(2, 6));
        window.add(header(3, 4));
        assert_eq!(window.horizon, (at(6), JobId(1)));
        window.add(header(4, 7));
        assert_eq!(window.near.len(), 2);
        assert_eq!(scan(&mut window, at(0)), (at(6), JobId(1)));
    }

    #[test]
    fn a_scan_answered_after_the_horizon_was_drawn_back_leaves_no_hole() {
        let mut window = listed(Window::with_capacity(2), at(0));
        scan(&mut window, at(0));
        window.horizon = (at(6), JobId(2));
        for (id, seconds) in [(1, 5), (2, 6), (3, 4)] {
            window.add(header(id, seconds));
        }
        assert_eq!(window.horizon, (at(6), JobId(1)));
        window.scanned(vec![header(9, 70)], at(0));
        assert_eq!(window.horizon, (at(6), JobId(1)), "not moved on to 70");
    }

    #[test]
    fn a_scan_older_than_a_job_that_found_no_place_leaves_no_hole() {
        let mut window = listed(Window::with_capacity(2), at(0));
        let horizon = scan(&mut window, at(0));
        for (id, seconds) in [(1, 5), (2, 6), (3, 7)] {
            window.add(header(id, seconds));
        }
        window.scanned(Vec::new(), at(0));
        assert_eq!(scan(&mut window, at(0)), horizon, "job 3 is behind it still");
    }

    #[test]
    fn when_scans_fall_behind_the_lanes_are_listed_again() {
        let mut window = listed(Window::new(), at(0));
        scan(&mut window, at(0));
        window.scanned(full_page(1), at(2));
        assert_eq!(window.ask(at(2)), Some(Ask::Lanes { after: None, limit: LIST_LANES }));
        assert_eq!(window.horizon, everything_at(at(2)));
    }

    fn look(window: &mut Window, now: Timestamp) -> Option<(Key, Timestamp)> {
        match window.ask(now) {
            Some(Ask::Due { after, until, .. }) => Some((after, until)),
            None => None,
            other => panic!("no scan but {other:?}"),
        }
    }

    #[test]
    fn in_a_fleet_each_look_scans_from_the_beginning_to_the_look_ahead() {
        let mut window = listed(Window::shared(Duration::from_secs(10)), at(0));
        assert_eq!(look(&mut window, at(0)), Some((everything_at(at(0)), at(10))));
        window.scanned(Vec::new(), at(0));
        assert_eq!(look(&mut window, at(4)), None, "until the next look");
        window.add(header(1, 10));
        window.add(header(2, 11));
        assert_eq!(window.near.len(), 1, "what is farther ahead is left to a later look");
        window.look_again();
        assert_eq!(look(&mut window, at(5)), Some((everything_at(Timestamp::MIN), at(15))));
        window.scanned(vec![header(9, 3), header(1, 10), header(2, 11)], at(5));
        assert_eq!(window.pop_due(at(5)).map(|header| header.id), Some(JobId(9)), "before the horizon");
        assert_eq!(window.near.len(), 2);
    }

    #[test]
    fn a_look_during_a_scan_begins_after_it_and_reads_one_page_of_a_full_window() {
        let mut window = listed(Window::shared(Duration::from_secs(10)), at(0));
        look(&mut window, at(0));
        window.look_again();
        assert_eq!(look(&mut window, at(1)), None, "one scan at a time");
        window.scanned(full_page(8), at(1));
        assert_eq!(look(&mut window, at(1)), Some((everything_at(Timestamp::MIN), at(11))));
        window.scanned(full_page(8), at(1));
        assert_eq!(look(&mut window, at(1)), None, "enough is known");
    }

    #[test]
    fn a_look_that_finds_a_page_of_due_jobs_lists_the_lanes_instead() {
        let mut window = listed(Window::shared(Duration::from_secs(10)), at(0));
        look(&mut window, at(0));
        window.scanned(Vec::new(), at(0));
        window.look_again();
        look(&mut window, at(5));
        window.scanned(full_page(2), at(5));
        assert_eq!(window.ask(at(5)), Some(Ask::Lanes { after: None, limit: LIST_LANES }));
        window.listed(&[]);
        while window.pop_due(at(5)).is_some() {}
        assert_eq!(look(&mut window, at(5)), Some((everything_at(at(5)), at(15))));
    }

    #[test]
    fn a_look_that_failed_is_made_again() {
        let mut window = listed(Window::shared(Duration::from_secs(10)), at(0));
        look(&mut window, at(0));
        window.scan_failed();
        assert_eq!(look(&mut window, at(1)), Some((everything_at(Timestamp::MIN), at(11))));
    }
}
