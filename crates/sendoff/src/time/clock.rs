//! Clocks and timers: the engine's only source of time.

#![expect(clippy::disallowed_methods, reason = "the one home of clock reads")]

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use super::Timestamp;

/// Where the engine reads time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock: decides what is due. It may step.
    fn now(&self) -> Timestamp;
    /// The latest that the wall clock may show, where `now` is not exact: decides what has expired.
    fn latest(&self) -> Timestamp {
        self.now()
    }
    /// Time since some fixed point, counting suspends, never stepping: measures what elapsed.
    fn elapsed(&self) -> Duration;
    /// How long to sleep at most before looking at the wall clock again, so that steps and suspends
    /// that no alarm noticed have a bounded effect.
    fn longest_sleep(&self) -> Duration {
        Duration::from_secs(30)
    }
    /// A timer on this clock, to be used inside a tokio runtime.
    ///
    /// # Errors
    /// The operating system's, when it has no timer left to give.
    fn timer(&self) -> std::io::Result<Box<dyn Timer>>;
}

/// One alarm, armed again and again.
pub trait Timer: Send {
    /// Sets the alarm to the wall-clock instant `at`, replacing the one before; `None` disarms it.
    /// An instant that has passed rings at once.
    fn arm(&mut self, at: Option<Timestamp>);
    /// Ready when the alarm rang, or when the wall clock was stepped; disarmed afterwards.
    fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// The machine's clocks: `CLOCK_REALTIME` for what is due, `CLOCK_BOOTTIME` for what elapsed, a
/// timerfd for alarms (late by about 0.1 ms, where tokio's timer is late by about 1 ms) that also
/// rings when somebody sets the wall clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::MIN.saturating_add(since)
    }

    fn elapsed(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    }

    fn timer(&self) -> std::io::Result<Box<dyn Timer>> {
        Ok(Box::new(super::timerfd::TimerFd::new()?))
    }
}

/// A clock anchored on tokio's: under `tokio::time::pause` it stands still and jumps with it,
/// alarms and records included, so that a test of three years takes no time. Its alarms have
/// tokio's resolution of one millisecond.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    wall: Timestamp,
    anchor: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that shows `wall` now and follows tokio's clock from here.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { wall, anchor: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.wall.saturating_add(self.anchor.elapsed())
    }

    fn elapsed(&self) -> Duration {
        self.anchor.elapsed()
    }

    fn longest_sleep(&self) -> Duration {
        // It never steps; tokio's timers hold two years.
        Duration::from_secs(86_400)
    }

    fn timer(&self) -> std::io::Result<Box<dyn Timer>> {
        Ok(Box::new(TokioTimer { clock: *self, sleep: None }))
    }
}

struct TokioTimer {
    clock: TokioClock,
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Timer for TokioTimer {
    fn arm(&mut self, at: Option<Timestamp>) {
        self.sleep = at.map(|at| {
            let deadline = self.clock.anchor + at.saturating_since(self.clock.wall);
            Box::pin(tokio::time::sleep_until(deadline))
        });
    }

    fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        std::task::ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        Poll::Ready(())
    }
}
