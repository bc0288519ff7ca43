//! How the store and the fleet are, as far as this node can tell.

use std::{sync::Arc, time::Duration};

use futures_util::future;
use schemars::JsonSchema;
use sendoff::{
    Error, Scheduler, State,
    ports::{Fleet, NodeRecord, NodeState},
    time::{Clock, SystemClock},
};
use serde::Serialize;
use tokio::{sync::Mutex, time::timeout};

use super::problem::Problem;

/// How old what is known may be: asking takes longer the more queues there are, and anybody may.
const FRESH: Duration = Duration::from_secs(1);
/// How long the answer of a store may take that counts as reachable: whoever probes health has an
/// answer within a second, which is what Kubernetes waits for.
const PATIENCE: Duration = Duration::from_millis(800);

/// What was found at most a second ago.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// Of which jobs it is unknown whether they started; none if the store cannot be reached.
    pub(crate) unknown: Option<u64>,
    /// None if the store cannot be reached.
    pub(crate) nodes: Option<Arc<[NodeRecord]>>,
}

/// This node's part in its fleet.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Part {
    /// This node's name.
    node: String,
    /// Whether its heartbeat is up to date, so that it may begin starts.
    lease: bool,
    /// Nodes that are alive, this one included; `null` while the store cannot be reached.
    nodes_alive: Option<u64>,
    /// How long ago this node's last heartbeat arrived; `null` while that cannot be asked.
    heartbeat_age_seconds: Option<f64>,
    /// Whether at_most_once jobs are accepted.
    at_most_once: bool,
}

impl Standing {
    pub(crate) fn reachable(&self) -> bool {
        self.unknown.is_some() && self.nodes.is_some()
    }

    /// Nodes that are alive.
    pub(crate) fn alive(&self) -> Option<u64> {
        let alive = |nodes: &[NodeRecord]| nodes.iter().filter(|node| node.state == NodeState::Alive).count();
        self.nodes.as_deref().map(|nodes| alive(nodes) as u64)
    }

    /// How long ago this node's last heartbeat arrived.
    pub(crate) fn heartbeat_age(&self) -> Option<f64> {
        let this = self.nodes.as_deref()?.iter().find(|node| node.this)?;
        Some(Duration::from_micros(this.behind_us.max(0).unsigned_abs()).as_secs_f64())
    }

    pub(crate) fn part(&self, fleet: &dyn Fleet) -> Part {
        Part {
            node: fleet.lease().node().to_string(),
            lease: holds(fleet),
            nodes_alive: self.alive(),
            heartbeat_age_seconds: self.heartbeat_age(),
            at_most_once: fleet.accepts_at_most_once(),
        }
    }

    /// What works less well than it should, in words.
    pub(crate) fn degraded(&self, fleet: Option<&dyn Fleet>) -> Vec<&'static str> {
        let mut words = Vec::new();
        if !self.reachable() {
            words.push("the store cannot be reached: jobs are refused and nothing is claimed until it can");
        }
        if fleet.is_some_and(|fleet| !holds(fleet)) {
            words.push("this node's heartbeat is late: it begins no starts until one gets through");
        }
        if fleet.is_some_and(|fleet| !fleet.accepts_at_most_once()) {
            words.push(
                "at_most_once jobs are refused: no standby is synchronous, so a failover could forget that one \
                 started; make one synchronous, or accept it with allow_async_failover",
            );
        }
        words
    }
}

/// Whether this node's lease holds now.
pub(crate) fn holds(fleet: &dyn Fleet) -> bool {
    fleet.lease().holds(SystemClock.elapsed())
}

/// Looks, at most once a second.
#[derive(Debug, Default)]
pub(crate) struct Lookout(Mutex<Option<(Duration, Standing)>>);

impl Lookout {
    /// # Errors
    /// The store's, but for one that cannot be reached.
    pub(crate) async fn look(&self, scheduler: &Scheduler, now: Duration) -> Result<Standing, Problem> {
        // Whoever asks meanwhile waits for this answer.
        let mut known = self.0.lock().await;
        if let Some((at, standing)) = &*known
            && now.saturating_sub(*at) < FRESH
        {
            return Ok(standing.clone());
        }
        let (counts, nodes) = future::join(within(scheduler.counts()), within(scheduler.nodes())).await;
        let standing = Standing {
            unknown: counts?.map(|counts| counts.total(State::Unknown)),
            nodes: nodes?.map(Into::into),
        };
        *known = Some((now, standing.clone()));
        Ok(standing)
    }
}

/// What the store answers; nothing if it cannot be reached.
async fn within<T>(answer: impl Future<Output = sendoff::Result<T>>) -> Result<Option<T>, Error> {
    match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(Some(answer)),
        Ok(Err(err)) if !err.is_unavailable() => Err(err),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use sendoff::{starter::SimulatedStarter, store::MemoryStore};

    use super::*;

    #[tokio::test]
    async fn the_store_is_asked_at_most_once_a_second_for_those_who_ask_for_health() {
        let builder = Scheduler::builder().store(Arc::new(MemoryStore::new())).starter(SimulatedStarter);
        let scheduler = builder.start().await.unwrap();
        let known = Standing { unknown: Some(7), nodes: None };
        let lookout = Lookout(Mutex::new(Some((Duration::from_secs(5), known))));
        let look = async |millis| lookout.look(&scheduler, Duration::from_millis(millis)).await.unwrap();
        assert_eq!(look(5_999).await.unknown, Some(7));
        let fresh = look(6_000).await;
        assert_eq!((fresh.unknown, fresh.alive(), fresh.reachable()), (Some(0), Some(1), true));
    }
}
