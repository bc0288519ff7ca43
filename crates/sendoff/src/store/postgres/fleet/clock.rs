//! The time that all nodes share: the database's, carried on by this machine's boot-time clock.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use crate::time::{Clock, SystemClock, Timer, Timestamp};

/// The database's clock, read once with each heartbeat.
///
/// `now` is never later than what the database shows, `latest` never earlier, but for how far the two
/// machines' clocks drift apart between two heartbeats. The next reading may move both back by as
/// much. The host's wall clock decides nothing: it may be wrong by hours.
#[derive(Clone)]
pub(super) struct AnchoredClock {
    offsets: Arc<Offsets>,
}

/// Microseconds from the boot-time clock to the database's, at least and at most.
struct Offsets {
    least: AtomicI64,
    most: AtomicI64,
}

/// Readings of the database's clock, and the boot-time clock around them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Before they were asked for.
    pub(super) sent: Duration,
    /// When the answers were there.
    pub(super) replied: Duration,
    /// The first one, in microseconds since 1970.
    pub(super) first: i64,
    /// The last one: some time may have passed between them, as for a commit.
    pub(super) last: i64,
}

impl Sample {
    /// The offsets that it allows, the least and the most.
    fn offsets(&self) -> (i64, i64) {
        let least = self.last.saturating_sub(micros(self.replied));
        let most = self.first.saturating_sub(micros(self.sent));
        // The least is the greater one only if the database's clock was set between the readings.
        (least, most.max(least))
    }
}

impl AnchoredClock {
    pub(super) fn new(sample: &Sample) -> Self {
        let (least, most) = sample.offsets();
        Self { offsets: Arc::new(Offsets { least: AtomicI64::new(least), most: AtomicI64::new(most) }) }
    }

    /// Goes by this sample from now on.
    pub(super) fn anchor(&self, sample: &Sample) {
        let (least, most) = sample.offsets();
        // Each bound is right by itself, whichever of the two a reader sees first.
        self.offsets.least.store(least, Ordering::Release);
        self.offsets.most.store(most, Ordering::Release);
    }
}

impl Clock for AnchoredClock {
    fn now(&self) -> Timestamp {
        shifted(self.elapsed(), self.offsets.least.load(Ordering::Acquire))
    }

    fn latest(&self) -> Timestamp {
        shifted(self.elapsed(), self.offsets.most.load(Ordering::Acquire)).max(self.now())
    }

    fn elapsed(&self) -> Duration {
        SystemClock.elapsed()
    }

    /// As often as heartbeats come, since each may move the clock.
    fn longest_sleep(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        Ok(Box::new(AnchoredTimer { clock: self.clone(), inner: SystemClock.timer()? }))
    }
}

/// The host's timer, armed to the instant at which the host's wall clock will show what it has to:
/// it keeps its precision, and rings too when somebody sets that clock.
struct AnchoredTimer {
    clock: AnchoredClock,
    inner: Box<dyn Timer>,
}

impl Timer for AnchoredTimer {
    fn arm(&mut self, at: Option<Timestamp>) {
        // Read in this order: too late by nanoseconds, never early.
        let now = self.clock.now();
        let host = SystemClock.now();
        self.inner.arm(at.map(|at| translated(at, now, host)));
    }

    fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inner.poll_ring(cx)
    }
}

fn micros(elapsed: Duration) -> i64 {
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

fn shifted(elapsed: Duration, offset: i64) -> Timestamp {
    bounded(micros(elapsed).saturating_add(offset))
}

/// The instant `at` of a clock that shows `now`, by another that shows `host` at that moment.
fn translated(at: Timestamp, now: Timestamp, host: Timestamp) -> Timestamp {
    bounded(host.as_micros().saturating_add(at.micros_since(now)))
}

fn bounded(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap_or(if micros < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    #[test]
    fn the_least_counts_from_the_answer_and_the_most_from_the_question() {
        let sample = Sample {
            sent: Duration::from_secs(100),
            replied: Duration::from_secs(103),
            first: 5000 * SECOND,
            last: 5002 * SECOND,
        };
        // The commit between the readings took two of the three seconds: one is unknown.
        assert_eq!(sample.offsets(), (4899 * SECOND, 4900 * SECOND));
        let one = Sample { last: sample.first, ..sample };
        assert_eq!(one.offsets(), (4897 * SECOND, 4900 * SECOND));
        // Set back by an hour between the readings, or forward.
        let back = Sample { last: sample.last - 3600 * SECOND, ..sample };
        let forward = Sample { last: sample.last + 3600 * SECOND, ..sample };
        for sample in [back, forward] {
            let (least, most) = sample.offsets();
            assert!(least <= most, "{sample:?}");
            assert_eq!(least, sample.last - 103 * SECOND, "the newest reading counts");
        }
    }

    #[test]
    fn instants_stay_within_their_bounds() {
        assert_eq!(shifted(Duration::from_secs(3), 4 * SECOND), at(7 * SECOND));
        assert_eq!(shifted(Duration::from_secs(3), -4 * SECOND), Timestamp::MIN);
        assert_eq!(shifted(Duration::MAX, i64::MAX), Timestamp::MAX);
        assert_eq!(translated(Timestamp::MAX, at(1), at(2)), Timestamp::MAX);
        assert_eq!(translated(at(50), at(40), at(7)), at(17));
        assert_eq!(translated(at(5), at(40), at(7)), Timestamp::MIN);
    }

    #[test]
    fn a_newer_sample_moves_the_clock_either_way() {
        let sent = SystemClock.elapsed();
        let sample = |first| Sample { sent, replied: sent, first, last: first };
        let clock = AnchoredClock::new(&sample(1000 * SECOND));
        assert!(clock.now() >= at(1000 * SECOND) && clock.now() < at(4600 * SECOND));
        clock.anchor(&sample(9000 * SECOND));
        assert!(clock.now() >= at(9000 * SECOND));
        clock.anchor(&sample(2000 * SECOND));
        assert!(clock.now() < at(5600 * SECOND));
        // Read one after the other: time goes on in between.
        let now = clock.now();
        assert!(clock.latest() >= now);
    }

    #[tokio::test]
    async fn an_alarm_rings_by_the_clock_of_the_database() {
        let sent = SystemClock.elapsed();
        // A database that lives in 1970.
        let clock = AnchoredClock::new(&Sample { sent, replied: sent, first: SECOND, last: SECOND });
        let mut timer = clock.timer().unwrap();
        let due = clock.now().saturating_add(Duration::from_millis(30));
        loop {
            timer.arm(Some(due));
            std::future::poll_fn(|cx| timer.poll_ring(cx)).await;
            if clock.now() >= due {
                break;
            }
        }
    }
}
