//! Layer 4: the scheduler as its host sees it.

mod attempt;
mod batch;
mod builder;
mod command;
mod driver;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod membership;
mod notices;
mod resolve;
mod submission;
mod unordered;
mod waiters;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{
    Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, broadcast, mpsc, oneshot, watch,
};

pub use batch::{Batch, Verdict};
pub use builder::{Builder, Checker};
pub use command::{Accepted, ShutdownReport};
pub use notices::{Lagged, Notices};
pub use submission::{NotStarted, Submission};

use crate::{
    error::{Error, ErrorKind, Result},
    guid::Guid,
    job::{Caller, JobRecord, JobSpec, QueueLimits},
    notice::Notice,
    ports::{
        CancelVerdict, Changed, Counts, Durability, Filter, Inserted, NodeRecord, Observer, Page,
        PageRequest, Prune, Store,
    },
    state::{Resolution, State},
    time::{Clock, Timestamp},
};
use command::{Command, NewBatch};
use membership::{Membership, Rereads};
use resolve::Resolver;
use waiters::Waiters;

/// How long a shutdown waits for starts in flight, unless told otherwise.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(35);

/// A running scheduler. Cheap to clone; all clones are handles of the same one. When the last is
/// dropped it stops as by [`Scheduler::shutdown`].
///
/// Needs a tokio runtime with I/O and time enabled. It is a guest there: it installs no signal
/// handlers and changes nothing of the process.
#[derive(Clone)]
pub struct Scheduler {
    handle: Arc<Handle>,
    caller: Arc<Caller>,
}

/// What all handles share: one count of them, and not one of each part.
struct Handle {
    shared: Arc<Shared>,
    /// Jobs and commands on their way to the loop; the number of jobs is bounded by `room`.
    inbox: mpsc::UnboundedSender<Command>,
    room: Arc<Semaphore>,
}

/// What the handles and the loop have in common.
struct Shared {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    resolver: Resolver,
    membership: Membership,
    /// The limits that the builder gave queues: in force where none are stored.
    built_queues: BTreeMap<Arc<str>, QueueLimits>,
    observer: Option<Arc<dyn Observer>>,
    /// Claims under way and attempts whose outcome is not stored yet, as the loop last knew.
    in_flight: AtomicUsize,
    /// The loop knows of nothing pending or in flight, and has looked at all that is stored.
    blank: AtomicBool,
    waiters: Waiters,
    notices: broadcast::Sender<Notice>,
    /// Rings when nothing is in flight, or something ended otherwise.
    lull: Notify,
    fatal: watch::Sender<Option<Arc<Error>>>,
    done: watch::Sender<bool>,
}

impl Shared {
    fn closed(&self) -> Error {
        self.fatal.borrow().as_ref().map_or_else(Error::closed, |fatal| fatal.again())
    }

    fn has_listeners(&self) -> bool {
        self.notices.receiver_count() > 0
    }

    fn notify(&self, notice: Notice) {
        // Nobody may be listening.
        let _ = self.notices.send(notice);
    }

    fn ended(&self, guid: Guid) {
        self.waiters.wake(guid);
    }

    /// The loop has ended. First the mark, then the waiters: who registers in between sees it.
    fn end(&self) {
        self.in_flight.store(0, Ordering::Relaxed);
        self.done.send_replace(true);
        self.waiters.close();
    }

    /// The loop ended before it answered: what the caller is told.
    async fn unanswered(&self) -> Error {
        self.closing().await;
        self.unanswered_now()
    }

    fn unanswered_now(&self) -> Error {
        let closed = self.closed();
        if closed.is_closed() { Error::commit_unknown() } else { closed }
    }

    /// The loop is ending: why.
    async fn closing(&self) -> Error {
        let mut done = self.done.subscribe();
        // The sender lives in `self`.
        let _ = done.wait_for(|done| *done).await;
        self.closed()
    }
}

impl Scheduler {
    /// A scheduler to be: give it a store and starters, then [`Builder::start`] it.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A handle of the same scheduler that submits in the name of `caller`.
    #[must_use]
    pub fn for_caller(&self, caller: Caller) -> Self {
        Self { caller: Arc::new(caller), ..self.clone() }
    }

    /// Submits a job. The guid is known at once; awaiting the answer waits until the job is
    /// durable. Dropping it forgets the job, which starts all the same.
    ///
    /// A crash before the answer leaves the job wholly stored or not at all; submitting it again
    /// under the same guid or idempotency key is safe.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if the job can never start, [`Error::is_busy`] if the inbox is full
    /// (nothing was accepted), [`Error::is_closed`] after a shutdown. All other errors come with
    /// the answer.
    pub fn submit(&self, spec: JobSpec) -> Result<Submission> {
        let room = match self.handle.room.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(TryAcquireError::NoPermits) => {
                return Err(Error::new(
                    ErrorKind::Busy,
                    "the inbox is full; wait for some answers, or submit in batches",
                ));
            }
            Err(TryAcquireError::Closed) => return Err(self.handle.shared.closed()),
        };
        let job = Arc::new(self.resolve_at(self.handle.shared.clock.now(), spec)?);
        let (reply, answer) = oneshot::channel();
        self.send(Command::Submit { job: job.clone(), reply, room })?;
        Ok(Submission::new(job, self.clone(), answer))
    }

    /// Submits many jobs; see [`Batch`]. The verdicts are in the order of the jobs. Waits while
    /// the inbox is full.
    ///
    /// # Errors
    /// As [`Scheduler::submit`], but for the whole batch; an atomic one that contains an invalid
    /// or conflicting job is refused, naming the item. Of a large itemised batch the first part may
    /// be stored when a later part meets an error.
    pub async fn submit_batch(&self, batch: Batch) -> Result<Vec<Verdict>> {
        batch::submit(self, batch).await
    }

    /// Cancels a job. The answer is final: after `Cancelled` no start begins (but if its record
    /// says `possible_duplicate`, an earlier attempt may have happened), after `TooLate` the
    /// record says what it came too late for, and there will be no further attempt.
    ///
    /// # Errors
    /// The store's; then the job may or may not be cancelled.
    pub async fn cancel(&self, guid: Guid) -> Result<CancelVerdict> {
        let verdicts = self.ask(|reply| Command::Cancel { guids: Vec::from([guid]), reply }).await?;
        let none = || Error::new(ErrorKind::Unusable, format!("the store gave no verdict on job {guid}"));
        verdicts.into_iter().next().ok_or_else(none)
    }

    /// Changes when a pending job is to start. `None`: there is no such job; `applied: false`: it
    /// is not pending, or its deadline is not after `run_at`.
    ///
    /// # Errors
    /// The store's.
    pub async fn reschedule(&self, guid: Guid, run_at: Timestamp) -> Result<Option<Changed>> {
        self.ask(|reply| Command::Reschedule { guid, run_at, reply }).await
    }

    /// Lets a pending job start now.
    ///
    /// # Errors
    /// The store's.
    pub async fn start_now(&self, guid: Guid) -> Result<Option<Changed>> {
        self.reschedule(guid, self.handle.shared.clock.now()).await
    }

    /// An operator's decision on an `unknown` job. `None`: there is no such job; `applied: false`:
    /// it is not unknown.
    ///
    /// # Errors
    /// The store's.
    pub async fn resolve_unknown(&self, guid: Guid, to: Resolution) -> Result<Option<Changed>> {
        self.ask(|reply| Command::Resolve { guid, to, reply }).await
    }

    /// A job's record, or `None` if there is no such job (any more).
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, guid: Guid) -> Result<Option<JobRecord>> {
        self.handle.shared.store.get(guid).await
    }

    /// Records in the order of insertion, a page at a time. A row that matches all through the
    /// listing appears exactly once.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, filter: Filter, page: PageRequest) -> Result<Page> {
        self.handle.shared.store.list(filter, page).await
    }

    /// How many jobs are in which state, by queue.
    ///
    /// # Errors
    /// The store's.
    pub async fn counts(&self) -> Result<Counts> {
        self.handle.shared.store.counts().await
    }

    /// What was last stored under this name with a batch; see [`Batch::bookmark`].
    ///
    /// # Errors
    /// The store's.
    pub async fn bookmark(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.handle.shared.store.bookmark(name.to_owned()).await
    }

    /// Deletes final records, a bounded number at a time; how many.
    ///
    /// # Errors
    /// The store's.
    pub async fn prune(&self, prune: Prune) -> Result<usize> {
        self.handle.shared.store.prune(prune).await
    }

    /// Writes a consistent copy of the store to a new file while everything goes on.
    ///
    /// # Errors
    /// The store's; also for a store that has nothing to copy.
    pub async fn backup(&self, to: impl Into<PathBuf>) -> Result<()> {
        self.handle.shared.store.backup(to.into()).await
    }

    /// Cancels many jobs, in order; see [`Scheduler::cancel`]. Up to 1,000 at a time go to the store
    /// together, behind every submit before this call; others' calls get in between. A crash midway
    /// leaves a first part cancelled.
    ///
    /// # Errors
    /// The store's; then a first part is cancelled, and the next 1,000 may be or not.
    pub async fn cancel_many(&self, guids: Vec<Guid>) -> Result<Vec<CancelVerdict>> {
        let mut verdicts = Vec::with_capacity(guids.len());
        for chunk in guids.chunks(driver::CANCELS) {
            verdicts.extend(self.ask(|reply| Command::Cancel { guids: chunk.to_vec(), reply }).await?);
        }
        Ok(verdicts)
    }

    /// Changes the limits of a queue from now on, also after the store is opened again; `None`
    /// forgets them, so that those of [`Builder::queue_limits`] count again. When this returns they
    /// are durable and in force; starts in flight end as they would have. Of two calls at the same
    /// time one comes second, in the store as in force.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if `queue` is no name or a limit is zero, naming the field; the store's:
    /// then the limits before are in force still.
    pub async fn set_queue_limits(&self, queue: &str, limits: Option<QueueLimits>) -> Result<()> {
        resolve::check_queue(queue, limits.as_ref())?;
        self.ask(|reply| Command::QueueLimits { queue: queue.into(), limits, reply }).await
    }

    /// The limits of queues that have any, by name: those set at run time, else the builder's.
    ///
    /// # Errors
    /// The store's.
    pub async fn queues(&self) -> Result<BTreeMap<Arc<str>, QueueLimits>> {
        let mut queues = self.handle.shared.built_queues.clone();
        queues.extend(self.handle.shared.store.queues().await?);
        Ok(queues)
    }

    /// Changes how many starts may be in flight at once, over all queues, until the process ends; at
    /// least 1. With fewer than before, what is in flight ends as it would have.
    ///
    /// # Errors
    /// [`Error::is_closed`].
    pub fn set_max_in_flight(&self, starts: usize) -> Result<()> {
        self.send(Command::MaxInFlight(starts.max(1)))
    }

    /// Starts in flight now: claims under way and attempts whose outcome is not stored yet. Costs
    /// next to nothing.
    pub fn in_flight(&self) -> usize {
        self.handle.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Whether a shutdown has begun or the scheduler has stopped, by whatever cause: submits are
    /// refused from now on.
    pub fn is_stopping(&self) -> bool {
        self.handle.room.is_closed() || self.handle.inbox.is_closed()
    }

    /// When the earliest pending job is due, or was; `None` if none is pending. That job may be in a
    /// queue that is paused or full.
    ///
    /// # Errors
    /// The store's.
    pub async fn next_due(&self) -> Result<Option<Timestamp>> {
        let first = self.handle.shared.store.due(None, Timestamp::MAX, 1).await?;
        Ok(first.first().map(|header| header.next_at))
    }

    /// The nodes that work on this store, this one among them; without a fleet it is alone.
    ///
    /// # Errors
    /// The store's.
    pub async fn nodes(&self) -> Result<Vec<NodeRecord>> {
        self.handle.shared.membership.nodes(self.handle.shared.clock.now(), self.in_flight()).await
    }

    /// Changes of state from now on, as this node makes them: what other nodes of a fleet do is told
    /// by those. A listener that is too slow is told how many it missed.
    pub fn notices(&self) -> Notices {
        Notices::new(self.handle.shared.notices.subscribe(), self.handle.shared.done.subscribe())
    }

    /// What an acknowledgement is worth.
    pub fn durability(&self) -> Durability {
        self.handle.shared.store.durability()
    }

    /// Refuses what [`Scheduler::submit`] would refuse of this caller's.
    ///
    /// # Errors
    /// [`Error::is_invalid`], naming the field.
    pub fn check(&self, spec: &JobSpec) -> Result<()> {
        self.handle.shared.resolver.check(spec, &self.caller)
    }

    /// Waits until the job is final and gives its record. Ordered behind every submit so far.
    ///
    /// # Errors
    /// [`NotStarted`], which says how it ended otherwise.
    pub async fn started(&self, guid: Guid) -> Result<JobRecord, NotStarted> {
        match submission::started(&self.handle.shared, guid).await {
            // It may be on its way still.
            Err(NotStarted::Error(err)) if err.is_not_found() => {
                self.ask(Command::Barrier).await.map_err(NotStarted::Error)?;
                submission::started(&self.handle.shared, guid).await
            }
            ended => ended,
        }
    }

    /// Waits until no job is pending or starting, of those submitted so far and those submitted
    /// meanwhile. Rows that cannot be decoded are not waited for: they never start.
    ///
    /// # Errors
    /// The store's, or that the scheduler has stopped.
    pub async fn idle(&self) -> Result<()> {
        self.ask(Command::Barrier).await?;
        let mut done = self.handle.shared.done.subscribe();
        let mut rereads = Rereads::new(&self.handle.shared.membership);
        loop {
            let lull = self.handle.shared.lull.notified();
            tokio::pin!(lull);
            lull.as_mut().enable();
            let counts = self.counts().await?;
            let pending = counts.total(State::Pending);
            if counts.total(State::Starting) == 0 && (pending == 0 || self.all_quarantined(pending).await?) {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = done.wait_for(|done| *done) => return Err(self.handle.shared.closed()),
                () = lull => {}
                () = rereads.next() => {}
            }
        }
    }

    /// Whether all of so many pending rows, as counted a moment ago, cannot be decoded. Such a row
    /// stays as it is, so that counting as many now proves that there were no others then.
    async fn all_quarantined(&self, pending: u64) -> Result<bool> {
        if !self.handle.shared.blank.load(Ordering::Acquire) || self.next_due().await?.is_some() {
            return Ok(false);
        }
        let filter = Filter { state: Some(State::Pending), ..Filter::default() };
        let mut page = PageRequest::default();
        let mut found = 0;
        loop {
            let Page { records, next } = self.list(filter.clone(), page).await?;
            if records.iter().any(|record| !record.quarantined) {
                return Ok(false);
            }
            found += records.len() as u64;
            if next.is_none() {
                return Ok(found == pending);
            }
            page.after = next;
        }
    }

    /// Waits until the store is poisoned (an I/O error on a commit) and says why. The host should
    /// end the process: nothing is started or acknowledged any more.
    pub async fn fatal(&self) -> Arc<Error> {
        let mut fatal = self.handle.shared.fatal.subscribe();
        match fatal.wait_for(Option::is_some).await.map(|fatal| fatal.clone()) {
            Ok(Some(fatal)) => fatal,
            // The sender lives as long as `self`.
            _ => std::future::pending().await,
        }
    }

    /// Stops: refuses submits, claims nothing more, gives back what has not begun, waits up to
    /// `grace` for starts in flight, settles the rest as ambiguous, closes the store. Started
    /// processes live on. Called again, it waits for the first call's end.
    ///
    /// # Errors
    /// That of a poisoned store.
    pub async fn shutdown(&self, grace: Duration) -> Result<ShutdownReport> {
        self.handle.room.close();
        let (reply, answer) = oneshot::channel();
        let report = match self.send(Command::Shutdown { grace, reply }) {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => ShutdownReport::default(),
        };
        let closed = self.handle.shared.closing().await;
        if closed.is_closed() { Ok(report) } else { Err(closed) }
    }

    fn resolve_at(&self, now: Timestamp, spec: JobSpec) -> Result<crate::job::Job> {
        self.handle.shared.resolver.resolve(spec, now, &self.caller)
    }

    async fn room(&self, jobs: u32) -> Result<OwnedSemaphorePermit> {
        self.handle.room.clone().acquire_many_owned(jobs).await.map_err(|_| self.handle.shared.closed())
    }

    async fn store_batch(&self, batch: NewBatch, room: OwnedSemaphorePermit) -> Result<Vec<Inserted>> {
        self.ask(|reply| Command::Batch { batch, reply, room }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(command::Reply<T>) -> Command) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply))?;
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(self.handle.shared.unanswered().await),
        }
    }

    fn send(&self, command: Command) -> Result<()> {
        self.handle.inbox.send(command).map_err(|_| self.handle.shared.closed())
    }
}

impl std::fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scheduler")
            .field("node", self.handle.shared.membership.lease().node())
            .finish_non_exhaustive()
    }
}
