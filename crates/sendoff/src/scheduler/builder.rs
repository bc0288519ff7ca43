//! Putting a scheduler together.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use tokio::sync::{Notify, Semaphore, broadcast, mpsc, watch};

use super::{
    Handle, Scheduler, Shared,
    driver::Driver,
    membership::Membership,
    resolve::{self, Resolver},
    waiters::Waiters,
};
use crate::{
    dispatcher::{Dispatcher, Limits, Sharing},
    error::{Error, ErrorKind, Result},
    job::{Caller, JobSpec, QueueLimits},
    ports::{Observer, Starter, Store},
    time::{Clock, SystemClock},
};

/// Rows taken back in one transaction at start-up.
const RECLAIM_ROWS: usize = 1_000;

/// A scheduler to be.
pub struct Builder {
    store: Option<Arc<dyn Store>>,
    starters: Vec<Arc<dyn Starter>>,
    limits: Limits,
    clock: Option<Arc<dyn Clock>>,
    inbox: usize,
    notices: usize,
    submitted_by: Option<Arc<str>>,
    seed: Option<u64>,
    observer: Option<Arc<dyn Observer>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            store: None,
            starters: Vec::new(),
            limits: Limits::default(),
            clock: None,
            inbox: 16_384,
            notices: 4_096,
            submitted_by: None,
            seed: None,
            observer: None,
        }
    }
}

impl Builder {
    /// Where jobs are kept. Required.
    #[must_use]
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// A kind of start. At least one is required.
    #[must_use]
    pub fn starter(mut self, starter: impl Starter) -> Self {
        self.starters.push(Arc::new(starter));
        self
    }

    /// Starts in flight at once, over all queues. Default 1,024.
    #[must_use]
    pub fn max_in_flight(mut self, starts: usize) -> Self {
        self.limits.max_in_flight = starts.max(1);
        self
    }

    /// The limits of one queue. Default: none. Those that an operator has set at run time
    /// ([`Scheduler::set_queue_limits`]) and that the store has kept count instead.
    #[must_use]
    pub fn queue_limits(mut self, queue: &str, limits: QueueLimits) -> Self {
        self.limits.queues.insert(queue.into(), limits);
        self
    }

    /// Jobs that were submitted and are not stored yet; with more, [`Scheduler::submit`] is busy.
    /// Default 16,384, at least 10,000 (the largest atomic batch).
    #[must_use]
    pub fn inbox(mut self, jobs: usize) -> Self {
        self.inbox = jobs.clamp(super::Batch::MAX_ATOMIC, Semaphore::MAX_PERMITS);
        self
    }

    /// Notices kept for slow listeners. Default 4,096.
    #[must_use]
    pub fn notice_buffer(mut self, notices: usize) -> Self {
        self.notices = notices.clamp(1, 1 << 20);
        self
    }

    /// Whom the records of this scheduler's jobs name as their submitter.
    #[must_use]
    pub fn submitted_by(mut self, who: &str) -> Self {
        self.submitted_by = Some(who.into());
        self
    }

    /// Who is told of each attempt and each call of the store, for metrics.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Another source of time, for tests. Default: the one that the store's nodes share, or the
    /// machine's. In a fleet its `elapsed` must be the same as the fleet's: leases are measured by it.
    #[must_use]
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// The seed of the jitter of retries, for tests that repeat. Default: random.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Checks jobs as this scheduler would, without a store.
    ///
    /// # Errors
    /// If two starters have the same name.
    pub fn checker(self) -> Result<Checker> {
        Ok(Checker(Resolver::new(self.starters)?))
    }

    /// Takes back what a crash left `starting`, then runs on the tokio runtime of the caller. The
    /// time that takes depends on what was in flight, not on what is pending.
    ///
    /// # Errors
    /// A missing store, starters of the same name, limits of zero, or the store's.
    pub async fn start(self) -> Result<Scheduler> {
        let store = self.store.ok_or_else(|| Error::invalid("a scheduler needs a store: Builder::store"))?;
        let resolver = Resolver::new(self.starters)?;
        let mut limits = self.limits;
        for (queue, limits) in &limits.queues {
            resolve::check_queue(queue, Some(limits))?;
        }
        let fleet = store.fleet();
        let clock = match (self.clock, &fleet) {
            (Some(clock), _) => clock,
            (None, Some(fleet)) => fleet.clock(),
            (None, None) => Arc::new(SystemClock),
        };
        let built_queues = limits.queues.clone();
        let stored_queues = store.queues().await?;
        limits.queues.extend(stored_queues.clone());
        while !mutated!(NoReclaimAtStart) {
            let reclaimed = store.reclaim(RECLAIM_ROWS, clock.now()).await?;
            if reclaimed > 0 {
                tracing::warn!(
                    jobs = reclaimed,
                    "took back jobs that were starting when sendoff last stopped"
                );
            }
            if reclaimed < RECLAIM_ROWS {
                break;
            }
        }
        crash_point!(Recovered);
        let timer = clock
            .timer()
            .map_err(|err| Error::new(ErrorKind::Unusable, "the system gives no timer").with_source(err))?;
        let seed = self.seed.unwrap_or_else(|| fastrand::u64(..));
        let mut dispatcher = Dispatcher::new(limits, &resolver.starter_limits(), seed);
        if let Some(fleet) = &fleet {
            let served = fleet.queues().map(|queues| queues.iter().cloned().collect());
            dispatcher = dispatcher.in_fleet(Sharing { interval: fleet.poll_interval(), served });
        }
        let shared = Arc::new(Shared {
            membership: Membership::new(&*store, clock.now()),
            store,
            clock,
            resolver,
            built_queues,
            observer: self.observer,
            in_flight: AtomicUsize::new(0),
            blank: AtomicBool::new(false),
            waiters: Waiters::default(),
            notices: broadcast::channel(self.notices).0,
            lull: Notify::new(),
            fatal: watch::channel(None).0,
            done: watch::channel(false).0,
        });
        let (inbox, commands) = mpsc::unbounded_channel();
        let driver = Driver::new(shared.clone(), dispatcher, commands, timer, stored_queues);
        // The loop ends by itself: at a shutdown, when every handle is dropped, or with the store.
        drop(tokio::runtime::Handle::current().spawn(driver.run()));
        let caller = Arc::new(Caller { name: self.submitted_by, grant: None });
        let room = Arc::new(Semaphore::new(self.inbox));
        Ok(Scheduler { handle: Arc::new(Handle { shared, inbox, room }), caller })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starters: Vec<_> = self.starters.iter().map(|starter| starter.name()).collect();
        f.debug_struct("Builder")
            .field("starters", &starters)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Refuses what a scheduler would refuse at submit; see [`Builder::checker`].
pub struct Checker(Resolver);

impl Checker {
    /// Refuses a job that could never start.
    ///
    /// # Errors
    /// [`Error::is_invalid`], naming the field.
    pub fn check(&self, spec: &JobSpec) -> Result<()> {
        self.0.check(spec, &Caller::default())
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Checker")
    }
}
