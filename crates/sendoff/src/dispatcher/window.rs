//! The near future: pending jobs whose time comes soon, in memory; the rest waits in the store.
//!
//! Invariant: every pending job whose `(next_at, id)` is at or before the horizon is here, or was
//! handed on as due, or belongs to a lane that is marked for a refill. What lies behind the
//! horizon is found by scans, which move it on. Everything here is a hint: the store's guards
//! decide, so a job that is listed twice or no longer pending does no harm.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    job::{Header, JobId, Lane},
    time::Timestamp,
};

/// How far ahead a scan looks.
const LOOK_AHEAD: Duration = Duration::from_secs(60);
/// When less than this is known of the future, scan on.
const LOOK_AHEAD_LOW: Duration = Duration::from_secs(35);
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

#[derive(Debug)]
struct Scan {
    until: Timestamp,
    /// The horizon was drawn back meanwhile: the answer would leave a hole.
    void: bool,
}

/// What to ask the store for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Due { after: Option<(Timestamp, JobId)>, until: Timestamp, limit: usize },
    Lanes { after: Option<Arc<Lane>>, limit: usize },
}

#[derive(Debug)]
pub(super) struct Window {
    near: BTreeMap<Key, Near>,
    horizon: Key,
    scan: Option<Scan>,
    listing: Listing,
    capacity: usize,
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
            scan: None,
            listing: Listing::Wanted(None),
            capacity: NEAR_JOBS,
        }
    }

    /// A job became pending, or its time was changed.
    pub(super) fn add(&mut self, header: Header) {
        let key = (header.next_at, header.id);
        let known_until =
            self.scan.as_ref().map_or(self.horizon, |scan| everything_at(scan.until).max(self.horizon));
        if key > known_until {
            return;
        }
        self.insert(header);
    }

    fn insert(&mut self, header: Header) {
        let Header { id, lane, priority, next_at, alone } = header;
        self.near.insert((next_at, id), Near { lane, priority, alone });
        if self.near.len() > self.capacity
            && let Some(((next_at, JobId(id)), _)) = self.near.pop_last()
        {
            // Everything before the job that was left out is still known.
            let before = match id.checked_sub(1) {
                Some(id) => (next_at, JobId(id)),
                None => (next_at, JobId(0)),
            };
            if before < self.horizon {
                self.horizon = before;
                if let Some(scan) = &mut self.scan {
                    scan.void = true;
                }
            }
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
            }
            self.listing = Listing::Asked;
            return Some(Ask::Lanes { after, limit: LIST_LANES });
        }
        let short = self.near.len() < NEAR_LOW && self.horizon.0 < now.saturating_add(LOOK_AHEAD_LOW);
        if self.scan.is_some() || !short {
            return None;
        }
        let until = now.saturating_add(LOOK_AHEAD);
        self.scan = Some(Scan { until, void: false });
        Some(Ask::Due { after: Some(self.horizon), until, limit: SCAN_ROWS })
    }

    /// The answer to [`Ask::Due`].
    pub(super) fn scanned(&mut self, headers: Vec<Header>, now: Timestamp) {
        let Some(scan) = self.scan.take() else { return };
        let full = headers.len() >= SCAN_ROWS;
        let last = headers.last().map(|header| (header.next_at, header.id));
        if !scan.void {
            match last {
                Some(last) if full => self.horizon = self.horizon.max(last),
                _ => self.horizon = self.horizon.max(everything_at(scan.until)),
            }
            for header in headers {
                self.insert(header);
            }
            if full && self.horizon.0 <= now && self.listing == Listing::Done {
                // So much is due already that going through it row by row would take too long.
                self.listing = Listing::Wanted(None);
            }
        }
        // Jobs behind the horizon were kept only for the time of the scan.
        self.near.split_off(&(self.horizon.0, JobId(self.horizon.1.0.saturating_add(1))));
    }

    /// [`Ask::Due`] failed.
    pub(super) fn scan_failed(&mut self) {
        if let Some(scan) = &mut self.scan {
            scan.void = true;
        }
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

    fn scan(window: &mut Window, now: Timestamp) -> (Option<Key>, Timestamp) {
        match window.ask(now) {
            Some(Ask::Due { after, until, .. }) => (after, until),
            other => panic!("no scan but {other:?}"),
        }
    }

    #[test]
    fn begins_with_the_lanes_and_scans_from_there() {
        let mut window = listed(Window::new(), at(0));
        assert_eq!(scan(&mut window, at(0)), (Some(everything_at(at(0))), at(60)));
        assert_eq!(window.ask(at(0)), None, "one scan at a time");
        window.scanned(vec![header(1, 5)], at(0));
        assert_eq!(window.ask(at(24)), None, "still 36 s of future known");
        assert_eq!(scan(&mut window, at(26)), (Some(everything_at(at(60))), at(86)));
    }

    #[test]
    fn a_job_inserted_during_a_scan_is_not_missed() {
        let mut window = listed(Window::new(), at(0));
        scan(&mut window, at(0));
        window.add(header(7, 30));
        window.add(header(8, 90));
        window.scanned(vec![], at(0));
        assert_eq!(window.pop_due(at(1_000)).map(|header| header.id), Some(JobId(7)));
        assert_eq!(window.pop_due(at(1_000)), None, "behind the horizon: left to the next scan");
    }

    #[test]
    fn a_full_scan_moves_the_horizon_to_its_last_row() {
        let mut window = listed(Window::new(), at(0));
        scan(&mut window, at(0));
        window.add(header(9_999, 50));
        window.scanned((0..SCAN_ROWS as u64).map(|id| header(id, 10)).collect(), at(0));
        while window.pop_due(at(11)).is_some() {}
        assert_eq!(window.next_due(), None, "the job at 50 s is found again by the next scan");
        assert_eq!(scan(&mut window, at(11)).0, Some((at(10), JobId(SCAN_ROWS as u64 - 1))));
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
    }

    #[test]
    fn a_scan_answered_after_the_horizon_was_drawn_back_leaves_no_hole() {
        let mut window = listed(Window::with_capacity(2), at(0));
        scan(&mut window, at(0));
        window.scanned(vec![header(1, 5), header(2, 6)], at(0));
        let (after, _) = scan(&mut window, at(30));
        assert_eq!(after, Some(everything_at(at(60))));
        window.add(header(3, 4));
        window.scanned(vec![header(9, 70)], at(30));
        assert_eq!(window.horizon, (at(6), JobId(1)));
    }

    #[test]
    fn when_scans_fall_behind_the_lanes_are_listed_again() {
        let mut window = listed(Window::new(), at(0));
        scan(&mut window, at(0));
        window.scanned((0..SCAN_ROWS as u64).map(|id| header(id, 1)).collect(), at(2));
        assert_eq!(window.ask(at(2)), Some(Ask::Lanes { after: None, limit: LIST_LANES }));
        assert_eq!(window.horizon, everything_at(at(2)));
    }
}
