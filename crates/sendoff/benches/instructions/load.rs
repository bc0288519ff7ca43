//! What is counted: whole lives of simulated starts that take no time, on one thread (and the
//! store's), by a clock that is the same each time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use sendoff::{
    Builder, Grant, JobSpec, Receipt, Scheduler, State,
    ports::{Attempt, Checked, Refusal, StartFuture, Starter, StarterDefaults, Store},
    starter::{Simulated, SimulatedStarter},
    store::{MemoryStore, SqliteOptions, SqliteStore},
    time::{Clock, Timer, Timestamp},
};
use serde_json::value::RawValue;

pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) starts: u64,
}

/// Submitted one by one before any is awaited. Half of them are inserted already claimed; the others
/// wait until those have ended. So the loop never has the choice between two things to do, which it
/// makes at random.
const ROUND: u64 = 1_000;
/// Enough that what a start-up costs is no more than a few percent.
pub(crate) const ALL: [Load; 3] = [
    Load { name: "memory", starts: 16 * ROUND },
    // In memory as well, by a starter that makes one at a time.
    Load { name: "alone", starts: 16 * ROUND },
    Load { name: "sqlite", starts: 8 * ROUND },
];

pub(crate) fn run(name: &str) -> Result<(), String> {
    let load = ALL.iter().find(|load| load.name == name).ok_or_else(|| format!("{name} is no load"))?;
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).map_err(|err| err.to_string())?;
    let store: Arc<dyn Store> = match name {
        "memory" | "alone" => Arc::new(MemoryStore::new()),
        _ => {
            let opened = SqliteStore::open(place.path().join("jobs"), SqliteOptions::default());
            Arc::new(opened.map_err(|err| err.to_string())?)
        }
    };
    let builder = match name {
        "alone" => Scheduler::builder().starter(OneByOne),
        _ => Scheduler::builder().starter(SimulatedStarter),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let started = runtime.expect("a runtime").block_on(start(builder.store(store), load.starts));
    match started.map_err(|err| err.to_string())? {
        started if started == load.starts => Ok(()),
        started => Err(format!("{started} of {} started", load.starts)),
    }
}

async fn start(builder: Builder, starts: u64) -> sendoff::Result<u64> {
    let builder = builder.max_in_flight(ROUND as usize / 2).clock(Counted::default()).seed(1);
    let scheduler = builder.start().await?;
    for _ in 0..starts / ROUND {
        for _ in 0..ROUND {
            drop(scheduler.submit(JobSpec::new(&Simulated::new(Duration::ZERO)))?);
        }
        scheduler.idle().await?;
    }
    let started = scheduler.counts().await?.total(State::Started);
    scheduler.shutdown(Duration::ZERO).await?;
    Ok(started)
}

/// Makes one start at a time, and waits once in each, as whoever asks a target does.
struct OneByOne;

impl Starter for OneByOne {
    fn name(&self) -> &str {
        SimulatedStarter.name()
    }

    fn defaults(&self) -> StarterDefaults {
        SimulatedStarter.defaults()
    }

    fn check(&self, payload: &RawValue, grant: Option<&Grant>) -> Result<Checked, Refusal> {
        SimulatedStarter.check(payload, grant)
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        Box::pin(async move {
            attempt.begin()?;
            tokio::task::yield_now().await;
            Ok(Receipt::default())
        })
    }
}

/// Goes on by a microsecond each time that somebody looks.
#[derive(Clone, Default)]
struct Counted(Arc<AtomicI64>);

impl Clock for Counted {
    fn now(&self) -> Timestamp {
        let micros = 1_800_000_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_micros(micros).expect("this century")
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(1, Ordering::Relaxed).unsigned_abs())
    }

    fn timer(&self) -> std::io::Result<Box<dyn Timer>> {
        Ok(Box::new(Alarm { clock: self.clone(), at: None }))
    }
}

/// Rings only when it is looked at: here nothing waits for a time to come.
struct Alarm {
    clock: Counted,
    at: Option<Timestamp>,
}

impl Timer for Alarm {
    fn arm(&mut self, at: Option<Timestamp>) {
        self.at = at;
    }

    fn poll_ring(&mut self, _: &mut Context<'_>) -> Poll<()> {
        match self.at {
            Some(at) if at <= self.clock.now() => {
                self.at = None;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}
