//! Permits: who may have them, and who is called when some come back.

use std::time::Duration;

use super::{Board, GateKey, LaneKey, LaneState, Place, QueueKey};

impl Board {
    /// Whether the queue's own limits allow a start now; if only its rate does not, it is woken.
    pub(super) fn queue_may_start(&mut self, key: QueueKey, now: Duration) -> bool {
        let queue = &self.queues[key];
        if queue.limits.paused
            || queue.limits.max_in_flight.is_some_and(|max| queue.in_flight >= max)
                && !mutated!(QueueLimitIgnored)
        {
            return false;
        }
        if !self.held.is_empty() && self.is_held(&queue.name, now) {
            return false;
        }
        if let Some(rate) = &queue.limits.rate {
            let next = queue.rate.next(rate);
            if next > now {
                self.rate_wakes.insert((next, key));
                return false;
            }
        }
        true
    }

    pub(super) fn shut_gate(&self, lane: LaneKey, now: Duration) -> Option<GateKey> {
        self.lanes[lane].gates.iter().flatten().copied().find(|gate| self.gates[*gate].free(now) == 0)
    }

    /// Whether a gate of the lane has no place for one more claim, or somebody waits there.
    pub(super) fn is_crowded(&self, lane: LaneKey, now: Duration) -> bool {
        let mut gates = self.lanes[lane].gates.iter().flatten().map(|gate| &self.gates[*gate]);
        gates.any(|gate| gate.is_full(now) || !gate.waiting.is_empty())
    }

    pub(super) fn take_permits(&mut self, lane: LaneKey, now: Duration) {
        self.in_flight += 1;
        let LaneState { queue, gates, .. } = self.lanes[lane];
        let queue = &mut self.queues[queue];
        queue.in_flight += 1;
        if let Some(rate) = &queue.limits.rate {
            queue.rate.take(rate, now);
        }
        for gate in gates.into_iter().flatten() {
            self.gates[gate].take();
        }
    }

    /// A start of this lane that its queue's rate has counted does not take place.
    pub(super) fn give_rate_back(&mut self, lane: LaneKey) {
        let queue = &mut self.queues[self.lanes[lane].queue];
        if let Some(rate) = &queue.limits.rate {
            queue.rate.give_back(rate);
        }
    }

    /// Takes the lane out of its queue's heads until the gate has a permit for it.
    pub(super) fn wait_at(&mut self, gate: GateKey, lane_key: LaneKey, now: Duration) {
        let lane = &mut self.lanes[lane_key];
        if let Place::Head(rank) = std::mem::replace(&mut lane.place, Place::Waiting) {
            self.queues[lane.queue].heads.remove(&(rank, lane_key));
        }
        self.gates[gate].waiting.push_back(lane_key);
        self.pass_call_on(lane_key, now);
    }

    /// A gate may have a free permit: the lane that has waited longest may try.
    pub(super) fn call(&mut self, gate_key: GateKey, now: Duration) {
        while self.gates[gate_key].free(now) > 0 {
            let Some(lane_key) = self.gates[gate_key].waiting.pop_front() else { return };
            let lane = &mut self.lanes[lane_key];
            let queue = lane.queue;
            lane.place = Place::Idle;
            lane.called_by = Some(gate_key);
            self.queues[queue].called.insert(lane_key);
            self.update_head(lane_key);
            let head = matches!(self.lanes[lane_key].place, Place::Head(_));
            if head && self.queue_may_start(queue, now) {
                return;
            }
            // Its queue cannot use the permit now; it keeps its place there, and the next one is called.
            self.queues[queue].called.remove(&lane_key);
            self.lanes[lane_key].called_by = None;
        }
    }

    /// A gate has several free permits.
    pub(super) fn call_all(&mut self, gate_key: GateKey, now: Duration) {
        let gate = &self.gates[gate_key];
        for _ in 0..gate.free(now).min(gate.waiting.len()) {
            self.call(gate_key, now);
        }
    }

    /// The lane does not use the permit that it was called for: somebody else may.
    pub(super) fn pass_call_on(&mut self, lane_key: LaneKey, now: Duration) {
        let queue = self.lanes[lane_key].queue;
        self.queues[queue].called.remove(&lane_key);
        if let Some(gate) = self.lanes[lane_key].called_by.take() {
            self.call(gate, now);
        }
    }

    pub(super) fn pass_calls_on(&mut self, queue: QueueKey, now: Duration) {
        while let Some(&lane) = self.queues[queue].called.first() {
            self.pass_call_on(lane, now);
        }
    }
}
