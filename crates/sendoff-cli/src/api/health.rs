//! Whether all is well, what there is to do, and what kinds of problems there are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::FutureExt;
use http::StatusCode;
use schemars::JsonSchema;
use sendoff::{
    Scheduler, State, Timestamp,
    ports::Durability,
    time::{Clock, SystemClock},
};
use serde::Serialize;
use tokio::sync::Mutex;

use super::{
    Answered, Api, Call, json,
    problem::{self, NO_PROBLEM, Problem, STOPPING, STORE_BROKEN},
    respond,
};

/// How old the number of unknown jobs may be that `/healthz` tells.
const FRESH: Duration = Duration::from_secs(1);

/// The daemon lives and its store answers.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Health {
    status: &'static str,
    /// Jobs of which it is unknown whether they started, and which an operator has not resolved.
    unknown: u64,
    durability: Durability,
}

/// The daemon takes jobs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Ready {
    ready: bool,
    durability: Durability,
}

/// How much there is to do, and since when.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Stats {
    /// Jobs by state; zeros are left out.
    #[schemars(with = "BTreeMap<String, u64>")]
    counts: BTreeMap<State, u64>,
    /// The same for each queue.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, u64>>")]
    queues: BTreeMap<String, BTreeMap<State, u64>>,
    /// Starts under way.
    in_flight: u64,
    /// When the earliest pending job is due, or was; it may be in a queue that is paused or full.
    next_due: Option<Timestamp>,
    /// For how long that job has been due; 0 if none is.
    oldest_overdue_seconds: f64,
    durability: Durability,
    /// This program's version.
    version: &'static str,
    /// Since the daemon began to serve.
    uptime_seconds: f64,
}

/// A kind of problem, explained.
#[derive(Debug, JsonSchema)]
#[expect(dead_code, reason = "read by its schema only; the answer is written by the table of kinds")]
pub(crate) struct Explained {
    kind: String,
    status: u16,
    title: String,
    about: String,
}

/// Fails if the scheduler has ended, and says why.
fn alive(api: &Api) -> Result<(), Problem> {
    match api.scheduler.fatal().now_or_never() {
        Some(fatal) => Err(STORE_BROKEN.says(fatal.to_string())),
        None => Ok(()),
    }
}

pub(crate) async fn healthz(api: Arc<Api>, _: Call) -> Answered {
    alive(&api)?;
    let unknown = api.unknown.get(&api.scheduler, SystemClock.elapsed()).await?;
    json(StatusCode::OK, &Health { status: "ok", unknown, durability: api.scheduler.durability() })
}

/// The number of unknown jobs, as it was at most a second ago: counting takes longer the more queues
/// there are, and anybody may ask.
#[derive(Debug, Default)]
pub(crate) struct Unknown(Mutex<Option<(Duration, u64)>>);

impl Unknown {
    async fn get(&self, scheduler: &Scheduler, now: Duration) -> Result<u64, Problem> {
        // Whoever asks meanwhile waits for this answer.
        let mut known = self.0.lock().await;
        if let Some((at, unknown)) = *known
            && now.saturating_sub(at) < FRESH
        {
            return Ok(unknown);
        }
        let unknown = scheduler.counts().await?.total(State::Unknown);
        *known = Some((now, unknown));
        Ok(unknown)
    }
}

pub(crate) async fn readyz(api: Arc<Api>, _: Call) -> Answered {
    alive(&api)?;
    if *api.stopping.borrow() {
        return Err(STOPPING.says("the daemon is stopping"));
    }
    json(StatusCode::OK, &Ready { ready: true, durability: api.scheduler.durability() })
}

pub(crate) async fn stats(api: Arc<Api>, _: Call) -> Answered {
    let counts = api.scheduler.counts().await?;
    let next_due = api.scheduler.next_due().await?;
    let totals = State::ALL.map(|state| (state, counts.total(state)));
    let stats = Stats {
        counts: totals.into_iter().filter(|(_, jobs)| *jobs > 0).collect(),
        in_flight: counts.total(State::Starting),
        queues: counts.queues,
        next_due,
        oldest_overdue_seconds: overdue(next_due),
        durability: api.scheduler.durability(),
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: SystemClock.elapsed().saturating_sub(api.started).as_secs_f64(),
    };
    json(StatusCode::OK, &stats)
}

pub(crate) async fn metrics(api: Arc<Api>, _: Call) -> Answered {
    let counts = api.scheduler.counts().await?;
    let overdue = overdue(api.scheduler.next_due().await?);
    let text = api.metrics.write(&counts, overdue);
    Ok(respond(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text))
}

/// Seconds since this instant; 0 if it is to come.
fn overdue(next_due: Option<Timestamp>) -> f64 {
    next_due.map_or(0.0, |due| SystemClock.now().saturating_since(due).as_secs_f64())
}

pub(crate) async fn explain(_: Arc<Api>, call: Call) -> Answered {
    match problem::kind(&call.part) {
        Some(kind) => json(StatusCode::OK, &kind.page()),
        None => Err(NO_PROBLEM.says(format!("there is no kind of problem {:?}", call.part))),
    }
}

#[cfg(test)]
mod tests {
    use sendoff::{starter::SimulatedStarter, store::MemoryStore};

    use super::*;

    #[tokio::test]
    async fn jobs_are_counted_at_most_once_a_second_for_those_who_ask_for_health() {
        let builder = Scheduler::builder().store(Arc::new(MemoryStore::new())).starter(SimulatedStarter);
        let scheduler = builder.start().await.unwrap();
        let unknown = Unknown(Mutex::new(Some((Duration::from_secs(5), 7))));
        assert_eq!(unknown.get(&scheduler, Duration::from_millis(5_999)).await.unwrap(), 7);
        assert_eq!(unknown.get(&scheduler, Duration::from_secs(6)).await.unwrap(), 0);
    }
}
