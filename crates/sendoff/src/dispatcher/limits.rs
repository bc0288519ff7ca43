//! Limits, and the arithmetic of rates.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::job::{QueueLimits, Rate};

/// How many starts of which kind at once. All limits are of this node.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Starts in flight in all.
    pub(crate) max_in_flight: usize,
    /// Limits of single queues; a queue that is not named has none.
    pub(crate) queues: BTreeMap<Arc<str>, QueueLimits>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_in_flight: 1024, queues: BTreeMap::new() }
    }
}

/// A rate's state: the generic cell rate algorithm (ITU-T I.371), which needs one instant per
/// queue. Times are those of [`Clock::elapsed`](crate::time::Clock::elapsed).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RateState {
    theoretical_arrival: Duration,
}

impl RateState {
    /// When the next start may begin; in the past if it may begin now.
    pub(crate) fn next(&self, rate: &Rate) -> Duration {
        let tolerance = interval(rate).saturating_mul(rate.burst.saturating_sub(1));
        self.theoretical_arrival.saturating_sub(tolerance)
    }

    /// Counts a start at `now`.
    pub(crate) fn take(&mut self, rate: &Rate, now: Duration) {
        self.theoretical_arrival = self.theoretical_arrival.max(now).saturating_add(interval(rate));
    }

    /// Goes on under a changed rate: waits no longer than after a burst of that one.
    pub(super) fn adopt(&mut self, rate: &Rate, now: Duration) {
        let longest = now.saturating_add(interval(rate).saturating_mul(rate.burst));
        self.theoretical_arrival = self.theoretical_arrival.min(longest);
    }

    /// Takes back a start that was counted and did not come about.
    pub(super) fn give_back(&mut self, rate: &Rate) {
        self.theoretical_arrival = self.theoretical_arrival.saturating_sub(interval(rate));
    }
}

fn interval(rate: &Rate) -> Duration {
    rate.per.duration() / rate.starts.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_a_burst_pass_and_then_its_pace() {
        let rate = Rate { starts: 10, per: Duration::from_secs(1).into(), burst: 3 };
        let mut state = RateState::default();
        let mut passed = Vec::new();
        for millis in (5_000..6_000).step_by(10) {
            let now = Duration::from_millis(millis);
            while state.next(&rate) <= now {
                state.take(&rate, now);
                passed.push(millis);
            }
        }
        assert_eq!(passed[..5], [5_000, 5_000, 5_000, 5_100, 5_200]);
        assert_eq!(passed.len(), 12);
    }
}
