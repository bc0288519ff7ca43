//! The store that many nodes share: one PostgreSQL, 13 or later.
//!
//! One connection writes, in the order of the calls; what waits for it goes into one transaction.
//! Another reads. Nothing rests on a session's state, so that a transaction pooler may stand between:
//! the one statement that is prepared is sent without its name once a session does not know it.

mod ask;
mod call;
mod change;
mod claim;
mod connect;
mod failure;
#[cfg(feature = "testing")]
mod faults;
mod fleet;
mod flight;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod import;
mod incoming;
mod insert;
mod limited;
mod link;
mod listing;
mod part;
mod plan;
mod reader;
mod rows;
mod schema;
mod settle;
mod shared;
mod sql;
#[cfg(test)]
mod tests;
mod texts;
mod tls;
mod transaction;
mod url;
mod writer;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use tokio::runtime::Handle;

pub use self::import::{Held, Mark, PostgresImport};
use self::{
    call::{Call, Work},
    connect::Target,
    fleet::Node,
    part::{Part, Seat, read},
    shared::Shared,
    sql::Texts,
};
#[cfg(feature = "testing")]
pub use self::{
    faults::{FAULTS, Fault},
    fleet::Rehearsal,
};
use crate::{
    error::{Error, ErrorKind, Result},
    guid::{Guid, GuidSuffix},
    job::{Header, JobId, JobRecord, Lane, QueueLimits},
    ports::{
        CancelVerdict, Changed, Claim, Claimed, Counts, Durability, Expired, Filter, Fleet, InsertBatch,
        Inserted, Page, PageRequest, Prune, Settled, Settlement, Store, StoreFuture,
    },
    state::Resolution,
    time::Timestamp,
};

/// How a [`PostgresStore`] takes part in its fleet.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// The queues whose jobs this node starts; it takes submits for all. Default: all.
    pub queues: Option<Vec<String>>,
    /// How long to go at most without looking for jobs that other nodes stored. Default 5 s; less
    /// where hints do not get through a pooler and jobs that other nodes stored must start sooner.
    pub poll_interval: Duration,
    /// Accept at_most_once jobs although a failover of the database may forget acknowledged writes.
    /// Asked for only if the URL names several hosts and no standby is synchronous. Default false.
    pub allow_async_failover: bool,
    /// Hear and give hints by LISTEN and NOTIFY, on a connection of their own, so that a job that one
    /// node has no room for starts on another at once instead of with its next look. Default true.
    pub hints: bool,
    /// This node's name. Default: a fresh UUID, so that no name is ever taken for its predecessor's.
    #[cfg(feature = "testing")]
    pub node: Option<String>,
    /// How this node's life differs from the usual.
    #[cfg(feature = "testing")]
    pub rehearsal: Rehearsal,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            queues: None,
            poll_interval: Duration::from_secs(5),
            allow_async_failover: false,
            hints: true,
            #[cfg(feature = "testing")]
            node: None,
            #[cfg(feature = "testing")]
            rehearsal: Rehearsal::default(),
        }
    }
}

/// Keeps jobs in a PostgreSQL database, for one node or many.
///
/// Dropping the store does everything that was called, then lets go of the database;
/// [`Store::close`] does so with an answer.
pub struct PostgresStore {
    part: Arc<Part>,
}

impl PostgresStore {
    /// Connects to the database at this URL, makes or upgrades its tables if it has to, and
    /// registers this node. The runtime that it is called in must outlive the store.
    ///
    /// # Errors
    /// [`Error::is_invalid`](crate::Error::is_invalid) for a URL that is none,
    /// [`Error::is_newer`](crate::Error::is_newer) if a newer, incompatible version of sendoff made
    /// the tables, [`Error::is_unusable`](crate::Error::is_unusable) if they cannot be used or made,
    /// [`Error::is_unavailable`](crate::Error::is_unavailable) if the database cannot be reached.
    pub async fn connect(url: &str, options: PostgresOptions) -> Result<Self> {
        Self::connect_with(url, options, Texts::new()).await
    }

    /// Connects with deliberate mistakes in the statements.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`].
    ///
    /// # Panics
    /// If a fault names no statement, or its text is not found there.
    #[cfg(feature = "testing")]
    pub async fn connect_with_faults(url: &str, options: PostgresOptions, faults: &[Fault]) -> Result<Self> {
        let mut texts = Texts::new();
        faults.iter().for_each(|fault| texts.plant(fault));
        Self::connect_with(url, options, texts).await
    }

    async fn connect_with(url: &str, options: PostgresOptions, texts: Texts) -> Result<Self> {
        let target = Target::parse(url)?;
        let mut connected = target.connect().await?;
        // Ends with the client.
        Handle::current().spawn(connected.driver);
        schema::prepare(&mut connected.client, schema::MIGRATIONS).await?;
        drop(connected.client);
        let texts = Arc::new(texts);
        let node = Node::join(target.clone(), texts.clone(), &options).await?;
        let forgetful = target.has_standbys() && !options.allow_async_failover;
        Ok(Self { part: Part::start(target, Shared::new(texts, node, forgetful)) })
    }

    /// Ends as a killed process would: what was called and not committed may be lost, and nobody is
    /// told that this node is gone.
    #[cfg(feature = "testing")]
    pub fn crash(self) {
        self.part.crash();
    }

    /// Holds up this node's heartbeat, or lets it go on.
    #[cfg(feature = "testing")]
    pub fn pause_heartbeat(&self, paused: bool) {
        self.part.shared.node.pause(paused);
    }

    fn write<I, O: Send + 'static>(&self, input: I, work: fn(Call<I, O>) -> Work) -> StoreFuture<O> {
        self.part.write(input, work)
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.part.end();
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("part", &self.part).finish_non_exhaustive()
    }
}

impl Store for PostgresStore {
    fn durability(&self) -> Durability {
        self.part.shared.node.durability()
    }

    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>> {
        self.write(batch, Work::Insert)
    }

    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>> {
        self.write((ids, by), Work::Claim)
    }

    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>> {
        self.write((settlements, now), Work::Settle)
    }

    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>> {
        self.write((guids, now), Work::Cancel)
    }

    fn reschedule(&self, guid: Guid, run_at: Timestamp, _now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.write((guid, run_at), Work::Reschedule)
    }

    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.write((guid, to, now), Work::Resolve)
    }

    fn reclaim(&self, limit: usize, now: Timestamp) -> StoreFuture<usize> {
        self.write((limit, now), Work::Reclaim)
    }

    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired> {
        self.write((limit, now), Work::Expire)
    }

    fn prune(&self, prune: Prune) -> StoreFuture<usize> {
        self.write(prune, Work::Prune)
    }

    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>> {
        let part = self.part.clone();
        let headers = read!(self.part, reader => reader.due(after, until, limit));
        Box::pin(async move { Ok(part.without_suspects(headers.await?)) })
    }

    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>> {
        let part = self.part.clone();
        let headers = read!(self.part, reader => reader.ready(&lane, now, limit));
        Box::pin(async move { Ok(part.without_suspects(headers.await?)) })
    }

    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>> {
        Box::pin(read!(self.part, reader => reader.lanes(after.as_ref(), limit)))
    }

    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>> {
        Box::pin(read!(self.part, reader => reader.get(guid)))
    }

    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page> {
        match filter.guid_suffix.as_deref().map(GuidSuffix::parse).transpose() {
            Ok(_) => Box::pin(read!(self.part, reader => reader.list(&filter, page))),
            Err(err) => Box::pin(std::future::ready(Err(err))),
        }
    }

    fn counts(&self) -> StoreFuture<Counts> {
        Box::pin(read!(self.part, reader => reader.counts()))
    }

    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>> {
        Box::pin(read!(self.part, reader => reader.bookmark(&name)))
    }

    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>> {
        Box::pin(read!(self.part, reader => reader.queues()))
    }

    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()> {
        self.write((queue, limits), Work::SetQueue)
    }

    fn backup(&self, _to: PathBuf) -> StoreFuture<()> {
        let words = "a PostgreSQL store is backed up by PostgreSQL's own tools: pg_dump --schema=sendoff";
        Box::pin(std::future::ready(Err(Error::new(ErrorKind::Unusable, words))))
    }

    fn close(&self) -> StoreFuture<()> {
        self.part.close()
    }

    fn fleet(&self) -> Option<Arc<dyn Fleet>> {
        Some(Arc::new(Seat(self.part.clone())))
    }
}
