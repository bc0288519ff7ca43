//! What a store that several nodes share tells the engine on one of them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use serde::Serialize;

use super::{Claim, Claimed, StoreFuture};
use crate::{
    job::{JobId, Lane},
    time::{Clock, Timestamp},
};

/// One node's part in a fleet: nodes that share a store, without a leader.
///
/// The store registers the node, keeps its heartbeat on a thread of its own, watches the other
/// nodes, and takes back (T10) what a dead one left `starting`. The engine asks here under which name
/// and until when it may claim and begin, and what of it the others must know.
pub trait Fleet: Send + Sync + 'static {
    /// This node's lease as of now. Another one follows when the node was declared dead and has
    /// registered anew; what was claimed under an earlier one ends under that.
    fn lease(&self) -> Arc<Lease>;
    /// The time that all nodes share: the database's. `now` is its lower bound, `latest` its upper.
    fn clock(&self) -> Arc<dyn Clock>;
    /// The queues that this node serves; `None`: all.
    fn queues(&self) -> Option<Arc<[Arc<str>]>>;
    /// How long to go at most without looking for jobs that other nodes stored. With jitter.
    fn poll_interval(&self) -> Duration;
    /// Resolves when there is something to look for at once. One caller at a time.
    fn woken(&self) -> BoxFuture<'static, Wake>;
    /// Tells the other nodes that there is something due soon that they may be able to start, or that
    /// the limits of a queue have changed. Throttled by the store; it may get lost, so nothing may depend on it.
    fn hint(&self);
    /// How many starts this node has in flight, to be shown with its next heartbeat.
    fn report(&self, in_flight: usize);
    /// T2 within the limits of the fleet, each by itself; verdicts in the order of `wanted`. For a
    /// job that is pending no longer, another due one of its lane may be claimed in its place, so
    /// that nodes that work on one backlog do not get in each other's way: but not where
    /// [`Wanted::only`] says so, and never one that must start alone ([`Header::alone`](crate::job::Header::alone)). Nothing is claimed under
    /// a lease that is no longer this node's.
    fn claim(&self, wanted: Vec<Wanted>, by: Claim) -> StoreFuture<Vec<ClaimVerdict>>;
    /// The rows that are `starting` in the name of the present lease, with their fences: after a
    /// claim whose answer was lost there may be some that the engine knows nothing of.
    fn mine(&self) -> StoreFuture<Vec<(JobId, u32)>>;
    /// Whether at_most_once jobs are accepted. They are not where a failover of the database may
    /// forget what was acknowledged, unless that was allowed: such a job could start twice.
    fn accepts_at_most_once(&self) -> bool {
        true
    }
    /// All nodes that are registered, in the order of their registration.
    fn nodes(&self) -> StoreFuture<Vec<NodeRecord>>;
}

/// Why [`Fleet::woken`] resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Another node has a hint, or rows of a dead node came back.
    Hint,
    /// A connection was lost and is back: claims may have been stored whose answer was lost.
    Reconnected,
}

/// A job to claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The row.
    pub id: JobId,
    /// Its lane, whose permits the caller has in hand.
    pub lane: Arc<Lane>,
    /// No other job may take its place.
    pub only: bool,
}

/// What became of a [`Wanted`].
#[derive(Debug, Clone)]
pub enum ClaimVerdict {
    /// This job is claimed; it may be another one of the same lane.
    Claimed(Box<Claimed>),
    /// The job is pending no longer, or cannot be claimed, and no other took its place.
    Lost,
    /// The job is still pending: its queue's limits in the fleet are used up. Ask again after this
    /// long at the earliest.
    Held(Duration),
}

/// A node's right to claim and to begin: until an instant, moved on by each heartbeat.
///
/// The instant is one of [`Clock::elapsed`]; time that the machine was suspended counts.
pub struct Lease {
    node: Arc<str>,
    /// Microseconds; 0 once revoked.
    until: AtomicU64,
}

impl Lease {
    /// A lease in this node's name, until then.
    pub fn new(node: Arc<str>, until: Duration) -> Self {
        Self { node, until: AtomicU64::new(micros(until)) }
    }

    /// The node's name, as records show it.
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// A heartbeat went through: the lease holds until then. One that was revoked stays so.
    pub fn extend(&self, until: Duration) {
        let later = |now: u64| (now != 0 || mutated!(RevokedLeaseRevives)).then(|| now.max(micros(until)));
        // An error says that it is revoked.
        let _ = self.until.fetch_update(Ordering::AcqRel, Ordering::Acquire, later);
    }

    /// The node was declared dead: it holds never again.
    pub fn revoke(&self) {
        self.until.store(0, Ordering::Release);
    }

    /// Whether it holds at this instant of [`Clock::elapsed`].
    pub fn holds(&self, elapsed: Duration) -> bool {
        micros(elapsed) < self.until.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("node", &self.node).finish_non_exhaustive()
    }
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX)
}

/// A node as others see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NodeRecord {
    /// Its name, new with each start of its process.
    pub node: String,
    /// Where it runs: `host:pid`.
    pub address: String,
    /// The version of sendoff that it runs.
    pub version: String,
    /// Whether it is the node that answers.
    pub this: bool,
    /// Whether it is alive.
    pub state: NodeState,
    /// When it registered.
    pub started_at: Timestamp,
    /// When its last heartbeat arrived.
    pub heartbeat_at: Timestamp,
    /// How long ago that was, in microseconds.
    pub behind_us: i64,
    /// Starts that it had in flight then.
    pub in_flight: u64,
    /// The queues that it serves; `null`: all.
    pub queues: Option<Vec<String>>,
}

/// Whether a node is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Its heartbeat is up to date.
    Alive,
    /// Its heartbeat is late: it may not begin any start now, and may be declared dead.
    Late,
    /// It was declared dead; what it left is being taken back.
    Dead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_until_its_instant_and_never_after_it_was_revoked() {
        let second = Duration::from_secs;
        let lease = Lease::new("n".into(), second(10));
        assert!(lease.holds(second(9)) && !lease.holds(second(10)));
        lease.extend(second(20));
        lease.extend(second(15));
        assert!(lease.holds(second(19)));
        lease.revoke();
        lease.extend(second(99));
        assert!(!lease.holds(second(1)));
    }
}
