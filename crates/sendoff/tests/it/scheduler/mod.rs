//! The scheduler end to end: on tokio's paused clock with the memory store where time matters, on
//! SQLite where durability does.

mod batches;
mod cancel;
mod crash;
mod faults;
mod fleet;
mod limits;
mod lives;
mod many;
mod observed;
mod outcomes;
mod queues;
#[cfg(feature = "sqlite")]
mod random;
mod reschedule;
mod stop;

use std::{sync::Arc, time::Duration};

use sendoff::{
    Builder, Guid, JobRecord, JobSpec, Scheduler, Timestamp,
    ports::Store,
    store::MemoryStore,
    testing::{FlakyStore, Scripted, ScriptedStarter},
    time::TokioClock,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn wall() -> Timestamp {
    "2026-11-23T00:00:00Z".parse().unwrap()
}

/// The n-th job, due now.
fn job(n: u64) -> JobSpec {
    JobSpec::new(&Scripted { n, to: None })
}

/// The n-th job, to this destination.
fn job_to(n: u64, to: &str) -> JobSpec {
    JobSpec::new(&Scripted { n, to: Some(to.into()) })
}

fn builder(starter: &ScriptedStarter, store: Arc<dyn Store>) -> Builder {
    let builder = Scheduler::builder().store(store).starter(starter.clone());
    builder.clock(TokioClock::starting_at(wall())).seed(1)
}

/// A scheduler on an empty memory store that can be made to fail.
async fn flaky(
    starter: &ScriptedStarter,
    change: impl FnOnce(Builder) -> Builder,
) -> (Scheduler, Arc<FlakyStore>) {
    let store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new())));
    let scheduler = change(builder(starter, store.clone())).start().await.unwrap();
    quiet().await;
    (scheduler, store)
}

async fn scheduler(starter: &ScriptedStarter) -> Scheduler {
    flaky(starter, |builder| builder).await.0
}

/// Waits until nothing is left to do but wait: only then does the paused clock move on.
async fn quiet() {
    tokio::time::sleep(Duration::from_micros(1)).await;
}

async fn record(scheduler: &Scheduler, guid: Guid) -> JobRecord {
    scheduler.get(guid).await.unwrap().expect("it is there")
}
