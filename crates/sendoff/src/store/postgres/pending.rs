//! Stands in for the store until it is merged; never committed to main.
#![allow(unused_variables)]
use super::PostgresStore;
use crate::{
    error::{Error, ErrorKind},
    guid::Guid,
    job::*,
    ports::*,
    state::*,
    time::Timestamp,
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

fn away<T: Send + 'static>() -> StoreFuture<T> {
    Box::pin(async { Err(Error::new(ErrorKind::Unavailable, "not built yet")) })
}

impl Store for PostgresStore {
    fn durability(&self) -> Durability {
        Durability::Disk
    }
    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>> {
        away()
    }
    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>> {
        away()
    }
    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>> {
        away()
    }
    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>> {
        away()
    }
    fn reschedule(&self, guid: Guid, run_at: Timestamp, now: Timestamp) -> StoreFuture<Option<Changed>> {
        away()
    }
    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>> {
        away()
    }
    fn reclaim(&self, limit: usize, now: Timestamp) -> StoreFuture<usize> {
        away()
    }
    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired> {
        away()
    }
    fn prune(&self, prune: Prune) -> StoreFuture<usize> {
        away()
    }
    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>> {
        away()
    }
    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>> {
        away()
    }
    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>> {
        away()
    }
    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>> {
        away()
    }
    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page> {
        away()
    }
    fn counts(&self) -> StoreFuture<Counts> {
        away()
    }
    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>> {
        away()
    }
    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>> {
        away()
    }
    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()> {
        away()
    }
    fn backup(&self, to: PathBuf) -> StoreFuture<()> {
        away()
    }
    fn close(&self) -> StoreFuture<()> {
        away()
    }
}
