//! This node's life among others: how it registers, beats, watches, takes back what dead nodes left,
//! and leaves.
//!
//! All of it runs on one thread of its own, with connections of its own, so that neither a blocked
//! event loop nor a busy store ever makes a living node look dead.

mod beat;
mod clock;
mod durability;
mod hints;
mod local;
mod pace;
mod port;
mod reclaim;
mod register;
mod wakes;
mod watch;

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
};

use tokio::sync::{Notify, mpsc, oneshot};

pub(super) use self::reclaim::reclaim;
use self::{clock::AnchoredClock, pace::Pace, register::Identity, wakes::Wakes};
use super::{PostgresOptions, connect::Target, sql::Texts};
use crate::{
    error::{Error, ErrorKind, Result},
    ports::{Durability, Lease, Wake},
    time::Clock,
};

/// How a test changes a node's life.
#[cfg(feature = "testing")]
#[derive(Debug, Clone, PartialEq)]
pub struct Rehearsal {
    /// Multiplies the times of heartbeat, lease and death.
    pub pace: f64,
    /// Whether a node is declared dead at once where its process is known to have ended.
    pub certain_death: bool,
    /// Whether the node takes back what dead ones left without being called.
    pub reclaims: bool,
}

#[cfg(feature = "testing")]
impl Default for Rehearsal {
    fn default() -> Self {
        Self { pace: 1.0, certain_death: true, reclaims: true }
    }
}

/// This node: what its thread and the rest of the store share.
pub(super) struct Node {
    shared: Arc<Shared>,
    /// Closed when the node is dropped: then it leaves, too, without an answer.
    orders: mpsc::UnboundedSender<Order>,
}

/// One life of a node under one name: from its registration until it leaves or is declared dead.
#[derive(Debug)]
pub(super) struct Member {
    /// Its row in `sendoff.node`, and what jobs carry.
    pub(super) id: i64,
    pub(super) lease: Arc<Lease>,
}

enum Order {
    Leave(oneshot::Sender<Result<()>>),
    #[cfg(feature = "testing")]
    Crash,
}

struct Shared {
    target: Target,
    texts: Arc<Texts>,
    habits: Habits,
    identity: Identity,
    present: Mutex<Arc<Member>>,
    clock: AnchoredClock,
    /// As [`durability::code`].
    durability: AtomicU8,
    in_flight: AtomicUsize,
    wakes: Wakes,
    /// Somebody wants the other nodes to look.
    hint: Notify,
    /// There are rows of dead nodes.
    dead: Notify,
    /// Somebody doubts that this node is still registered.
    doubt: Notify,
    #[cfg(feature = "testing")]
    paused: tokio::sync::watch::Sender<bool>,
}

#[derive(Debug, Clone)]
struct Habits {
    pace: Pace,
    certain_death: bool,
    reclaims: bool,
    hints: bool,
    poll_interval: std::time::Duration,
}

impl Habits {
    fn of(options: &PostgresOptions) -> Result<Self> {
        let usual = Self {
            pace: Pace::USUAL,
            certain_death: true,
            reclaims: true,
            hints: options.hints,
            poll_interval: options.poll_interval,
        };
        #[cfg(feature = "testing")]
        let usual = Self {
            pace: Pace::scaled(options.rehearsal.pace)
                .ok_or_else(|| Error::invalid("rehearsal.pace must be a positive number"))?,
            certain_death: options.rehearsal.certain_death,
            reclaims: options.rehearsal.reclaims,
            ..usual
        };
        Ok(usual)
    }
}

impl Node {
    /// Registers this node in a database whose tables are there, and starts its heartbeat.
    ///
    /// # Errors
    /// [`Error::is_unavailable`] if the database cannot be reached or takes no writes,
    /// [`Error::is_unusable`] if what it acknowledges would not be durable, or this machine has no
    /// `/proc` or no thread to give.
    pub(super) async fn join(target: Target, texts: Arc<Texts>, options: &PostgresOptions) -> Result<Self> {
        let habits = Habits::of(options)?;
        let identity = Identity::new(options)?;
        let (orders, received) = mpsc::unbounded_channel();
        let (ready, joined) = oneshot::channel();
        let unusable = |err| {
            Error::new(ErrorKind::Unusable, "no thread for the heartbeat; lower other load").with_source(err)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
        let life = async move {
            match register::first(target, texts, habits, identity).await {
                Ok(shared) => {
                    // Nobody waits any more: the orders are closed then, too.
                    let _ = ready.send(Ok(shared.clone()));
                    beat::live(shared, received).await;
                }
                Err(err) => drop(ready.send(Err(err))),
            }
        };
        std::thread::Builder::new()
            .name("sendoff-node".into())
            .spawn(move || runtime.block_on(life))
            .map_err(unusable)?;
        let shared = joined.await.unwrap_or_else(|_| Err(ended()))?;
        Ok(Self { shared, orders })
    }

    /// Who this node is as of now.
    pub(super) fn present(&self) -> Arc<Member> {
        self.shared.present()
    }

    /// What an acknowledgement was worth when last looked at: with the last heartbeat.
    pub(super) fn durability(&self) -> Durability {
        durability::of_code(self.shared.durability.load(Ordering::Acquire))
    }

    /// A connection that claims was lost and is back.
    pub(super) fn reconnected(&self) {
        self.shared.wakes.wake(Wake::Reconnected);
    }

    /// A claim found no living row of this node: looks at once whether that is so.
    pub(super) fn doubt(&self) {
        self.shared.doubt.notify_one();
    }

    /// Ends the heartbeat and this node's registration, once every write was answered. What is
    /// `starting` in its name is left for others to take back at once.
    ///
    /// # Errors
    /// If the database cannot be told: the others will find out in their time.
    pub(super) async fn leave(&self) -> Result<()> {
        let (left, answer) = oneshot::channel();
        // An ended thread has left already.
        let _ = self.orders.send(Order::Leave(left));
        answer.await.unwrap_or(Ok(()))
    }

    /// Ends as a killed process would: the registration stays as it is.
    #[cfg(feature = "testing")]
    pub(super) fn crash(&self) {
        let _ = self.orders.send(Order::Crash);
    }

    /// Holds up the heartbeat, or lets it go on.
    #[cfg(feature = "testing")]
    pub(super) fn pause(&self, paused: bool) {
        self.shared.paused.send_replace(paused);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("present", &self.shared.present()).finish_non_exhaustive()
    }
}

impl Shared {
    fn present(&self) -> Arc<Member> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_present(&self, member: Member) {
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(member);
    }

    fn now(&self) -> crate::time::Timestamp {
        self.clock.now()
    }
}

fn ended() -> Error {
    Error::new(ErrorKind::Unusable, "the thread of the heartbeat ended; see the log")
}
