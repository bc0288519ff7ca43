//! Jobs in memory: for tests, for programs whose jobs may die with them, and as the measure of
//! what an engine without a disk can do.
//!
//! A pending job takes about 190 bytes beside its request (`cargo run --release --example
//! memory_load`): a row of 128 in a slab whose numbers ascend and are never used again, a place of
//! 13 in the hash table of guids, and an entry of 16 in each order that it waits in. One with a key, a
//! submitter or a grant takes about 50 more; equal grants are kept once, and so are equal requests that
//! follow each other.

/// Whether a fault is planted; the constant `false` without the feature `testing`.
macro_rules! planted {
    ($inner:expr, $fault:ident) => {{
        #[cfg(feature = "testing")]
        let planted = $inner.fault == Some(crate::store::memory::Fault::$fault);
        #[cfg(not(feature = "testing"))]
        let planted = false;
        planted
    }};
}

#[cfg(feature = "testing")]
mod fault;
mod grants;
mod inner;
mod lanes;
mod names;
mod reads;
mod rows;
mod sorted;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "testing")]
pub use self::fault::Fault;
use self::inner::Inner;
use crate::{
    error::{Error, ErrorKind, Result},
    guid::Guid,
    job::{Header, JobId, JobRecord, Lane, QueueLimits},
    ports::{
        CancelVerdict, Changed, Claim, Claimed, Counts, Durability, Expired, Filter, InsertBatch, Inserted,
        Page, PageRequest, Prune, Settled, Settlement, Store, StoreFuture,
    },
    state::Resolution,
    time::Timestamp,
};

/// A [`Store`] that keeps jobs in memory: nothing survives the process.
///
/// Each call takes effect before it returns; the future that it returns is ready. A call blocks
/// for as long as its rows take under one lock, about a microsecond each.
#[derive(Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that errs as told.
    #[cfg(feature = "testing")]
    pub fn with_fault(fault: Fault) -> Self {
        let store = Self::new();
        store.lock().fault = Some(fault);
        store
    }

    /// What a store on disk would be after a crash: all that was acknowledged is there, attempts
    /// under way are orphans that [`Store::reclaim`] finds, and this store is closed.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn crash_and_reopen(&self) -> Self {
        let mut crashed = self.lock();
        let mut inner = std::mem::take(&mut *crashed);
        crashed.closed = true;
        inner.orphans = inner.starting();
        if planted!(inner, QueueLimitsLost) {
            inner.queues.clear();
        }
        inner.closed = false;
        Self { inner: Mutex::new(inner) }
    }

    /// Rows that are starting in this node's name, with their fences: for a fleet in memory.
    #[cfg(feature = "testing")]
    pub(crate) fn starting_under(&self, node: &str) -> Vec<(JobId, u32)> {
        self.lock().starting_under(node).into_iter().map(|(id, fence)| (JobId(id), fence)).collect()
    }

    /// T10 for all rows of a node that is dead; how many.
    #[cfg(feature = "testing")]
    pub(crate) fn reclaim_from(&self, node: &str, now: Timestamp) -> usize {
        let mut inner = self.lock();
        inner.orphans = inner.starting_under(node);
        inner.reclaim(usize::MAX, now)
    }

    #[cfg(feature = "testing")]
    pub(crate) fn queue_limits(&self, queue: &str) -> Option<QueueLimits> {
        self.lock().queues.get(queue).copied()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T: Send + 'static>(&self, call: impl FnOnce(&mut Inner) -> Result<T>) -> StoreFuture<T> {
        let mut inner = self.lock();
        let answer = if inner.closed {
            Err(Error::new(ErrorKind::Closed, "the store is closed"))
        } else {
            call(&mut inner)
        };
        Box::pin(std::future::ready(answer))
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

impl Store for MemoryStore {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>> {
        self.call(|inner| inner.insert(batch))
    }

    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>> {
        self.call(|inner| Ok(inner.claim(&ids, &by)))
    }

    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>> {
        self.call(|inner| Ok(inner.settle(settlements, now)))
    }

    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>> {
        self.call(|inner| Ok(inner.cancel(&guids, now)))
    }

    fn reschedule(&self, guid: Guid, run_at: Timestamp, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.call(|inner| Ok(inner.reschedule(guid, run_at, now)))
    }

    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.call(|inner| Ok(inner.resolve(guid, to, now)))
    }

    fn reclaim(&self, limit: usize, now: Timestamp) -> StoreFuture<usize> {
        self.call(|inner| Ok(inner.reclaim(limit, now)))
    }

    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired> {
        self.call(|inner| Ok(inner.expire(limit, now)))
    }

    fn prune(&self, prune: Prune) -> StoreFuture<usize> {
        self.call(|inner| Ok(inner.prune(&prune)))
    }

    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>> {
        self.call(|inner| Ok(inner.due(after, until, limit)))
    }

    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>> {
        self.call(|inner| Ok(inner.ready(&lane, now, limit)))
    }

    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>> {
        self.call(|inner| Ok(inner.lanes(after.as_ref(), limit)))
    }

    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>> {
        self.call(|inner| Ok(inner.get(guid)))
    }

    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page> {
        self.call(|inner| inner.list(&filter, page))
    }

    fn counts(&self) -> StoreFuture<Counts> {
        self.call(|inner| Ok(inner.lanes.counts()))
    }

    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>> {
        self.call(|inner| Ok(inner.bookmarks.get(&name).cloned()))
    }

    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>> {
        self.call(|inner| Ok(inner.queues.clone()))
    }

    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()> {
        self.call(|inner| {
            inner.set_queue(queue, limits);
            Ok(())
        })
    }

    fn backup(&self, _to: PathBuf) -> StoreFuture<()> {
        self.call(|_| {
            Err(Error::new(
                ErrorKind::Unusable,
                "jobs are kept in memory only, so there is nothing to back up; use a store on disk",
            ))
        })
    }

    fn close(&self) -> StoreFuture<()> {
        self.call(|inner| {
            inner.closed = true;
            Ok(())
        })
    }
}
