//! The wall clock of a world, which steps, and the clocks of its nodes, which follow it more or less.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use sendoff::{
    Timestamp,
    time::{Clock, Timer},
};
use tokio::time::{Instant, Sleep, sleep_until};

use super::life::Phase;

/// The true time: the machine's, or the database's.
#[derive(Clone)]
pub(super) struct Wall(Arc<Inner>);

struct Inner {
    anchor: Instant,
    base: Timestamp,
    /// Microseconds by which it was set off.
    steps: AtomicI64,
    stepped: AtomicU64,
    wakers: Mutex<Vec<Waker>>,
}

impl Wall {
    pub(super) fn starting_at(base: Timestamp) -> Self {
        Self(Arc::new(Inner {
            anchor: Instant::now(),
            base,
            steps: AtomicI64::new(0),
            stepped: AtomicU64::new(0),
            wakers: Mutex::default(),
        }))
    }

    pub(super) fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.elapsed().as_micros()).expect("a short time");
        moved(self.0.base, micros + self.0.steps.load(Ordering::Relaxed))
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.0.anchor.elapsed()
    }

    /// Somebody sets the clock.
    pub(super) fn step(&self, micros: i64) {
        self.0.steps.fetch_add(micros, Ordering::Relaxed);
        self.0.stepped.fetch_add(1, Ordering::Relaxed);
        self.0.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

fn moved(at: Timestamp, micros: i64) -> Timestamp {
    let micros = (at.as_micros() + micros).clamp(Timestamp::MIN.as_micros(), Timestamp::MAX.as_micros());
    Timestamp::from_micros(micros).expect("it is in range")
}

/// A node's clock: not later than the true time, and not farther from it than it says.
#[derive(Clone)]
pub(super) struct NodeClock {
    pub(super) wall: Wall,
    /// By how much it is behind.
    pub(super) behind: Duration,
    /// By how much the latest that it may be is ahead.
    pub(super) ahead: Duration,
    /// Whether its alarms ring when the clock is set.
    pub(super) rings: bool,
    /// While its node is paused, no alarm rings.
    pub(super) phase: Phase,
}

impl Clock for NodeClock {
    fn now(&self) -> Timestamp {
        moved(self.wall.now(), -i64::try_from(self.behind.as_micros()).expect("a short time"))
    }

    fn latest(&self) -> Timestamp {
        self.wall.now().saturating_add(self.ahead)
    }

    fn elapsed(&self) -> Duration {
        self.wall.elapsed()
    }

    fn timer(&self) -> io::Result<Box<dyn Timer>> {
        let stepped = self.wall.0.stepped.load(Ordering::Relaxed);
        Ok(Box::new(NodeTimer { clock: self.clone(), sleep: None, stepped, armed: Duration::ZERO, spins: 0 }))
    }
}

struct NodeTimer {
    clock: NodeClock,
    sleep: Option<Pin<Box<Sleep>>>,
    /// How often the clock had been set when this was last seen.
    stepped: u64,
    /// When it was last armed, and how often at that very instant.
    armed: Duration,
    spins: u32,
}

impl Timer for NodeTimer {
    fn arm(&mut self, at: Option<Timestamp>) {
        // Not farther than tokio's timers reach.
        let now = self.clock.elapsed();
        self.spins = if self.armed == now { self.spins + 1 } else { 0 };
        self.armed = now;
        assert!(self.spins < 10_000, "the loop turns and turns, and nothing happens");
        let wait = |at: Timestamp| at.saturating_since(self.clock.now()).min(Duration::from_secs(3600));
        self.sleep = at.map(|at| Box::pin(sleep_until(Instant::now() + wait(at))));
    }

    fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.phase.is_paused() {
            self.clock.phase.wake_later(cx.waker());
            return Poll::Pending;
        }
        let wall = &self.clock.wall.0;
        let stepped = wall.stepped.load(Ordering::Relaxed);
        if std::mem::replace(&mut self.stepped, stepped) != stepped && self.clock.rings {
            self.sleep = None;
            return Poll::Ready(());
        }
        note(&mut wall.wakers.lock().unwrap(), cx.waker());
        // Also of a pause that begins while this sleeps.
        self.clock.phase.wake_later(cx.waker());
        let Some(sleep) = &mut self.sleep else { return Poll::Pending };
        std::task::ready!(sleep.as_mut().poll(cx));
        self.sleep = None;
        Poll::Ready(())
    }
}

pub(super) fn note(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|known| known.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}
