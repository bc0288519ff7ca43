//! What one run of one side gives: how much in how long, for how much CPU time and memory.

use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// One run of one side, as its process tells it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Jobs a second.
    pub(super) rate: Option<f64>,
    /// Microseconds of this process's CPU time for each job.
    pub(super) cpu_us: Option<f64>,
    /// Resident bytes for each pending job.
    pub(super) bytes: Option<f64>,
    pub(super) times: Option<Times>,
    /// More figures, by name.
    #[serde(default)]
    pub(super) more: Vec<(String, f64)>,
}

impl Sample {
    pub(super) fn with_times(self, times: Times) -> Self {
        Self { times: Some(times), ..self }
    }
}

/// Measures from its beginning to its end.
pub(super) struct Meter {
    wall: Duration,
    cpu: Duration,
}

impl Meter {
    pub(super) fn start() -> Self {
        Self { wall: clock(ClockId::Monotonic), cpu: clock(ClockId::ProcessCPUTime) }
    }

    /// So many jobs are done.
    pub(super) fn stop(self, jobs: u64) -> Sample {
        let wall = (clock(ClockId::Monotonic) - self.wall).as_secs_f64().max(1e-9);
        let cpu = (clock(ClockId::ProcessCPUTime) - self.cpu).as_secs_f64();
        let jobs = jobs.max(1) as f64;
        Sample { rate: Some(jobs / wall), cpu_us: Some(cpu * 1e6 / jobs), ..Sample::default() }
    }
}

/// The time that has passed by this clock.
pub(super) fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Monotonic time.
pub(super) fn now() -> Duration {
    clock(ClockId::Monotonic)
}

/// Bytes of this process's resident memory, from `/proc/self/statm`.
pub(super) fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * rustix::param::page_size() as f64
}

/// Many durations in microseconds, to three digits.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        Self(Histogram::new(3).expect("three digits can be had"))
    }

    pub(super) fn add(&mut self, time: Duration) {
        self.add_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn add_micros(&mut self, micros: u64) {
        // It grows as it must, and holds whatever a u64 says.
        let _ = self.0.record(micros);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    pub(super) fn len(&self) -> u64 {
        self.0.len()
    }

    /// Microseconds that this part of all stay below.
    pub(super) fn quantile(&self, part: f64) -> f64 {
        self.0.value_at_quantile(part) as f64
    }
}

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(all: I) -> Self {
        let mut times = Self::new();
        all.into_iter().for_each(|time| times.add(time));
        times
    }
}

impl From<Vec<(u64, u64)>> for Times {
    fn from(counts: Vec<(u64, u64)>) -> Self {
        let mut times = Self::new();
        for (micros, count) in counts {
            let _ = times.0.record_n(micros, count);
        }
        times
    }
}

impl From<Times> for Vec<(u64, u64)> {
    fn from(times: Times) -> Self {
        times.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_their_way_out_of_a_process() {
        let times: Times = (1..=1_000).map(|micros| Duration::from_micros(micros * 100)).collect();
        let text = serde_json::to_string(&times).unwrap();
        let read: Times = serde_json::from_str(&text).unwrap();
        assert_eq!(read.len(), 1_000);
        for part in [0.0, 0.5, 0.99, 0.999] {
            assert_eq!(read.quantile(part), times.quantile(part));
            let exact = (part * 100_000.0_f64).max(100.0);
            assert!((read.quantile(part) - exact).abs() <= exact / 500.0, "{part}: {}", read.quantile(part));
        }
    }
}
