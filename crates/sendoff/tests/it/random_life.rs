//! Random lives of jobs on a store, compared with the model after every step.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*, sample::Index};
use sendoff::{
    Delivery, ErrorClass, Job, JobId, LastError, QueueLimits, Receipt,
    ports::{InsertBatch, NewJob, Prune, Settlement},
    state::{self, Begun, Outcome, Resolution, State},
    testing::model::{Factory, Model, NODE, Row, at, grant, job, lane},
    time::Timestamp,
};

const QUEUES: [&str; 3] = ["a", "b", "c"];

/// What happens next.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Insert {
        jobs: Vec<New>,
        atomic: bool,
        bookmark: Option<u8>,
    },
    Claim {
        picks: Vec<Index>,
    },
    /// Rows that follow each other, whatever became of them.
    ClaimRun {
        first: Index,
        count: u64,
    },
    ClaimReady {
        limit: usize,
    },
    Settle {
        ends: Vec<End>,
    },
    Cancel {
        picks: Vec<Index>,
    },
    Reschedule {
        pick: Index,
        later: i64,
    },
    Resolve {
        pick: Index,
        to: Resolution,
    },
    Expire {
        limit: usize,
    },
    Crash,
    Reclaim {
        limit: usize,
    },
    Prune {
        age: i64,
        unknown_too: bool,
        submitted_by: Option<bool>,
        limit: usize,
    },
    SetQueue {
        queue: u8,
        limits: Option<(usize, bool)>,
    },
}

/// A job to insert: few names and few contents, so that they meet.
#[derive(Debug, Clone)]
pub(crate) struct New {
    guid: u64,
    content: u64,
    key: Option<u8>,
    queue: u8,
    priority: u8,
    delivery: Delivery,
    max_attempts: u32,
    later: i64,
    deadline: Option<i64>,
    claimed: bool,
    ann: bool,
    grant: Option<u64>,
}

/// The end of an attempt, or of what would like to be one.
#[derive(Debug, Clone)]
pub(crate) struct End {
    pick: Index,
    fence_off: i64,
    begun: bool,
    outcome: u8,
    later: i64,
}

fn new() -> impl Strategy<Value = New> {
    let names = (0..10_u64, 0..3_u64, proptest::option::weighted(0.3, 0..3_u8), 0..3_u8, 0..4_u8);
    let care = (any::<bool>(), 1..4_u32, -20..60_i64, proptest::option::weighted(0.3, 1..60_i64));
    let who = (any::<bool>(), any::<bool>(), proptest::option::of(0..3_u64));
    (names, care, who).prop_map(|(names, care, (claimed, ann, grant))| {
        let (guid, content, key, queue, priority) = names;
        let (once, max_attempts, later, deadline) = care;
        let delivery = if once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
        New {
            guid,
            content,
            key,
            queue,
            priority,
            delivery,
            max_attempts,
            later,
            deadline,
            claimed,
            ann,
            grant,
        }
    })
}

/// So many that stores take several at once. Most have a name of their own, some one of their neighbours'
/// or of the few that all use.
fn crowd() -> impl Strategy<Value = Vec<New>> {
    (vec(new(), 19..64), 1..50_u64).prop_map(|(jobs, thousand)| {
        let of_a_crowd = |(place, new): (usize, New)| match place % 16 {
            7 => new,
            9 => New { guid: thousand * 1_000 + place as u64 - 1, key: None, ..new },
            _ => New { guid: thousand * 1_000 + place as u64, key: None, ..new },
        };
        jobs.into_iter().enumerate().map(of_a_crowd).collect()
    })
}

fn end() -> impl Strategy<Value = End> {
    let fence_off = prop_oneof![8 => Just(0), 1 => Just(-1), 1 => Just(1)];
    (any::<Index>(), fence_off, any::<bool>(), 0..9_u8, 0..40_i64)
        .prop_map(|(pick, fence_off, begun, outcome, later)| End { pick, fence_off, begun, outcome, later })
}

fn op() -> impl Strategy<Value = Op> {
    let limit = || prop_oneof![0..4_usize, Just(1_000)];
    let resolution =
        prop_oneof![Just(Resolution::Started), Just(Resolution::Failed), Just(Resolution::Pending)];
    prop_oneof![
        6 => (prop_oneof![5 => vec(new(), 1..5), 1 => crowd()], any::<bool>(), proptest::option::of(any::<u8>()))
            .prop_map(|(jobs, atomic, bookmark)| Op::Insert { jobs, atomic, bookmark }),
        2 => vec(any::<Index>(), 1..6).prop_map(|picks| Op::Claim { picks }),
        2 => (any::<Index>(), 8..40_u64).prop_map(|(first, count)| Op::ClaimRun { first, count }),
        5 => (1..6_usize).prop_map(|limit| Op::ClaimReady { limit }),
        6 => vec(end(), 1..5).prop_map(|ends| Op::Settle { ends }),
        2 => vec(any::<Index>(), 1..4).prop_map(|picks| Op::Cancel { picks }),
        2 => (any::<Index>(), 0..60_i64).prop_map(|(pick, later)| Op::Reschedule { pick, later }),
        2 => (any::<Index>(), resolution).prop_map(|(pick, to)| Op::Resolve { pick, to }),
        2 => limit().prop_map(|limit| Op::Expire { limit }),
        2 => Just(Op::Crash),
        3 => limit().prop_map(|limit| Op::Reclaim { limit }),
        1 => (0..60_i64, any::<bool>(), proptest::option::weighted(0.2, any::<bool>()), limit())
            .prop_map(|(age, unknown_too, submitted_by, limit)| {
                Op::Prune { age, unknown_too, submitted_by, limit }
            }),
        1 => (0..3_u8, proptest::option::of((1..9_usize, any::<bool>())))
            .prop_map(|(queue, limits)| Op::SetQueue { queue, limits }),
    ]
}

/// A life of up to so many steps, with the time that passes before each.
pub(crate) fn life(steps: usize) -> impl Strategy<Value = Vec<(i64, Op)>> {
    vec((0..15_i64, op()), 1..steps)
}

/// `PROPTEST_CASES`, or so many; a failing case is written beside the tests and tried first next time.
pub(crate) fn cases(modest: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(modest);
    ProptestConfig { cases, ..ProptestConfig::default() }
}

/// Lives it on a store of this kind.
pub(crate) fn live(factory: &dyn Factory, ops: Vec<(i64, Op)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let mut model = Model::new(factory).await;
        let mut now = 0;
        for (passed, op) in ops {
            now += passed;
            step(&mut model, now, op).await;
            model.verify(at(now)).await;
        }
    });
}

fn pick<'a>(model: &'a Model, index: &Index) -> Option<&'a Row> {
    (!model.rows().is_empty()).then(|| index.get(model.rows()))
}

async fn step(model: &mut Model, now: i64, op: Op) {
    match op {
        Op::Insert { jobs, atomic, bookmark } => {
            let jobs = jobs.into_iter().map(|new| new.resolve(now)).collect();
            let bookmark = bookmark.map(|value| ("mark".to_owned(), vec![value]));
            model.insert(InsertBatch { jobs, atomic, bookmark, now: at(now) }).await;
        }
        Op::Claim { picks } => {
            let ids: Vec<_> = picks.iter().filter_map(|index| Some(pick(model, index)?.id)).collect();
            model.claim(&ids, at(now)).await;
        }
        Op::ClaimRun { first, count } => {
            let Some(first) = pick(model, &first).map(|row| row.id.0) else { return };
            let ids: Vec<_> = (first..first + count).map(JobId).collect();
            model.claim(&ids, at(now)).await;
        }
        Op::ClaimReady { limit } => {
            let due = model.store().due(None, at(now), limit).await.expect("due");
            let ids: Vec<_> = due.iter().map(|header| header.id).collect();
            model.claim(&ids, at(now)).await;
        }
        Op::Settle { ends } => {
            let settlements = ends.iter().filter_map(|end| end.settlement(pick(model, &end.pick)?, now));
            let settlements: Vec<_> = settlements.collect();
            model.settle(settlements, at(now)).await;
        }
        Op::Cancel { picks } => {
            let guids: Vec<_> = picks.iter().filter_map(|index| Some(pick(model, index)?.job.guid)).collect();
            model.cancel(&guids, at(now)).await;
        }
        Op::Reschedule { pick: index, later } => {
            let Some(guid) = pick(model, &index).map(|row| row.job.guid) else { return };
            model.reschedule(guid, at(now + later), at(now)).await;
        }
        Op::Resolve { pick: index, to } => {
            // Unknown ones are few: look for one from the picked place on.
            let Some(picked) = pick(model, &index).map(|row| row.id) else { return };
            let unknown =
                model.rows().iter().find(|row| row.id >= picked && row.life.state == State::Unknown);
            let guid = unknown.unwrap_or(model.row(picked)).job.guid;
            model.resolve(guid, to, at(now)).await;
        }
        Op::Expire { limit } => {
            model.expire(limit, at(now)).await;
        }
        Op::Crash => model.crash_and_reopen().await,
        Op::Reclaim { limit } => {
            model.reclaim(limit, at(now)).await;
        }
        Op::SetQueue { queue, limits } => {
            let limits = limits.map(|(max_in_flight, paused)| QueueLimits {
                max_in_flight: Some(max_in_flight),
                rate: None,
                paused,
            });
            model.set_queue(QUEUES[usize::from(queue)], limits).await;
        }
        Op::Prune { age, unknown_too, submitted_by, limit } => {
            let submitted_by = submitted_by.map(|ann| if ann { "ann" } else { "bob" }.to_owned());
            model.prune(Prune { before: at(now - age), submitted_by, unknown_too, limit }).await;
        }
    }
}

impl New {
    fn resolve(self, now: i64) -> NewJob {
        // The content goes with the guid mostly, else nearly all would be conflicts.
        let content = job(self.guid + if self.content == 2 { 100 } else { 0 });
        let run_at = at(now + self.later);
        let job = Job {
            guid: job(self.guid).guid,
            idempotency_key: self.key.map(|key| format!("key {key}").into()),
            lane: lane(QUEUES[usize::from(self.queue)]),
            priority: self.priority,
            delivery: self.delivery,
            max_attempts: self.max_attempts,
            queued_at: at(now),
            run_at,
            expires_at: self.deadline.map(|deadline| at(now + self.later + deadline)),
            submitted_by: self.ann.then(|| "ann".into()),
            grant: self.grant.map(grant),
            ..content
        };
        let due = run_at <= at(now) && job.expires_at.is_none_or(|expires_at| at(now) < expires_at);
        NewJob { job: Arc::new(job), claim: (self.claimed && due).then(|| NODE.into()) }
    }
}

impl End {
    fn settlement(&self, row: &Row, now: i64) -> Option<Settlement> {
        let fence = u32::try_from(i64::from(row.life.fence) + self.fence_off).ok()?;
        let claimed_at = row.life.past.as_ref().and_then(|past| past.claimed_at).unwrap_or(at(now));
        let begun = state::begin(at(now), row.job.queued_at, claimed_at);
        let outcome = self.outcome(begun, now);
        // What has started has begun.
        let begun = (self.begun || matches!(outcome, Outcome::Started { .. })).then_some(begun);
        Some(Settlement { id: row.id, fence, begun, outcome })
    }

    fn outcome(&self, begun: Begun, now: i64) -> Outcome {
        let error = |class| LastError { class, message: "it's \"so\"".to_owned(), at: at(now) };
        let next_at: Timestamp = at(now + self.later);
        match self.outcome {
            0..=1 => Outcome::Started {
                started_at: begun.starting_at.saturating_add(std::time::Duration::from_micros(3)),
                receipt: Receipt { status: Some(204), pid: None },
            },
            2 => Outcome::Retry { next_at, ambiguous: true, error: error(ErrorClass::Ambiguous) },
            3 => Outcome::Retry { next_at, ambiguous: false, error: error(ErrorClass::NotStarted) },
            4 => Outcome::Failed { ambiguous: self.begun, error: error(ErrorClass::Permanent) },
            5 => Outcome::Unknown { error: error(ErrorClass::Ambiguous) },
            6 => Outcome::Expired,
            7 => Outcome::Released { next_at, error: None },
            _ => Outcome::Released { next_at, error: Some(error(ErrorClass::Pressure)) },
        }
    }
}
