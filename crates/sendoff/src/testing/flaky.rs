//! A store that fails, or keeps its answers back, when a test says so.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;

use crate::{
    error::{Error, ErrorKind},
    guid::Guid,
    job::{Header, JobId, JobRecord, Lane, QueueLimits},
    ports::{
        CancelVerdict, Changed, Claim, Claimed, Counts, Durability, Expired, Filter, Fleet, InsertBatch,
        Inserted, Page, PageRequest, Prune, Settled, Settlement, Store, StoreFuture,
    },
    state::Resolution,
    time::Timestamp,
};

/// A method of [`Store`] that a [`FlakyStore`] can spoil.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as the methods are")]
pub enum Method {
    Insert,
    Claim,
    Settle,
    Cancel,
    Reschedule,
    Resolve,
    Expire,
    Due,
    Ready,
    Lanes,
    Get,
    Counts,
    SetQueue,
}

/// What kind of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// [`Error::is_full`].
    Full,
    /// [`Error::is_unusable`].
    Unusable,
    /// [`Error::is_unavailable`].
    Unavailable,
    /// [`Error::is_commit_unknown`].
    CommitUnknown,
    /// [`Error::is_fatal`].
    Fatal,
}

impl Why {
    /// An error of this kind.
    pub fn error(self) -> Error {
        let kind = match self {
            Self::Full => ErrorKind::Full,
            Self::Unusable => ErrorKind::Unusable,
            Self::Unavailable => ErrorKind::Unavailable,
            Self::CommitUnknown => ErrorKind::CommitUnknown,
            Self::Fatal => ErrorKind::Fatal,
        };
        Error::new(kind, format!("a planted failure: {self:?}"))
    }
}

/// What happens to a call.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Nothing.
    None,
    /// It fails before it does anything.
    Fails(Why),
    /// It is done, and fails all the same.
    FailsAfter(Why),
    /// It is done, and its answer is kept back until the test lets it go.
    Held(Held),
}

/// An answer that is kept back; clones are the same one.
#[derive(Debug, Clone)]
pub struct Held {
    reached: Arc<Semaphore>,
    released: Arc<Semaphore>,
}

impl Held {
    fn new() -> Self {
        Self { reached: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)) }
    }

    /// Waits until the call was made: its effect is there, its answer is not.
    pub async fn reached(&self) {
        self.reached.acquire().await.expect("never closed").forget();
    }

    /// Lets the answer go.
    pub fn release(&self) {
        self.released.add_permits(1);
    }
}

/// Passes everything on to another store, but for what the test has planned.
pub struct FlakyStore {
    inner: Arc<dyn Store>,
    plan: Mutex<BTreeMap<Method, Planned>>,
}

#[derive(Default)]
struct Planned {
    calls: usize,
    troubles: VecDeque<Trouble>,
}

impl FlakyStore {
    /// A store that is as sound as `inner` so far.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// The next calls of this method, of those not planned yet, meet these troubles.
    pub fn plan(&self, method: Method, troubles: impl IntoIterator<Item = Trouble>) {
        self.lock().entry(method).or_default().troubles.extend(troubles);
    }

    /// The next so many calls fail before they do anything.
    pub fn fail(&self, method: Method, why: Why, times: usize) {
        self.plan(method, std::iter::repeat_n(Trouble::Fails(why), times));
    }

    /// The next call's answer is kept back.
    pub fn hold(&self, method: Method) -> Held {
        let held = Held::new();
        self.plan(method, [Trouble::Held(held.clone())]);
        held
    }

    /// How often this method was called.
    pub fn calls(&self, method: Method) -> usize {
        self.lock().entry(method).or_default().calls
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Method, Planned>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass<T: Send + 'static>(
        &self,
        method: Method,
        call: impl FnOnce(&dyn Store) -> StoreFuture<T>,
    ) -> StoreFuture<T> {
        let trouble = {
            let mut plan = self.lock();
            let planned = plan.entry(method).or_default();
            planned.calls += 1;
            planned.troubles.pop_front().unwrap_or(Trouble::None)
        };
        match trouble {
            Trouble::None => call(&*self.inner),
            Trouble::Fails(why) => Box::pin(std::future::ready(Err(why.error()))),
            Trouble::FailsAfter(why) => {
                let answer = call(&*self.inner);
                Box::pin(async move { answer.await.and(Err(why.error())) })
            }
            Trouble::Held(held) => {
                let answer = call(&*self.inner);
                Box::pin(async move {
                    let answer = answer.await;
                    held.reached.add_permits(1);
                    held.released.acquire().await.expect("never closed").forget();
                    answer
                })
            }
        }
    }
}

impl fmt::Debug for FlakyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlakyStore").finish_non_exhaustive()
    }
}

impl Store for FlakyStore {
    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>> {
        self.pass(Method::Insert, |store| store.insert(batch))
    }

    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>> {
        self.pass(Method::Claim, |store| store.claim(ids, by))
    }

    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>> {
        self.pass(Method::Settle, |store| store.settle(settlements, now))
    }

    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>> {
        self.pass(Method::Cancel, |store| store.cancel(guids, now))
    }

    fn reschedule(&self, guid: Guid, run_at: Timestamp, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.pass(Method::Reschedule, |store| store.reschedule(guid, run_at, now))
    }

    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.pass(Method::Resolve, |store| store.resolve(guid, to, now))
    }

    fn reclaim(&self, limit: usize, now: Timestamp) -> StoreFuture<usize> {
        self.inner.reclaim(limit, now)
    }

    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired> {
        self.pass(Method::Expire, |store| store.expire(limit, now))
    }

    fn prune(&self, prune: Prune) -> StoreFuture<usize> {
        self.inner.prune(prune)
    }

    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>> {
        self.pass(Method::Due, |store| store.due(after, until, limit))
    }

    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>> {
        self.pass(Method::Ready, |store| store.ready(lane, now, limit))
    }

    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>> {
        self.pass(Method::Lanes, |store| store.lanes(after, limit))
    }

    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>> {
        self.pass(Method::Get, |store| store.get(guid))
    }

    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page> {
        self.inner.list(filter, page)
    }

    fn counts(&self) -> StoreFuture<Counts> {
        self.pass(Method::Counts, |store| store.counts())
    }

    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>> {
        self.inner.bookmark(name)
    }

    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>> {
        self.inner.queues()
    }

    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()> {
        self.pass(Method::SetQueue, |store| store.set_queue(queue, limits))
    }

    fn backup(&self, to: PathBuf) -> StoreFuture<()> {
        self.inner.backup(to)
    }

    fn close(&self) -> StoreFuture<()> {
        self.inner.close()
    }

    /// What goes through there meets no trouble.
    fn fleet(&self) -> Option<Arc<dyn Fleet>> {
        self.inner.fleet()
    }
}
