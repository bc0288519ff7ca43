//! One life of a node, from its start to its end: it can be paused, cut off and killed at any instant.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

use sendoff::{
    ports::{Lease, Store},
    store::MemoryStore,
    testing::FleetNode,
};
use tokio::sync::Notify;

use super::{clock::note, world::World};

/// Whether a node goes on, stands still, or is gone.
#[derive(Clone, Default)]
pub(super) struct Phase(Arc<PhaseInner>);

#[derive(Default)]
struct PhaseInner {
    paused: AtomicBool,
    dead: AtomicBool,
    changed: Notify,
    wakers: Mutex<Vec<Waker>>,
}

impl Phase {
    pub(super) fn is_paused(&self) -> bool {
        self.0.paused.load(Ordering::Relaxed) && !self.is_dead()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.0.dead.load(Ordering::Relaxed)
    }

    pub(super) fn wake_later(&self, waker: &Waker) {
        note(&mut self.0.wakers.lock().unwrap(), waker);
    }

    fn change(&self, what: &AtomicBool, to: bool) {
        what.store(to, Ordering::Relaxed);
        self.0.changed.notify_waiters();
        self.0.wakers.lock().unwrap().drain(..).for_each(Waker::wake);
    }

    /// Waits until it goes on; false if it is gone.
    pub(super) async fn awake(&self) -> bool {
        loop {
            let changed = self.0.changed.notified();
            if self.is_dead() {
                return false;
            }
            if !self.is_paused() {
                return true;
            }
            changed.await;
        }
    }

    pub(super) async fn died(&self) {
        loop {
            let changed = self.0.changed.notified();
            if self.is_dead() {
                return;
            }
            changed.await;
        }
    }
}

/// Where a node keeps its jobs.
#[derive(Clone)]
pub(super) enum Base {
    Alone(Arc<MemoryStore>),
    Among(FleetNode),
}

impl Base {
    pub(super) fn store(&self) -> &dyn Store {
        match self {
            Self::Alone(store) => &**store,
            Self::Among(node) => node,
        }
    }

    pub(super) const fn node(&self) -> Option<&FleetNode> {
        match self {
            Self::Alone(_) => None,
            Self::Among(node) => Some(node),
        }
    }
}

pub(super) struct Life {
    pub(super) number: u32,
    pub(super) world: Arc<World>,
    pub(super) base: Base,
    pub(super) phase: Phase,
    pub(super) max_in_flight: usize,
    /// The database is out of reach.
    pub(super) cut: AtomicBool,
    /// Calls of its store that went wrong.
    pub(super) troubles: AtomicU64,
    /// Since when it stops.
    pub(super) stopping: Mutex<Option<Duration>>,
    pub(super) random: Mutex<fastrand::Rng>,
}

impl Life {
    pub(super) fn is_dead(&self) -> bool {
        self.phase.is_dead()
    }

    /// Its process ends, wherever it is.
    pub(super) fn kill(&self, why: &str) {
        if self.is_dead() {
            return;
        }
        self.world.trace(|| format!("{self} dies: {why}"));
        self.world.count("crashes");
        self.gone();
    }

    /// It has come to an end, and its heart with it.
    pub(super) fn gone(&self) {
        if self.is_dead() {
            return;
        }
        match &self.base {
            Base::Alone(_) => self.world.reopen(),
            Base::Among(node) => node.kill(),
        }
        self.phase.change(&self.phase.0.dead, true);
    }

    pub(super) fn pause(&self, paused: bool) {
        self.world.trace(|| format!("{self} {}", if paused { "is paused" } else { "goes on" }));
        self.phase.change(&self.phase.0.paused, paused);
    }

    /// Its heart stops, or beats again.
    pub(super) fn silence(&self, silent: bool) {
        self.world.trace(|| format!("the heart of {self} {}", if silent { "stops" } else { "beats" }));
        if let Base::Among(node) = &self.base {
            node.silence(silent);
        }
    }

    pub(super) fn cut_off(&self, cut: bool) {
        self.world.trace(|| format!("{self} is {}", if cut { "cut off" } else { "connected" }));
        self.cut.store(cut, Ordering::Relaxed);
        if let Base::Among(node) = &self.base {
            node.cut(cut);
        }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// The lease of this moment; a node alone needs none.
    pub(super) fn lease(&self) -> Option<Arc<Lease>> {
        use sendoff::ports::Fleet;
        self.base.node().map(Fleet::lease)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.number)
    }
}
