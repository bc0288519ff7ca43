//! The store by its trait, and the scheduler on it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sendoff::{
    Batch, Grant, Job, JobId, JobSpec, Receipt, Scheduler,
    ports::{
        Attempt, Checked, Claim, InsertBatch, Inserted, NewJob, Refusal, Settlement, StartFuture, Starter,
        StarterDefaults, Store,
    },
    state::{Outcome, begin},
    store::{SqliteOptions, SqliteStore},
    time::{Clock, SystemClock},
};
use serde_json::value::RawValue;
use tokio::{sync::watch, task::JoinSet};

use crate::{BATCH, HOUR, PADDING};

/// Batches that one caller of the scheduler has under way.
const BATCHES: usize = 2;

pub(crate) fn open(path: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(path, SqliteOptions::default()).expect("it opens"))
}

pub(crate) async fn scheduler(store: Arc<SqliteStore>, noop: &Noop) -> Scheduler {
    Scheduler::builder().store(store).starter(noop.clone()).start().await.expect("a scheduler")
}

/// Begins and is done.
#[derive(Clone, Default)]
pub(crate) struct Noop {
    begun: Arc<AtomicUsize>,
    told: watch::Sender<usize>,
}

impl Noop {
    /// How many have begun, told at every thousandth.
    pub(crate) fn count(&self) -> watch::Receiver<usize> {
        self.told.subscribe()
    }
}

impl Starter for Noop {
    fn name(&self) -> &str {
        "noop"
    }

    fn defaults(&self) -> StarterDefaults {
        StarterDefaults::default()
    }

    fn check(&self, _payload: &RawValue, _grant: Option<&Grant>) -> Result<Checked, Refusal> {
        Ok(Checked::default())
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        Box::pin(async move {
            attempt.begin()?;
            let begun = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
            if begun.is_multiple_of(BATCH) {
                self.told.send_replace(begun);
            }
            Ok(Receipt::default())
        })
    }
}

pub(crate) fn specs(jobs: usize, delay: Duration) -> Vec<JobSpec> {
    (0..jobs).map(|_| spec(delay)).collect()
}

fn spec(delay: Duration) -> JobSpec {
    let payload = RawValue::from_string("{}".to_owned()).expect("JSON");
    let spec = JobSpec::raw("noop", payload).label("n", PADDING);
    if delay.is_zero() { spec } else { spec.delay(delay) }
}

/// Each caller one job after the other.
pub(crate) async fn inserts(store: &Arc<SqliteStore>, callers: usize, jobs: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..jobs / callers {
                insert(&store, vec![Arc::new(crate::job(HOUR))]).await;
            }
        });
    }
    tasks.join_all().await;
}

/// Each caller one job after the other.
pub(crate) async fn submits(scheduler: &Scheduler, callers: usize, jobs: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let scheduler = scheduler.clone();
        tasks.spawn(async move {
            for _ in 0..jobs / callers {
                scheduler.submit(spec(HOUR)).expect("room").await.expect("stored");
            }
        });
    }
    tasks.join_all().await;
}

pub(crate) async fn submit_batches(scheduler: &Scheduler, batches: Vec<Vec<JobSpec>>) {
    let mut tasks = JoinSet::new();
    let mut batches = batches.into_iter();
    let submit = |specs| {
        let scheduler = scheduler.clone();
        async move { scheduler.submit_batch(Batch::itemised(specs)).await.expect("stored") }
    };
    for specs in batches.by_ref().take(BATCHES) {
        tasks.spawn(submit(specs));
    }
    while tasks.join_next().await.is_some() {
        if let Some(specs) = batches.next() {
            tasks.spawn(submit(specs));
        }
    }
}

pub(crate) async fn insert(store: &SqliteStore, jobs: Vec<Arc<Job>>) -> Vec<JobId> {
    let jobs = jobs.into_iter().map(|job| NewJob { job, claim: None }).collect();
    let batch = InsertBatch { jobs, atomic: false, bookmark: None, now: SystemClock.now() };
    let id = |verdict| match verdict {
        Inserted::Created(id) => id,
        other => panic!("not created: {other:?}"),
    };
    store.insert(batch).await.expect("insert").into_iter().map(id).collect()
}

pub(crate) async fn due(store: &SqliteStore, limit: usize) -> Vec<JobId> {
    let due = store.due(None, SystemClock.now(), limit).await.expect("due");
    due.into_iter().map(|header| header.id).collect()
}

/// Claims them and says that they started.
pub(crate) async fn start(store: &SqliteStore, ids: Vec<JobId>) {
    let now = SystemClock.now();
    let claimed = store.claim(ids, Claim { node: "node".into(), now }).await.expect("claim");
    let settlements = claimed.into_iter().map(|claimed| {
        let claimed = claimed.expect("it is due");
        let begun = begin(now, claimed.job.queued_at, claimed.claimed_at);
        let outcome = Outcome::Started { started_at: begun.starting_at, receipt: Receipt::default() };
        Settlement { id: claimed.id, fence: claimed.fence, begun: Some(begun), outcome }
    });
    let settled = store.settle(settlements.collect(), now).await.expect("settle");
    assert!(settled.iter().all(|settled| settled.applied));
}
