//! Whether all is well, what there is to do, and what kinds of problems there are.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::FutureExt;
use http::StatusCode;
use schemars::JsonSchema;
use sendoff::{
    State, Timestamp,
    ports::{Durability, NodeRecord},
    time::{Clock, SystemClock},
};
use serde::Serialize;

use super::{
    Answered, Api, Call, json,
    problem::{self, NO_PROBLEM, Problem, STOPPING, STORE_BROKEN, STORE_UNAVAILABLE},
    respond,
    standing::{self, Part, Standing},
};

/// The daemon lives.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Health {
    status: &'static str,
    /// Jobs of which it is unknown whether they started, and which an operator has not resolved;
    /// `null` while the store cannot be reached.
    unknown: Option<u64>,
    durability: Durability,
    #[serde(flatten)]
    part: Parts,
}

/// The daemon takes jobs.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Ready {
    ready: bool,
    durability: Durability,
    #[serde(flatten)]
    part: Parts,
}

/// How the store and the fleet are.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Parts {
    /// Whether the store answers.
    store_reachable: bool,
    /// This node's part in its fleet; `null` if the store is not shared.
    fleet: Option<Part>,
    /// What works less well than it should, in words.
    degraded: Vec<&'static str>,
}

/// How much there is to do, and since when.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Stats {
    /// Jobs by state, of all nodes that share the store; zeros are left out.
    #[schemars(with = "BTreeMap<String, u64>")]
    counts: BTreeMap<State, u64>,
    /// The same for each queue.
    #[schemars(with = "BTreeMap<String, BTreeMap<String, u64>>")]
    queues: BTreeMap<String, BTreeMap<State, u64>>,
    /// Starts under way, on all nodes; `/v1/nodes` has each node's.
    in_flight: u64,
    /// When the earliest pending job is due, or was; it may be in a queue that is paused or full.
    next_due: Option<Timestamp>,
    /// For how long that job has been due; 0 if none is.
    oldest_overdue_seconds: f64,
    durability: Durability,
    /// This node's version.
    version: &'static str,
    /// Since this node began to serve.
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

impl Parts {
    fn of(api: &Api, standing: &Standing) -> Self {
        let fleet = api.fleet.as_deref();
        Self {
            store_reachable: standing.reachable(),
            fleet: fleet.map(|fleet| standing.part(fleet)),
            degraded: standing.degraded(fleet),
        }
    }
}

pub(crate) async fn healthz(api: Arc<Api>, _: Call) -> Answered {
    alive(&api)?;
    let standing = api.lookout.look(&api.scheduler, SystemClock.elapsed()).await?;
    let (unknown, durability) = (standing.unknown, api.scheduler.durability());
    json(StatusCode::OK, &Health { status: "ok", unknown, durability, part: Parts::of(&api, &standing) })
}

pub(crate) async fn readyz(api: Arc<Api>, _: Call) -> Answered {
    alive(&api)?;
    if *api.stopping.borrow() {
        return Err(STOPPING.says("the daemon is stopping"));
    }
    let standing = api.lookout.look(&api.scheduler, SystemClock.elapsed()).await?;
    if !standing.reachable() {
        return Err(STORE_UNAVAILABLE.says("the store cannot be reached, which is tried again all the time"));
    }
    let durability = api.scheduler.durability();
    json(StatusCode::OK, &Ready { ready: true, durability, part: Parts::of(&api, &standing) })
}

/// The nodes that share the store.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Nodes {
    /// In the order of their registration.
    nodes: Vec<NodeRecord>,
}

pub(crate) async fn nodes(api: Arc<Api>, _: Call) -> Answered {
    json(StatusCode::OK, &Nodes { nodes: api.scheduler.nodes().await? })
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
    let standing = api.lookout.look(&api.scheduler, SystemClock.elapsed()).await?;
    // Of a store that cannot be reached, what this process knows by itself is told all the same.
    let jobs = match standing.reachable() {
        true => Some((api.scheduler.counts().await?, overdue(api.scheduler.next_due().await?))),
        false => None,
    };
    let lease_held = api.fleet.as_deref().map(standing::holds);
    let text = api.metrics.write(jobs.as_ref(), &standing, lease_held, api.scheduler.in_flight());
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
