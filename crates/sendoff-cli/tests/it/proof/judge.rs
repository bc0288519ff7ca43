//! Whether what happened outside is what the records say and what was promised.

use std::collections::{BTreeMap, HashMap};

use sendoff::Timestamp;
use uuid::Uuid;

use super::{
    jobs::{FEW, Kind, Recipe, SLOW},
    load::{Acknowledged, Cancel},
    records::Record,
    witness::{Call, Endpoint, Ledger},
};

/// So long may a start that began in time be on its way to the endpoint on a busy machine, in
/// microseconds.
const ON_ITS_WAY: i64 = 2_000_000;
/// So far apart may be what two nodes take for the database's time, in microseconds.
const CLOCKS: i64 = 100_000;

/// What came of it all.
#[derive(Default, Debug)]
pub(super) struct Verdict {
    pub(super) jobs: usize,
    pub(super) unknown: usize,
    pub(super) doubled: usize,
    pub(super) by_state: BTreeMap<String, usize>,
    /// How long after its deadline a call arrived, at most: on its way at that time.
    late: i64,
}

impl Verdict {
    pub(super) fn add(&mut self, other: Self) {
        self.jobs += other.jobs;
        self.doubled += other.doubled;
        self.unknown += other.unknown;
        self.late = self.late.max(other.late);
        for (state, count) in other.by_state {
            *self.by_state.entry(state).or_default() += count;
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} jobs acknowledged: 0 lost, 0 at_most_once doubled, {} at_least_once doubled and flagged, {} unknown",
            self.jobs, self.doubled, self.unknown
        )?;
        write!(f, "\n{:?}; latest call {} us after a deadline", self.by_state, self.late)
    }
}

/// Everything that is known when all is over.
pub(super) struct Case<'a> {
    pub(super) recipe: &'a Recipe<'a>,
    pub(super) acknowledged: &'a [Acknowledged],
    pub(super) records: &'a HashMap<Uuid, Record>,
    pub(super) endpoint: &'a Endpoint,
    pub(super) ledger: Option<&'a Ledger>,
}

impl Case<'_> {
    /// Fails unless every promise was kept. Doubts that crashes may leave are counted, not judged.
    pub(super) fn judge(&self) -> Verdict {
        let calls = self.endpoint.counts();
        let jobs: Vec<_> =
            self.acknowledged.iter().map(|held| (held, self.recipe.job(held.number).kind)).collect();
        let written: Vec<Uuid> = jobs
            .iter()
            .filter(|(held, kind)| *kind == Kind::Process && self.record(held).state == "started")
            .map(|(held, _)| held.guid)
            .collect();
        let starts = self.ledger.map(|ledger| ledger.starts_with(&written)).unwrap_or_default();
        let mut verdict = Verdict { jobs: jobs.len(), ..Verdict::default() };
        for (held, kind) in jobs {
            let record = self.record(held);
            let starts = match kind {
                Kind::Simulated | Kind::SimulatedAtMostOnce => None,
                Kind::Process | Kind::ProcessAtLeastOnce => {
                    Some(starts.get(&held.guid).copied().unwrap_or(0))
                }
                Kind::HttpAtLeastOnce | Kind::HttpAtMostOnce => {
                    Some(calls.get(&held.guid).copied().unwrap_or(0))
                }
            };
            judge_one(record, kind, held.cancel, starts);
            verdict.unknown += usize::from(record.state == "unknown");
            verdict.doubled += starts.unwrap_or(0).saturating_sub(1);
            *verdict.by_state.entry(format!("{kind:?} {}", record.state)).or_default() += 1;
        }
        for call in self.endpoint.calls() {
            if let Some(expires_at) = self.records.get(&call.guid).and_then(|record| record.expires_at) {
                verdict.late = verdict.late.max(call.at.micros_since(expires_at));
                assert!(
                    verdict.late < ON_ITS_WAY,
                    "called {} us after its deadline: {}",
                    verdict.late,
                    call.guid
                );
            }
        }
        verdict
    }

    fn record(&self, held: &Acknowledged) -> &Record {
        let known = self.records.get(&held.guid);
        known.unwrap_or_else(|| panic!("{} was acknowledged and is lost", held.guid))
    }

    /// The calls for jobs of this queue, with their records.
    fn calls_of(&self, queue: &str) -> Vec<(Call, &Record)> {
        let known = |call: Call| Some((call, self.records.get(&call.guid)?));
        let of_queue = |(_, record): &(Call, &Record)| record.queue == queue;
        self.endpoint.calls().into_iter().filter_map(known).filter(of_queue).collect()
    }

    /// The most calls that were under way at once in the queue that has a `max_in_flight`. Calls of a
    /// node that was killed meanwhile are left out: they ended with it.
    pub(super) fn most_at_once(&self) -> usize {
        let mut edges: Vec<(Timestamp, bool)> = Vec::new();
        for (call, _) in self.calls_of(FEW) {
            if let Some(until) = call.until {
                edges.extend([(call.at, true), (until, false)]);
            }
        }
        edges.sort_unstable();
        let (mut now, mut most) = (0_usize, 0);
        for (_, begins) in edges {
            now = if begins { now + 1 } else { now - 1 };
            most = most.max(now);
        }
        most
    }

    /// Fails if in some time more starts of the queue that has a `rate` were claimed than it allows: so
    /// many evenly a second, and so many at once.
    ///
    /// When a start was allowed lies between when its node asked for the claim and the call, which may be
    /// far apart (its node was stopped, or its network was). So for each window those count that lie
    /// in it whole. Of calls of earlier attempts nobody knows when they were claimed.
    pub(super) fn judge_rate(&self, a_second: i64, burst: i64) {
        let span = |(call, record): (Call, &Record)| {
            record.claimed_at.filter(|claimed| *claimed <= call.at).map(|claimed| (call.at, claimed))
        };
        let mut spans: Vec<_> = self.calls_of(SLOW).into_iter().filter_map(span).collect();
        spans.sort_unstable();
        for (_, from) in &spans {
            let within = spans.iter().filter(|(_, claimed)| claimed >= from);
            for (count, (until, _)) in (1..).zip(within) {
                let window = until.micros_since(*from);
                let allowed = burst + (window + CLOCKS) * a_second / 1_000_000;
                assert!(count <= allowed, "{count} starts within {window} us, where {allowed} may be");
            }
        }
    }
}

/// Fails unless this job's record, what its caller was told and how often it was seen to start agree.
pub(super) fn judge_one(record: &Record, kind: Kind, cancel: Cancel, starts: Option<usize>) {
    let told = format!("{kind:?}, {cancel:?}, {starts:?} starts of {record:?}");
    let (state, flagged) = (record.state.as_str(), record.possible_duplicate);
    if let Some(starts) = starts {
        assert!(starts <= record.fence, "started without a claim: {told}");
        assert!(!kind.at_most_once() || starts <= 1, "doubled: {told}");
        assert!(starts <= 1 || flagged, "doubled and not flagged: {told}");
        assert!(state != "started" || starts >= 1, "lost: {told}");
        assert!(state == "started" || starts == 0 || flagged || state == "unknown", "began unseen: {told}");
        if cancel == (Cancel::Cancelled { maybe_started: false }) {
            assert_eq!(starts, 0, "started although cancelled: {told}");
        }
    }
    assert!(!matches!(cancel, Cancel::Cancelled { .. }) || state == "cancelled", "{told}");
    let error = record.last_error.as_ref().map(|error| error.class.as_str());
    let right = match state {
        "started" => true,
        "cancelled" => cancel != Cancel::NotAsked,
        "expired" => record.expires_at.is_some(),
        "unknown" => kind.at_most_once() && (flagged || error == Some("ambiguous")),
        // Killed again and again, or a deadline that left no time for another attempt.
        "failed" => !kind.at_most_once() && flagged && (record.crashes >= 2 || record.expires_at.is_some()),
        _ => false,
    };
    assert!(right, "ended as nothing explains: {told}");
    assert!(
        state != "cancelled" || cancel != Cancel::TooLate || record.cancel_requested_at.is_some(),
        "{told}"
    );
    if let Some(starting_at) = record.starting_at {
        assert!(record.queued_at < starting_at && record.run_at <= starting_at, "{told}");
        assert!(record.started_at.is_none_or(|started_at| starting_at <= started_at), "{told}");
        assert!(record.expires_at.is_none_or(|expires_at| starting_at < expires_at), "too late: {told}");
    }
    assert!(state != "started" || record.started_at.is_some(), "{told}");
}
