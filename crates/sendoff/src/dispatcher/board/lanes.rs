//! Which lanes, queues and destinations are known: those that have something to do, and no others.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    super::{gate::Gate, limits::RateState},
    Board, GateKey, LaneKey, LaneState, Place, QueueKey, QueueState, Ready,
};
use crate::job::{Lane, QueueLimits};

impl Board {
    pub(in crate::dispatcher) fn lane_key(&mut self, lane: &Arc<Lane>) -> LaneKey {
        if let Some((last, key)) = &self.last_lane
            && Arc::ptr_eq(last, lane)
        {
            return *key;
        }
        let key = self.lane_keys.get(lane).copied();
        let key = key.unwrap_or_else(|| self.new_lane(lane));
        self.last_lane = Some((lane.clone(), key));
        key
    }

    fn new_lane(&mut self, lane: &Arc<Lane>) -> LaneKey {
        let queue = self.queue_key(&lane.queue);
        self.queues[queue].lanes += 1;
        let (starter, per_destination) = self
            .starter_gates
            .get(&lane.starter)
            .map_or((None, usize::MAX), |(gate, max)| (Some(*gate), *max));
        let destination = lane
            .destination
            .as_ref()
            .filter(|_| per_destination != usize::MAX)
            .map(|destination| self.destination_gate(&lane.starter, destination, per_destination));
        if let Some(gate) = destination {
            self.gates[gate].lanes += 1;
        }
        let key = self.lanes.insert(LaneState {
            lane: lane.clone(),
            queue,
            gates: [starter, destination],
            ready: Ready::default(),
            truncated: false,
            refilling: false,
            dropped: false,
            fruitless: false,
            resting: false,
            place: Place::Idle,
            called_by: None,
            claiming: 0,
            in_flight: 0,
        });
        self.lane_keys.insert(lane.clone(), key);
        key
    }

    pub(in crate::dispatcher) fn lane(&self, key: LaneKey) -> &Arc<Lane> {
        &self.lanes[key].lane
    }

    fn queue_key(&mut self, name: &Arc<str>) -> QueueKey {
        if let Some(&key) = self.queue_keys.get(name) {
            return key;
        }
        let key = self.queues.insert(QueueState {
            name: name.clone(),
            limits: self.configured.get(name).copied().unwrap_or_default(),
            rate: RateState::default(),
            in_flight: 0,
            heads: BTreeSet::new(),
            called: BTreeSet::new(),
            in_ring: false,
            lanes: 0,
        });
        self.queue_keys.insert(name.clone(), key);
        key
    }

    fn destination_gate(&mut self, starter: &Arc<str>, destination: &Arc<str>, max: usize) -> GateKey {
        let name = (starter.clone(), destination.clone());
        if let Some(&key) = self.destination_gates.get(&name) {
            return key;
        }
        let key = self.gates.insert(Gate::new(max, None, Some(name.clone())));
        self.destination_gates.insert(name, key);
        key
    }

    /// Forgets a lane without jobs, and its queue with its last lane.
    pub(super) fn collect(&mut self, key: LaneKey) {
        let lane = &self.lanes[key];
        let idle = lane.place == Place::Idle && lane.claiming == 0 && lane.in_flight == 0;
        if !idle || lane.truncated || lane.refilling {
            return;
        }
        self.short.remove(&key);
        let lane = self.lanes.remove(key);
        self.lane_keys.remove(&lane.lane);
        self.last_lane.take_if(|(_, last)| *last == key);
        if let Some(gate_key) = lane.gates[1] {
            let gate = &mut self.gates[gate_key];
            gate.lanes -= 1;
            if gate.lanes == 0 {
                let gate = self.gates.remove(gate_key);
                gate.destination.map(|name| self.destination_gates.remove(&name));
            }
        }
        let queue = &mut self.queues[lane.queue];
        queue.called.remove(&key);
        queue.lanes -= 1;
        self.collect_queue(lane.queue);
    }

    /// Forgets a queue without lanes. One with limits is kept: its rate must not be forgotten with
    /// its last job.
    pub(super) fn collect_queue(&mut self, key: QueueKey) {
        let queue = &self.queues[key];
        if queue.lanes == 0 && !queue.in_ring && queue.limits == QueueLimits::default() {
            let queue = self.queues.remove(key);
            self.queue_keys.remove(&queue.name);
        }
    }
}
