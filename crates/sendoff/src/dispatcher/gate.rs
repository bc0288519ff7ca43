//! A limit that several lanes share.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::board::LaneKey;
use crate::job::JobId;

/// The first pause after this machine ran out of resources, doubled each time in a row.
const PRESSURE_PAUSE: Duration = Duration::from_millis(10);
/// The longest such pause.
const PRESSURE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Claims ahead of their places at one gate, at most: a crash leaves so many more in doubt.
const AHEAD_MAX: usize = 1_024;

/// A destination's connections, or a starter's resources.
#[derive(Debug)]
pub(super) struct Gate {
    /// The starter and destination, if it is a destination's; such a gate goes with its last lane.
    pub(super) destination: Option<(Arc<str>, Arc<str>)>,
    pub(super) lanes: usize,
    /// Jobs that hold a permit: they are being claimed, are held, or their attempts are under way.
    pub(super) in_flight: usize,
    /// Attempts of them that were handed to their starter.
    starting: usize,
    /// Shrinks under pressure, grows back one by one.
    limit: usize,
    max: usize,
    /// Jobs that hold a permit to run, and how many of them were handed to their starter.
    running: usize,
    alive: usize,
    max_running: Option<usize>,
    /// Claims beyond the limits: as many as places came back while a claim was on its way.
    ahead: usize,
    /// The claim whose way is measured, and how many places had come back when it was sent.
    measured: Option<(JobId, u64)>,
    returned: u64,
    /// Claimed jobs that wait here for a place, the first first.
    pub(super) held: VecDeque<Held>,
    pub(super) shut_until: Duration,
    /// How often in a row there was none left.
    pressure: u32,
    pub(super) waiting: VecDeque<LaneKey>,
}

/// A job that is claimed and waits for a place at a gate.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: JobId,
    pub(super) lane: LaneKey,
    pub(super) since: Duration,
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
            starting: 0,
            limit: max,
            max,
            running: 0,
            alive: 0,
            max_running,
            ahead: 0,
            measured: None,
            returned: 0,
            held: VecDeque::new(),
            shut_until: Duration::ZERO,
            pressure: 0,
            waiting: VecDeque::new(),
        }
    }

    /// How many more may be claimed.
    pub(super) fn free(&self, now: Duration) -> usize {
        self.room(self.in_flight, self.running, self.ahead, now)
    }

    /// Whether all places are taken, by claims too.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.room(self.in_flight, self.running, 0, now) == 0
    }

    /// How many more may be handed to their starter.
    pub(super) fn places(&self, now: Duration) -> usize {
        self.room(self.starting, self.alive, 0, now)
    }

    fn room(&self, starting: usize, running: usize, ahead: usize, now: Duration) -> usize {
        if now < self.shut_until {
            return 0;
        }
        let many = ahead + usize::from(mutated!(OneToADestinationTooMany) && self.destination.is_some());
        let left = |limit: usize, taken: usize| limit.saturating_add(many).saturating_sub(taken);
        left(self.limit, starting).min(self.max_running.map_or(usize::MAX, |max| left(max, running)))
    }

    /// A job takes its permits.
    pub(super) fn take(&mut self) {
        self.in_flight += 1;
        self.running += usize::from(self.max_running.is_some());
    }

    /// A job that holds its permits is handed to its starter.
    pub(super) fn hand_over(&mut self) {
        self.starting += 1;
        self.alive += usize::from(self.max_running.is_some());
    }

    /// The attempt is over, or the job was never `handed_over`.
    pub(super) fn attempt_over(&mut self, handed_over: bool) {
        self.in_flight -= 1;
        if handed_over {
            self.starting -= 1;
            self.returned += u64::from(self.max_running.is_none());
        }
    }

    /// What was started has ended, or the job was never `handed_over`; if that is limited.
    pub(super) fn run_over(&mut self, handed_over: bool) -> bool {
        if self.max_running.is_none() {
            return false;
        }
        self.running -= 1;
        if handed_over {
            self.alive -= 1;
            self.returned += 1;
        }
        true
    }

    /// A claim for a job behind this gate is sent.
    pub(super) fn asked(&mut self, id: JobId) {
        self.measured.get_or_insert((id, self.returned));
    }

    /// The answer to it. So many places as came back meanwhile would have stood empty. Whether more may
    /// be claimed now than before.
    pub(super) fn answered(&mut self, id: JobId) -> bool {
        let Some((_, before)) = self.measured.take_if(|(measured, _)| *measured == id) else { return false };
        let places =
            usize::try_from(self.returned - before).map_or(AHEAD_MAX, |places| places.min(AHEAD_MAX));
        std::mem::replace(&mut self.ahead, places) < places
    }

    /// Nothing is claimed beyond the limits until a claim has been measured again.
    pub(super) fn fall_back(&mut self) {
        self.ahead = 0;
    }

    /// An attempt has ended well enough: what had shrunk grows back by one.
    pub(super) fn relax(&mut self) {
        self.pressure = 0;
        if self.limit < self.max {
            self.limit += 1;
        }
    }

    /// This machine had no resources for the attempt that is over now: half of those that its starter
    /// had then at a time from now on, and none for a while. When the gate opens again, if it was shut
    /// just now.
    pub(super) fn shrink(&mut self, now: Duration) -> Option<Duration> {
        self.limit = self.starting.div_ceil(2).max(1);
        self.ahead = 0;
        if now < self.shut_until {
            return None;
        }
        let pause = PRESSURE_PAUSE * 2_u32.saturating_pow(self.pressure);
        self.pressure = (self.pressure + 1).min(16);
        self.shut_until = now + pause.min(PRESSURE_PAUSE_MAX);
        Some(self.shut_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_pressure_half_of_those_that_were_with_the_starter_are_let_in_whatever_is_claimed() {
        let mut gate = Gate::new(4, None, None);
        (0..30).for_each(|_| gate.take());
        (0..4).for_each(|_| gate.hand_over());
        gate.attempt_over(true);
        let opens = gate.shrink(Duration::ZERO).expect("it was open");
        assert_eq!((gate.places(Duration::ZERO), gate.places(opens)), (0, 0), "three are with it");
        gate.attempt_over(true);
        gate.attempt_over(true);
        assert_eq!(gate.places(opens), 1);
        (0..9).for_each(|_| gate.relax());
        assert_eq!(gate.places(opens), 3, "four again, and one is with it");
    }
}
