//! A store that outlives its scheduler.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use sendoff::{
    Guid, Header, JobId, JobRecord, Lane, QueueLimits,
    ports::{
        CancelVerdict, Changed, Claim, Claimed, Counts, Durability, Expired, Filter, InsertBatch, Inserted,
        Page, PageRequest, Prune, Settled, Settlement, Store, StoreFuture,
    },
    state::Resolution,
    time::Timestamp,
};

/// Passes everything on but [`Store::close`]: a scheduler that stops leaves the store open, so
/// that the summary is made of what its last outcomes left.
pub(crate) struct Held(pub(crate) Arc<dyn Store>);

impl Store for Held {
    fn durability(&self) -> Durability {
        self.0.durability()
    }
    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>> {
        self.0.insert(batch)
    }
    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>> {
        self.0.claim(ids, by)
    }
    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>> {
        self.0.settle(settlements, now)
    }
    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>> {
        self.0.cancel(guids, now)
    }
    fn reschedule(&self, guid: Guid, run_at: Timestamp, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.0.reschedule(guid, run_at, now)
    }
    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.0.resolve(guid, to, now)
    }
    fn reclaim(&self, limit: usize, now: Timestamp) -> StoreFuture<usize> {
        self.0.reclaim(limit, now)
    }
    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired> {
        self.0.expire(limit, now)
    }
    fn prune(&self, prune: Prune) -> StoreFuture<usize> {
        self.0.prune(prune)
    }
    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>> {
        self.0.due(after, until, limit)
    }
    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>> {
        self.0.ready(lane, now, limit)
    }
    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>> {
        self.0.lanes(after, limit)
    }
    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>> {
        self.0.get(guid)
    }
    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page> {
        self.0.list(filter, page)
    }
    fn counts(&self) -> StoreFuture<Counts> {
        self.0.counts()
    }
    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>> {
        self.0.bookmark(name)
    }
    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>> {
        self.0.queues()
    }
    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()> {
        self.0.set_queue(queue, limits)
    }
    fn backup(&self, to: PathBuf) -> StoreFuture<()> {
        self.0.backup(to)
    }
    fn close(&self) -> StoreFuture<()> {
        Box::pin(std::future::ready(Ok(())))
    }
}
