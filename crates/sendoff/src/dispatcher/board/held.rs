//! Claims that are ahead of their places.
//!
//! While a claim is on its way to the store the places at its gate become free and stand empty. So a
//! gate lets as many jobs more be claimed as places came back during the last claim: they are held
//! here, claimed, and are handed to their starter as places come back. (The same that a window of unacknowledged segments does for a connection: as much is under
//! way as the line carries in one round trip.) Where starts take long, nothing comes back during a
//! claim and nothing is held; where they suddenly do, those that are held are given back.

use std::time::Duration;

use super::{Board, GateKey, LaneKey};
use crate::{dispatcher::gate::Held, job::JobId};

/// A claimed job is held so long at most: a caller cannot cancel it, and other nodes cannot start it.
const HELD_MAX: Duration = Duration::from_millis(100);

impl Board {
    /// A claim for a job of this lane is sent.
    pub(in crate::dispatcher) fn asked(&mut self, key: LaneKey, id: JobId) {
        for gate in self.lanes[key].gates.into_iter().flatten() {
            self.gates[gate].asked(id);
        }
    }

    /// The claim for this job was answered: if there may be more of them now, more lanes are called.
    pub(in crate::dispatcher) fn answered(&mut self, key: LaneKey, id: JobId, now: Duration) {
        for gate in self.lanes[key].gates.into_iter().flatten() {
            if self.gates[gate].answered(id) {
                self.call_all(gate, now);
            }
        }
    }

    /// Whether a claimed job may be handed to its starter, which then counts it; else it is held.
    pub(in crate::dispatcher) fn hand_over_or_hold(
        &mut self,
        key: LaneKey,
        id: JobId,
        now: Duration,
    ) -> bool {
        let waits = |gate: &GateKey| self.gates[*gate].places(now) == 0 || !self.gates[*gate].held.is_empty();
        let full = self.lanes[key].gates.into_iter().flatten().find(waits);
        if let Some(gate) = full.filter(|_| self.holds && !mutated!(HandedOverWithoutAPlace)) {
            self.hold_at(gate, Held { id, lane: key, since: now });
            return false;
        }
        self.hand_over(key);
        true
    }

    /// Held jobs that are to be handed to their starter now.
    pub(in crate::dispatcher) fn take_handed_over(&mut self) -> Vec<JobId> {
        std::mem::take(&mut self.handed_over)
    }

    /// From now on whatever is handed over is given back: all are, whatever limits say.
    pub(in crate::dispatcher) fn stop_holding(&mut self) {
        self.holds = false;
        for gate in std::mem::take(&mut self.holding) {
            for held in std::mem::take(&mut self.gates[gate].held) {
                self.hand_over(held.lane);
                self.handed_over.push(held.id);
            }
        }
    }

    /// Jobs that were held for too long, to be given back.
    pub(in crate::dispatcher) fn take_overdue(&mut self, now: Duration) -> Vec<JobId> {
        let mut overdue = Vec::new();
        let gates = &mut self.gates;
        self.holding.retain(|gate| {
            let gate = &mut gates[*gate];
            while let Some(held) = gate.held.pop_front_if(|held| held.since + HELD_MAX <= now) {
                gate.fall_back();
                overdue.push(held);
            }
            !gate.held.is_empty()
        });
        overdue.iter().for_each(|held| self.give_rate_back(held.lane));
        if mutated!(HeldForgotten) {
            overdue.clear();
        }
        overdue.into_iter().map(|held| held.id).collect()
    }

    /// When [`Board::take_overdue`] has something next.
    pub(super) fn next_overdue(&self) -> Option<Duration> {
        self.holding
            .iter()
            .filter_map(|gate| self.gates[*gate].held.front())
            .map(|held| held.since + HELD_MAX)
            .min()
    }

    /// Hands over what is held for places that have come back.
    pub(super) fn let_go(&mut self, gate_key: GateKey, now: Duration) {
        while self.gates[gate_key].places(now) > 0
            && let Some(held) = self.gates[gate_key].held.pop_front()
        {
            let gates = self.lanes[held.lane].gates;
            match gates.into_iter().flatten().find(|gate| self.gates[*gate].places(now) == 0) {
                Some(other) => self.hold_at(other, held),
                None => {
                    self.hand_over(held.lane);
                    self.handed_over.push(held.id);
                }
            }
        }
        if self.gates[gate_key].held.is_empty() {
            self.holding.remove(&gate_key);
        }
    }

    fn hold_at(&mut self, gate: GateKey, held: Held) {
        self.gates[gate].held.push_back(held);
        self.holding.insert(gate);
    }

    fn hand_over(&mut self, key: LaneKey) {
        for gate in self.lanes[key].gates.into_iter().flatten() {
            self.gates[gate].hand_over();
        }
    }
}
