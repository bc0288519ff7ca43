//! A limit that several lanes share.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::board::LaneKey;

/// The first pause after this machine ran out of resources, doubled each time in a row.
const PRESSURE_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const PRESSURE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A destination's connections, or a starter's resources.
#[derive(Debug)]
pub(super) struct Gate {
    /// The starter and destination, if it is a destination's; such a gate goes with its last lane.
    pub(super) destination: Option<(Arc<str>, Arc<str>)>,
    pub(super) lanes: usize,
    pub(super) in_flight: usize,
    /// Shrinks under pressure, grows back one by one.
    limit: usize,
    max: usize,
    pub(super) running: usize,
    pub(super) max_running: Option<usize>,
    pub(super) shut_until: Duration,
    /// How often in a row there was none left.
    pressure: u32,
    pub(super) waiting: VecDeque<LaneKey>,
}

impl Gate {
    pub(super) fn new(
        max: usize,
        max_running: Option<usize>,
        destination: Option<(Arc<str>, Arc<str>)>,
    ) -> Self {
        Self {
            destination,
            lanes: 0,
            in_flight: 0,
            limit: max,
            max,
            running: 0,
            max_running,
            shut_until: Duration::ZERO,
            pressure: 0,
            waiting: VecDeque::new(),
        }
    }

    /// How many more may start.
    pub(super) fn free(&self, now: Duration) -> usize {
        if now < self.shut_until {
            return 0;
        }
        let running = self.max_running.map_or(usize::MAX, |max| max.saturating_sub(self.running));
        let many = usize::from(mutated!(OneToADestinationTooMany) && self.destination.is_some());
        self.limit.saturating_add(many).saturating_sub(self.in_flight).min(running)
    }

    /// An attempt has ended well enough: what had shrunk grows back by one.
    pub(super) fn relax(&mut self) {
        self.pressure = 0;
        if self.limit < self.max {
            self.limit += 1;
        }
    }

    /// This machine had no resources for an attempt, with `in_flight` under way: half of them at a
    /// time from now on, and none for a while. When the gate opens again, if it was shut just now.
    pub(super) fn shrink(&mut self, in_flight: usize, now: Duration) -> Option<Duration> {
        self.limit = (in_flight / 2).max(1);
        if now < self.shut_until {
            return None;
        }
        let pause = PRESSURE_PAUSE * 2_u32.saturating_pow(self.pressure);
        self.pressure = (self.pressure + 1).min(16);
        self.shut_until = now + pause.min(PRESSURE_PAUSE_MAX);
        Some(self.shut_until)
    }
}
