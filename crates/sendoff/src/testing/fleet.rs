//! A fleet in one process: several schedulers share one memory store, on tokio's paused clock.
//!
//! Everything that PostgreSQL and the network decide between real nodes is decided here by the test
//! and by tokio's clock alone, so a test goes the same way each time: heartbeats, leases that run
//! out, nodes that are cut off, killed or declared dead, hints and answers that get lost.

mod node;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

pub use node::FleetNode;

use self::node::Member;
use crate::{
    dispatcher::RateState,
    job::{JobId, QueueLimits},
    ports::{Claim, ClaimVerdict, Claimed, NodeRecord, NodeState, Store, Wake, Wanted},
    state::State,
    store::MemoryStore,
    time::{Clock, Timestamp, TokioClock},
};

/// How often a node's heart beats.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a node may claim and begin after a heartbeat.
const LEASE: Duration = Duration::from_secs(20);
/// After how long without a heartbeat a node is declared dead.
const DEAD: Duration = Duration::from_secs(45);
/// When to ask again for a job of a queue that is full or paused.
const HELD: Duration = Duration::from_secs(1);

/// Nodes that share one [`MemoryStore`]. Clones are handles of the same fleet.
#[derive(Clone)]
pub struct FleetOf(Arc<Shared>);

struct Shared {
    store: MemoryStore,
    clock: Arc<dyn Clock>,
    state: Mutex<Registry>,
}

/// Who is registered, and what the limits of queues have used up.
#[derive(Default)]
struct Registry {
    rows: Vec<Row>,
    /// Names given so far: never the same twice.
    names: u64,
    rates: BTreeMap<Arc<str>, RateState>,
    hints_lost: bool,
}

/// One registration of a node; it has another after it was declared dead.
struct Row {
    name: Arc<str>,
    queues: Option<Arc<[Arc<str>]>>,
    started_at: Timestamp,
    heartbeat_at: Timestamp,
    /// The same on the clock that never steps.
    beat: Duration,
    in_flight: usize,
    member: Weak<Member>,
}

impl FleetOf {
    /// A fleet without nodes, at this time. Needs a tokio runtime, its clock best paused.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self::on(MemoryStore::new(), wall)
    }

    /// The same on this store.
    pub fn on(store: MemoryStore, wall: Timestamp) -> Self {
        Self::by_clock(store, TokioClock::starting_at(wall))
    }

    /// The same by this clock, in place of a database's. Hearts beat by tokio's all the same.
    pub fn by_clock(store: MemoryStore, clock: impl Clock) -> Self {
        Self(Arc::new(Shared { store, clock: Arc::new(clock), state: Mutex::default() }))
    }

    /// Another node, which serves all queues: the store for its scheduler, and its heart, which beats
    /// as long as any handle of the node is there.
    pub fn node(&self) -> FleetNode {
        FleetNode::register(self.clone(), None)
    }

    /// Another node, which serves these queues only.
    pub fn node_for(&self, queues: &[&str]) -> FleetNode {
        FleetNode::register(self.clone(), Some(queues.iter().map(|queue| Arc::from(*queue)).collect()))
    }

    /// Whether hints get lost from now on.
    pub fn lose_hints(&self, lost: bool) {
        self.lock().hints_lost = lost;
    }

    /// The store that all nodes share, as if somebody looked at it from outside.
    pub fn store(&self) -> &MemoryStore {
        &self.0.store
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// A row in the register, with a name of its own.
    fn register(&self, member: &Arc<Member>, queues: Option<Arc<[Arc<str>]>>) -> Arc<str> {
        let (now, beat) = (self.clock().now(), self.clock().elapsed());
        let mut registry = self.lock();
        registry.names += 1;
        let name: Arc<str> = format!("node-{}", registry.names).into();
        registry.rows.push(Row {
            name: name.clone(),
            queues,
            started_at: now,
            heartbeat_at: now,
            beat,
            in_flight: 0,
            member: Arc::downgrade(member),
        });
        name
    }

    /// Notes a heartbeat; false if the node was declared dead.
    fn beat(&self, name: &str) -> bool {
        let (now, beat) = (self.clock().now(), self.clock().elapsed());
        let mut registry = self.lock();
        let Some(row) = registry.rows.iter_mut().find(|row| *row.name == *name) else { return false };
        (row.heartbeat_at, row.beat) = (now, beat);
        true
    }

    /// Declares those dead whose hearts have not beaten for too long.
    fn bury_the_silent(&self) {
        let elapsed = self.clock().elapsed();
        let silent = |row: &&Row| elapsed.saturating_sub(row.beat) >= DEAD;
        let names: Vec<_> = self.lock().rows.iter().filter(silent).map(|row| row.name.clone()).collect();
        for name in names {
            self.bury(&name);
        }
    }

    /// Takes a node out of the register and takes back what it left `starting`.
    fn bury(&self, name: &str) {
        self.lock().rows.retain(|row| *row.name != *name);
        if self.0.store.reclaim_from(name, self.clock().now()) > 0 {
            self.wake_all_but("");
        }
    }

    fn wake_all_but(&self, name: &str) {
        let registry = self.lock();
        if registry.hints_lost {
            return;
        }
        for row in registry.rows.iter().filter(|row| *row.name != *name) {
            if let Some(member) = row.member.upgrade() {
                member.wake(Wake::Hint);
            }
        }
    }

    /// Whether a node of this name is there and was not declared dead.
    pub fn is_registered(&self, name: &str) -> bool {
        self.lock().rows.iter().any(|row| *row.name == *name)
    }

    fn claim(&self, wanted: &Wanted, by: &Claim) -> ClaimVerdict {
        let limits = self.0.store.queue_limits(&wanted.lane.queue);
        if let Some(held) = limits.and_then(|limits| self.held(&wanted.lane.queue, &limits)) {
            return ClaimVerdict::Held(held);
        }
        let claimed = self.claim_one(wanted.id, by).or_else(|| {
            let instead = now(self.0.store.ready(wanted.lane.clone(), by.now, 1))?.pop()?;
            let may = !wanted.only && !instead.alone;
            if may { self.claim_one(instead.id, by) } else { None }
        });
        let Some(claimed) = claimed else { return ClaimVerdict::Lost };
        if let Some(rate) = limits.and_then(|limits| limits.rate) {
            let elapsed = self.clock().elapsed();
            self.lock().rates.entry(wanted.lane.queue.clone()).or_default().take(&rate, elapsed);
        }
        ClaimVerdict::Claimed(Box::new(claimed))
    }

    fn claim_one(&self, id: JobId, by: &Claim) -> Option<Claimed> {
        now(self.0.store.claim(vec![id], by.clone()))?.pop()?
    }

    /// How long the queue's limits allow nothing more, if they do not.
    fn held(&self, queue: &Arc<str>, limits: &QueueLimits) -> Option<Duration> {
        let starting = || {
            let counts = now(self.0.store.counts()).unwrap_or_default();
            let states = counts.queues.get(&**queue);
            states.and_then(|states| states.get(&State::Starting)).copied().unwrap_or(0)
        };
        if limits.paused || limits.max_in_flight.is_some_and(|max| starting() >= max as u64) {
            return Some(HELD);
        }
        let next = self.lock().rates.entry(queue.clone()).or_default().next(&limits.rate?);
        next.checked_sub(self.clock().elapsed()).filter(|wait| !wait.is_zero())
    }

    fn records(&self, own: &str) -> Vec<NodeRecord> {
        let now = self.clock().now();
        let record = |row: &Row| {
            let behind = now.saturating_since(row.heartbeat_at);
            NodeRecord {
                node: row.name.to_string(),
                address: format!("testing:{}", row.name),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                this: *row.name == *own,
                state: if behind < LEASE { NodeState::Alive } else { NodeState::Late },
                started_at: row.started_at,
                heartbeat_at: row.heartbeat_at,
                behind_us: now.micros_since(row.heartbeat_at),
                in_flight: row.in_flight as u64,
                queues: row.queues.as_ref().map(|queues| queues.iter().map(ToString::to_string).collect()),
            }
        };
        self.lock().rows.iter().map(record).collect()
    }
}

impl fmt::Debug for FleetOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.lock().rows.iter().map(|row| row.name.clone()).collect();
        f.debug_struct("FleetOf").field("nodes", &names).finish_non_exhaustive()
    }
}

/// The memory store answers at once.
fn now<T>(answer: crate::ports::StoreFuture<T>) -> Option<T> {
    futures_util::FutureExt::now_or_never(answer)?.ok()
}
