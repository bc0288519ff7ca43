//! Who may start next: lanes of due jobs, queues taken in turn, gates that count permits.
//!
//! A lane holds the first due jobs of one queue, starter and destination. A queue holds its lanes
//! that have jobs, in the order of their heads. A gate is a limit that several lanes share (a
//! destination's connections, a starter's resources); a lane that finds a gate shut waits at it, so
//! nothing is looked at again until a permit comes back. Every step costs O(log n) or less, but for a job
//! that comes out of its order: it moves at most half of those that its lane keeps.

mod held;
mod lanes;
mod permits;
mod ready;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use slab::Slab;

use super::{
    gate::Gate,
    limits::{Limits, RateState},
};
use crate::{
    job::{Header, JobId, Lane, QueueLimits},
    time::Timestamp,
};
use ready::Ready;

/// Due jobs kept in memory over all lanes; the rest of a long backlog stays in the store.
const READY_JOBS: usize = 65_536;
/// At least so many of one lane.
const LANE_MIN: usize = 16;
/// At most so many of one lane: two refills of this size hide the store's latency.
const LANE_MAX: usize = 2_048;
/// The place of a due job among its queue's: priority, then `next_at`, then insertion.
pub(super) type Rank = (Reverse<u8>, Timestamp, JobId);

pub(super) fn rank(header: &Header) -> Rank {
    (Reverse(header.priority), header.next_at, header.id)
}

/// A starter's part of the limits.
#[derive(Debug, Clone)]
pub(crate) struct StarterLimits {
    pub(crate) name: Arc<str>,
    pub(crate) max_per_destination: usize,
    pub(crate) max_starting: usize,
    pub(crate) max_running: Option<usize>,
}

pub(super) type LaneKey = usize;
type QueueKey = usize;
type GateKey = usize;

#[derive(Debug)]
struct LaneState {
    lane: Arc<Lane>,
    queue: QueueKey,
    /// The starter's gate, then the destination's.
    gates: [Option<GateKey>; 2],
    /// The first due jobs.
    ready: Ready,
    /// The store may hold due jobs of this lane that `ready` does not.
    truncated: bool,
    /// A refill is under way; `dropped` if a job was left out of `ready` since it began.
    refilling: bool,
    dropped: bool,
    /// Nothing was claimed since the last refill.
    fruitless: bool,
    /// In a fleet: the last refill helped nothing, so that another one waits for news.
    resting: bool,
    place: Place,
    /// The gate whose free permit this lane was called for, to be passed on if it is not used.
    called_by: Option<GateKey>,
    /// Claims under way and attempts in flight.
    claiming: usize,
    in_flight: usize,
}

/// Where a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It has nothing ready.
    Idle,
    /// Among its queue's heads, under this rank.
    Head(Rank),
    /// At a gate.
    Waiting,
}

#[derive(Debug)]
struct QueueState {
    name: Arc<str>,
    limits: QueueLimits,
    rate: RateState,
    in_flight: usize,
    heads: BTreeSet<(Rank, LaneKey)>,
    /// Its lanes that were called by a gate and have not been served yet.
    called: BTreeSet<LaneKey>,
    in_ring: bool,
    lanes: usize,
}

/// How an attempt left its starter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Load {
    /// It was never handed to it.
    None,
    /// Like any other.
    Normal,
    /// This machine had no resources for it.
    Pressure,
}

#[derive(Debug)]
pub(super) struct Board {
    max_in_flight: usize,
    configured: BTreeMap<Arc<str>, QueueLimits>,
    /// Whether other nodes take from the same lanes.
    shared: bool,
    /// The queues that this node serves; none: all.
    served: Option<BTreeSet<Arc<str>>>,
    /// Queues whose limits in the fleet are used up, and until when they rest.
    held: BTreeMap<Arc<str>, Duration>,
    /// Claims under way and attempts whose outcome is not stored yet.
    in_flight: usize,
    lanes: Slab<LaneState>,
    lane_keys: BTreeMap<Arc<Lane>, LaneKey>,
    /// The lane asked for last: jobs of one lane come in rows.
    last_lane: Option<(Arc<Lane>, LaneKey)>,
    queues: Slab<QueueState>,
    queue_keys: BTreeMap<Arc<str>, QueueKey>,
    gates: Slab<Gate>,
    starter_gates: BTreeMap<Arc<str>, (GateKey, usize)>,
    destination_gates: BTreeMap<(Arc<str>, Arc<str>), GateKey>,
    /// Queues that may be served, in turn.
    ring: VecDeque<QueueKey>,
    /// Queues that wait for their rate and gates that are shut for a time.
    rate_wakes: BTreeSet<(Duration, QueueKey)>,
    gate_wakes: BTreeSet<(Duration, GateKey)>,
    /// Lanes that run short.
    short: BTreeSet<LaneKey>,
    /// Gates at which claimed jobs are held, and those that need not be any longer.
    holding: BTreeSet<GateKey>,
    /// Held jobs whose places came back, until the dispatcher takes them.
    handed_over: Vec<JobId>,
    /// Jobs may be held: this scheduler is not stopping.
    holds: bool,
}

impl Board {
    pub(super) fn new(limits: Limits, starters: &[StarterLimits]) -> Self {
        let mut gates = Slab::new();
        let starter_gates = starters
            .iter()
            .map(|starter| {
                let key = gates.insert(Gate::new(starter.max_starting, starter.max_running, None));
                (starter.name.clone(), (key, starter.max_per_destination))
            })
            .collect();
        Self {
            max_in_flight: limits.max_in_flight,
            configured: limits.queues,
            shared: false,
            served: None,
            held: BTreeMap::new(),
            in_flight: 0,
            lanes: Slab::new(),
            lane_keys: BTreeMap::new(),
            last_lane: None,
            queues: Slab::new(),
            queue_keys: BTreeMap::new(),
            gates,
            starter_gates,
            destination_gates: BTreeMap::new(),
            ring: VecDeque::new(),
            rate_wakes: BTreeSet::new(),
            gate_wakes: BTreeSet::new(),
            short: BTreeSet::new(),
            holding: BTreeSet::new(),
            handed_over: Vec::new(),
            holds: true,
        }
    }

    /// From now on other nodes work on the same jobs, and this one serves these queues only.
    pub(super) fn share(&mut self, served: Option<BTreeSet<Arc<str>>>) {
        self.shared = true;
        self.served = served;
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether no lane has anything due.
    pub(super) fn is_blank(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether the lane's starter is one of this scheduler's, and its queue is served here.
    pub(super) fn knows(&self, lane: &Lane) -> bool {
        self.starter_gates.contains_key(&lane.starter) && self.serves(&lane.queue)
    }

    pub(super) fn serves(&self, queue: &str) -> bool {
        self.served.as_ref().is_none_or(|served| served.contains(queue))
    }

    /// Lanes that run short, with how many due jobs to ask the store for. Each is then refilling.
    pub(super) fn take_short(&mut self) -> Vec<(Arc<Lane>, usize)> {
        let short = std::mem::take(&mut self.short);
        let cap = self.lane_cap();
        short
            .into_iter()
            .map(|key| {
                let lane = &mut self.lanes[key];
                lane.refilling = true;
                lane.dropped = false;
                // The store still shows what is being claimed.
                (lane.lane.clone(), cap + lane.claiming)
            })
            .collect()
    }

    fn lane_cap(&self) -> usize {
        (READY_JOBS / self.lanes.len().max(1)).clamp(LANE_MIN, LANE_MAX)
    }

    /// The store may hold due jobs of this lane that were never shown here.
    pub(super) fn mark_truncated(&mut self, lane: &Arc<Lane>) {
        let key = self.lane_key(lane);
        let lane = &mut self.lanes[key];
        lane.truncated = true;
        // A refill under way does not show them either: another one is needed.
        lane.dropped = lane.refilling;
        lane.resting = false;
        // In a fleet this comes again and again: a lane that has some jobs is refilled as they go.
        if !self.shared || lane.ready.len() < LANE_MIN {
            self.check_short(key);
        }
    }

    /// A due job.
    pub(super) fn push(&mut self, header: &Header) {
        let key = self.lane_key(&header.lane);
        let cap = self.lane_cap();
        let rank = rank(header);
        let lane = &mut self.lanes[key];
        lane.resting = false;
        // In a lane whose tail is only in the store, a job behind the tail stays there as well.
        // While a refill is under way its snapshot may be older than this job: keep it.
        if lane.truncated && !lane.refilling && lane.ready.last().is_none_or(|last| rank > *last) {
            self.check_short(key);
            return;
        }
        lane.ready.insert(rank);
        if lane.ready.len() > cap {
            lane.ready.pop_last();
            lane.truncated = true;
            lane.dropped = true;
        }
        self.update_head(key);
    }

    /// The answer to a refill: the lane's first due jobs, without those that are taken already;
    /// `complete` if the store had no more.
    pub(super) fn refilled(&mut self, lane: &Arc<Lane>, ranks: Vec<Rank>, complete: bool) {
        let key = self.lane_key(lane);
        let lane = &mut self.lanes[key];
        lane.refilling = false;
        lane.truncated = !complete || lane.dropped;
        // Others may have taken them all, or they may be in flight here still.
        lane.resting = self.shared && !lane.dropped && (lane.fruitless || ranks.is_empty());
        lane.fruitless = true;
        ranks.into_iter().for_each(|rank| lane.ready.insert(rank));
        self.update_head(key);
        self.check_short(key);
        self.collect(key);
    }

    /// A refill failed: it may be asked for again.
    pub(super) fn refill_failed(&mut self, lane: &Arc<Lane>) {
        let key = self.lane_key(lane);
        self.lanes[key].refilling = false;
        self.check_short(key);
    }

    /// The next job to claim, its permits taken.
    pub(super) fn pick(&mut self, now: Duration) -> Option<(LaneKey, Rank)> {
        while self.in_flight < self.max_in_flight + usize::from(mutated!(OneInFlightTooMany)) {
            let queue_key = self.ring.pop_front()?;
            self.queues[queue_key].in_ring = false;
            if !self.queue_may_start(queue_key, now) {
                self.pass_calls_on(queue_key, now);
                continue;
            }
            let Some(&(rank, lane_key)) = self.queues[queue_key].heads.first() else {
                self.collect_queue(queue_key);
                continue;
            };
            if let Some(gate) = self.shut_gate(lane_key, now) {
                self.wait_at(gate, lane_key, now);
                self.enter_ring(queue_key);
                continue;
            }
            self.take_permits(lane_key, now);
            let lane = &mut self.lanes[lane_key];
            lane.called_by = None;
            lane.claiming += 1;
            lane.ready.remove(&rank);
            self.queues[queue_key].called.remove(&lane_key);
            self.update_head(lane_key);
            self.check_short(lane_key);
            self.enter_ring(queue_key);
            return Some((lane_key, rank));
        }
        None
    }

    /// Takes the permits for a job that must start with nothing else in flight: whatever limits say.
    pub(super) fn take_alone(&mut self, lane: &Arc<Lane>, now: Duration) -> LaneKey {
        let key = self.lane_key(lane);
        self.take_permits(key, now);
        self.lanes[key].claiming += 1;
        key
    }

    /// Takes the permits for a job that is due as it is submitted, if it has them and nothing of
    /// its queue waits before it; it is then in flight.
    pub(super) fn admit(&mut self, lane: &Arc<Lane>, now: Duration) -> bool {
        if self.in_flight >= self.max_in_flight {
            return false;
        }
        let key = self.lane_key(lane);
        let state = &self.lanes[key];
        let queue = state.queue;
        let waits = state.place != Place::Idle || state.truncated || !self.queues[queue].heads.is_empty();
        if waits || self.is_crowded(key, now) || !self.queue_may_start(queue, now) {
            self.collect(key);
            return false;
        }
        self.take_permits(key, now);
        self.lanes[key].in_flight += 1;
        true
    }

    /// A claim went through: the job is in flight.
    pub(super) fn claimed(&mut self, key: LaneKey) {
        let lane = &mut self.lanes[key];
        lane.claiming -= 1;
        lane.in_flight += 1;
        lane.fruitless = false;
        if std::mem::take(&mut lane.resting) {
            self.check_short(key);
        }
    }

    /// A claim was lost or failed, or an admitted job was not inserted: all its permits come back.
    pub(super) fn withdrawn(&mut self, key: LaneKey, was_claiming: bool, now: Duration) {
        let lane = &mut self.lanes[key];
        if was_claiming {
            lane.claiming -= 1;
            lane.in_flight += 1;
        }
        let starter = self.lanes[key].gates[0];
        self.give_rate_back(key);
        self.attempt_over(key, Load::None, now);
        if let Some(starter) = starter {
            self.run_ended_at(starter, false, now);
        }
        self.settled();
    }

    /// An attempt has ended: its queue, starter and destination may start another.
    pub(super) fn attempt_over(&mut self, key: LaneKey, load: Load, now: Duration) {
        let lane = &mut self.lanes[key];
        lane.in_flight -= 1;
        let (queue, gates) = (lane.queue, lane.gates);
        self.queues[queue].in_flight -= 1;
        self.enter_ring(queue);
        for (place, gate_key) in gates.into_iter().enumerate() {
            let Some(gate_key) = gate_key else { continue };
            let gate = &mut self.gates[gate_key];
            gate.attempt_over(load != Load::None);
            // A limit that grew has room for one more than came back.
            let mut calls = 1;
            if place == 0 {
                match load {
                    Load::Pressure => {
                        let opens = gate.shrink(now);
                        self.gate_wakes.extend(opens.map(|at| (at, gate_key)));
                    }
                    Load::None | Load::Normal => {
                        gate.relax();
                        calls = 2;
                    }
                }
            }
            self.let_go(gate_key, now);
            for _ in 0..calls {
                self.call(gate_key, now);
            }
        }
        self.collect(key);
    }

    /// The outcome of an attempt is stored.
    pub(super) fn settled(&mut self) {
        self.in_flight -= 1;
    }

    /// A started thing has ended, or one that was never `handed_over` to its starter will not be.
    pub(super) fn run_ended(&mut self, starter: &str, handed_over: bool, now: Duration) {
        if let Some(&(gate, _)) = self.starter_gates.get(starter) {
            self.run_ended_at(gate, handed_over, now);
        }
    }

    fn run_ended_at(&mut self, gate_key: GateKey, handed_over: bool, now: Duration) {
        if self.gates[gate_key].run_over(handed_over) {
            self.let_go(gate_key, now);
            self.call(gate_key, now);
        }
    }

    /// Changes how many may be in flight in all; with fewer, those that are end first.
    pub(super) fn set_max_in_flight(&mut self, starts: usize) {
        self.max_in_flight = starts;
    }

    /// Changes the limits of one queue.
    pub(super) fn set_queue_limits(&mut self, name: &Arc<str>, limits: QueueLimits, now: Duration) {
        if limits == QueueLimits::default() {
            self.configured.remove(name);
        } else {
            self.configured.insert(name.clone(), limits);
        }
        if let Some(&key) = self.queue_keys.get(name) {
            let queue = &mut self.queues[key];
            queue.limits = limits;
            if let Some(rate) = &limits.rate {
                queue.rate.adopt(rate, now);
            }
            self.enter_ring(key);
            self.collect_queue(key);
        }
    }

    /// Whether the lane's starter pauses because this machine ran out of resources for it.
    pub(super) fn is_resting(&self, lane: &Lane, now: Duration) -> bool {
        self.starter_gates.get(&lane.starter).is_some_and(|(gate, _)| now < self.gates[*gate].shut_until)
    }

    /// Whether nothing of this queue may start because it is paused.
    pub(super) fn is_paused(&self, queue: &str) -> bool {
        self.configured.get(queue).is_some_and(|limits| limits.paused)
    }

    /// Whether the queue has any limits.
    pub(super) fn is_limited(&self, queue: &str) -> bool {
        self.configured.get(queue).is_some_and(|limits| *limits != QueueLimits::default())
    }

    /// The queue's limits in the fleet are used up: it takes no turn until then.
    pub(super) fn hold(&mut self, queue: &Arc<str>, until: Duration) {
        self.held.insert(queue.clone(), until);
    }

    pub(super) fn is_held(&self, queue: &str, now: Duration) -> bool {
        self.held.get(queue).is_some_and(|until| now < *until)
    }

    /// An attempt of this queue is over in the store as well: if the queue was full in the fleet,
    /// there is a place again. (One that was held for its rate alone has to wait all the same.)
    pub(super) fn unhold(&mut self, queue: &str) {
        if self.held.is_empty() {
            return;
        }
        let full = self.configured.get(queue).is_some_and(|limits| limits.max_in_flight.is_some());
        if full && self.held.remove(queue).is_some() {
            self.queue_keys.get(queue).copied().into_iter().for_each(|key| self.enter_ring(key));
        }
    }

    /// Lets in whom time has made ready, and says when to look again.
    pub(super) fn tick(&mut self, now: Duration) {
        let over: Vec<_> =
            self.held.iter().filter(|(_, until)| **until <= now).map(|(queue, _)| queue.clone()).collect();
        for queue in over {
            self.held.remove(&queue);
            self.queue_keys.get(&queue).copied().into_iter().for_each(|key| self.enter_ring(key));
        }
        while let Some(&(at, queue)) = self.rate_wakes.first().filter(|(at, _)| *at <= now) {
            self.rate_wakes.remove(&(at, queue));
            if self.queues.contains(queue) {
                self.enter_ring(queue);
            }
        }
        while let Some(&(at, gate)) = self.gate_wakes.first().filter(|(at, _)| *at <= now) {
            self.gate_wakes.remove(&(at, gate));
            self.let_go(gate, now);
            self.call_all(gate, now);
        }
    }

    /// When [`Board::tick`] has something to do next.
    pub(super) fn next_wake(&self) -> Option<Duration> {
        let rate = self.rate_wakes.first().map(|(at, _)| *at);
        let gate = self.gate_wakes.first().map(|(at, _)| *at);
        let overdue = self.next_overdue();
        rate.into_iter().chain(gate).chain(overdue).chain(self.held.values().copied()).min()
    }

    /// Brings the lane's place among its queue's heads up to date with its first ready job.
    fn update_head(&mut self, key: LaneKey) {
        let lane = &mut self.lanes[key];
        if lane.place == Place::Waiting {
            return;
        }
        let place = lane.ready.first().map_or(Place::Idle, |rank| Place::Head(*rank));
        if place == lane.place {
            return;
        }
        let queue_key = lane.queue;
        let queue = &mut self.queues[queue_key];
        if let Place::Head(rank) = std::mem::replace(&mut lane.place, place) {
            queue.heads.remove(&(rank, key));
        }
        if let Place::Head(rank) = place {
            queue.heads.insert((rank, key));
            self.enter_ring(queue_key);
        }
    }

    fn enter_ring(&mut self, key: QueueKey) {
        let queue = &mut self.queues[key];
        if !queue.in_ring && !queue.heads.is_empty() {
            queue.in_ring = true;
            self.ring.push_back(key);
        }
    }

    fn check_short(&mut self, key: LaneKey) {
        let low = self.lane_cap() / 2;
        let lane = &self.lanes[key];
        if lane.truncated && !lane.refilling && !lane.resting && lane.ready.len() < low {
            self.short.insert(key);
        }
    }
}
