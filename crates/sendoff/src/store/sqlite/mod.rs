//! The durable store: one SQLite file, owned by one process.
//!
//! One thread writes; what waits for it goes into one transaction, answered after its commit
//! returned (write-ahead log, `synchronous=FULL`). Two threads read, one checkpoints.

mod backup;
mod change;
mod checkpoint;
mod claim;
mod export;
mod failure;
#[cfg(feature = "testing")]
mod faults;
mod files;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod grants;
mod insert;
mod lanes;
mod listing;
mod names;
mod open;
mod queues;
mod reader;
mod rows;
mod shared;
mod space;
mod sql;
mod thread;
mod writer;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
};

use tokio::sync::oneshot;

#[cfg(feature = "testing")]
pub use self::faults::{FAULTS, Fault};
use self::{
    failure::Failure,
    reader::{Reader, Request},
    shared::Shared,
    sql::Texts,
    writer::{Call, Message, Work},
};
use crate::{
    error::{Error, ErrorKind, Result},
    guid::{Guid, GuidSuffix},
    job::{Header, JobId, JobRecord, Lane, QueueLimits},
    ports::{
        CancelVerdict, Changed, Claim, Claimed, Counts, Durability, Expired, Filter, InsertBatch, Inserted,
        Page, PageRequest, Prune, Settled, Settlement, Store, StoreFuture,
    },
    state::Resolution,
    store::transfer::{Moved, StoredJob, Unreadable},
    time::Timestamp,
};

/// How a [`SqliteStore`] uses its machine.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// New jobs are refused ([`Error::is_full`]) while less than this many bytes, or less than
    /// `keep_free_percent` of the file system if that is less, are free beside the store, so that
    /// claims, outcomes and cancels still fit. Default 256 MiB.
    pub keep_free_bytes: u64,
    /// See `keep_free_bytes`. Default 2.
    pub keep_free_percent: u8,
    /// The writer's page cache in bytes. Default 8 MiB: more costs time, since SQLite goes through all
    /// of it at a commit that split a page (its `balance_nonroot` gives pages a number beyond the end
    /// of the file for a moment, and `pcache1TruncateUnsafe` then looks for such at each place).
    pub cache_bytes: usize,
    /// How many guids and keys of the clients' choosing stay in memory before they are moved to
    /// their index in order. Default 229,376, which take about 24 MiB at most.
    pub names_in_memory: usize,
    /// Opens it although its jobs were moved to another store, to read it: writes are refused then.
    /// Default false.
    pub moved_too: bool,
    /// The file may grow to so many pages of 4 KiB.
    #[cfg(feature = "testing")]
    pub max_pages: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            keep_free_bytes: 256 << 20,
            keep_free_percent: 2,
            cache_bytes: 8 << 20,
            names_in_memory: 229_376,
            moved_too: false,
            #[cfg(feature = "testing")]
            max_pages: None,
        }
    }
}

/// Keeps jobs in one SQLite file.
///
/// The process that opened it owns it alone, by a lock on the file `<path>.lock`, which the
/// operating system drops when the process ends, however it ends. Dropping the store does
/// everything that was called, then ends its threads; [`Store::close`] does so with an answer.
pub struct SqliteStore {
    queue: Option<mpsc::Sender<Message>>,
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

impl SqliteStore {
    /// Opens the store at `path`, or makes a new one (file 0600, missing directories 0700). Takes
    /// some milliseconds, whatever the number of jobs, but for the first time after an upgrade that
    /// changes the schema: then some seconds for each million jobs. Blocks the caller.
    ///
    /// # Errors
    /// [`Error::is_locked`] if another process owns it, [`Error::is_newer`] if a newer version of
    /// sendoff wrote it, [`Error::is_unusable`] if it is no store, cannot be read or written, or its
    /// jobs were moved to another store; [`Error::is_full`] if there is no room for it. An existing
    /// file is left as it was then.
    pub fn open(path: impl AsRef<Path>, options: SqliteOptions) -> Result<Self> {
        Self::open_with(path.as_ref(), options, Texts::new())
    }

    /// Copies the store at `from`, as it is now, to the new file `to`, without owning it: the process
    /// that owns it, if there is one, goes on. `to` is whole or absent. Blocks the caller.
    ///
    /// # Errors
    /// [`Error::is_unusable`] if `from` is no store or `to` exists or cannot be written,
    /// [`Error::is_newer`], [`Error::is_full`].
    pub fn backup_file(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<()> {
        open::check_store(from.as_ref())?;
        backup::backup(from.as_ref(), to.as_ref())
    }

    /// The jobs after this row in the order of insertion, as they are kept, at most `limit` of them;
    /// fewer where they are large, none after the last. A row that cannot be read says why.
    pub fn export(
        &self,
        after: Option<JobId>,
        limit: usize,
    ) -> StoreFuture<Vec<Result<StoredJob, Unreadable>>> {
        self.read(move |reader| reader.export(after, limit))
    }

    /// Everything that was stored together with batches, by name.
    pub fn bookmarks(&self) -> StoreFuture<BTreeMap<String, Vec<u8>>> {
        self.read(|reader| reader.bookmarks())
    }

    /// Where its jobs went, if they were moved.
    pub fn moved(&self) -> Option<&Moved> {
        self.shared.moved.get()
    }

    /// Says in the file that its jobs are in another store from now on: durable when answered.
    /// Nobody opens the file after that but with [`SqliteOptions::moved_too`], older versions of
    /// sendoff neither. From this call on the store takes no write, whatever the answer.
    pub fn set_moved(&self, moved: Moved) -> StoreFuture<()> {
        let marked = self.write(1, moved.clone(), export::mark);
        let _ = self.shared.moved.set(moved);
        marked
    }

    /// Opens the store with deliberate mistakes in its statements.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    ///
    /// # Panics
    /// If a fault names no statement, or its text is not found there.
    #[cfg(feature = "testing")]
    pub fn open_with_faults(
        path: impl AsRef<Path>,
        options: SqliteOptions,
        faults: &[Fault],
    ) -> Result<Self> {
        let mut texts = Texts::new();
        faults.iter().for_each(|fault| texts.plant(fault));
        Self::open_with(path.as_ref(), options, texts)
    }

    /// Ends as a killed process would: what was called and not committed is lost, nothing is
    /// tidied up.
    #[cfg(feature = "testing")]
    pub fn crash(self) {
        self.shared.crashed.store(true, Ordering::Relaxed);
    }

    fn open_with(path: &Path, options: SqliteOptions, texts: Texts) -> Result<Self> {
        let (path, lock) = open::claim_path(path)?;
        let (conn, moved) = open::open_writer(&path, &options)?;
        let shared = Arc::new(Shared::new(path, texts));
        if let Some(moved) = moved {
            let _ = shared.moved.set(moved);
        }
        let (queue, messages) = mpsc::channel();
        let (ready, opened) = mpsc::sync_channel(1);
        let writer = std::thread::Builder::new().name("sendoff-writer".into()).spawn({
            let shared = shared.clone();
            move || thread::run(conn, lock, &shared, &options, &messages, &ready)
        });
        let writer = writer.map_err(|err| {
            Error::new(ErrorKind::Unusable, "no thread for the store; lower other load").with_source(err)
        })?;
        let store = Self { queue: Some(queue), shared, writer: Some(writer) };
        opened.recv().unwrap_or_else(|_| Err(store.shared.ended()))?;
        Ok(store)
    }

    fn send(&self, message: Message) {
        if let Some(queue) = &self.queue {
            // An ended thread drops the message, and whoever waits for the reply is told.
            let _ = queue.send(message);
        }
    }

    fn write<I: Send + 'static, O: Send + 'static>(
        &self,
        rows: usize,
        input: I,
        work: Work<I, O>,
    ) -> StoreFuture<O> {
        if let Some(moved) = self.shared.moved.get() {
            return Box::pin(std::future::ready(Err(export::gone(&self.shared.path, moved))));
        }
        let (reply, answer) = oneshot::channel();
        self.shared.waiting.fetch_add(1, Ordering::AcqRel);
        self.send(Message::Write(Box::new(Call { rows, input, work, output: None, reply })));
        self.answered(answer)
    }

    fn read<O: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Reader<'_>) -> rusqlite::Result<O> + Send + 'static,
    ) -> StoreFuture<O> {
        let (reply, answer) = oneshot::channel();
        self.request(Box::new(move |reader| {
            let read = work(reader).map_err(|err| Failure::of(&err).error(err, &reader.shared.path));
            let _ = reply.send(read);
        }));
        self.answered(answer)
    }

    /// A read sees every write that was called before it, so it follows those that still wait.
    fn request(&self, request: Request) {
        if self.shared.waiting.load(Ordering::Acquire) == 0 {
            self.shared.pool.push(request);
        } else {
            self.send(Message::Read(request));
        }
    }

    fn answered<O: Send + 'static>(&self, answer: oneshot::Receiver<Result<O>>) -> StoreFuture<O> {
        let shared = self.shared.clone();
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(shared.ended())) })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
        // Only if the writer panicked is this not done yet.
        self.shared.pool.close();
    }
}

impl Store for SqliteStore {
    fn durability(&self) -> Durability {
        Durability::Disk
    }

    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>> {
        self.write(batch.jobs.len(), batch, insert::insert)
    }

    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>> {
        self.write(ids.len(), (ids, by), claim::claim)
    }

    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>> {
        self.write(settlements.len(), (settlements, now), change::settle)
    }

    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>> {
        self.write(guids.len(), (guids, now), change::cancel)
    }

    fn reschedule(&self, guid: Guid, run_at: Timestamp, _now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.write(1, (guid, run_at), change::reschedule)
    }

    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.write(1, (guid, to, now), change::resolve)
    }

    fn reclaim(&self, limit: usize, now: Timestamp) -> StoreFuture<usize> {
        self.write(limit, (limit, now), change::reclaim)
    }

    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired> {
        self.write(limit, (limit, now), change::expire)
    }

    fn prune(&self, prune: Prune) -> StoreFuture<usize> {
        self.write(prune.limit, prune, change::prune)
    }

    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>> {
        self.read(move |reader| reader.due(after, until, limit))
    }

    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>> {
        self.read(move |reader| reader.ready(&lane, now, limit))
    }

    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>> {
        self.read(move |reader| reader.lanes(after.as_deref(), limit))
    }

    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>> {
        self.read(move |reader| reader.get(&guid))
    }

    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page> {
        match filter.guid_suffix.as_deref().map(GuidSuffix::parse).transpose() {
            Ok(suffix) => self.read(move |reader| reader.list(&filter, suffix, page)),
            Err(err) => Box::pin(std::future::ready(Err(err))),
        }
    }

    fn counts(&self) -> StoreFuture<Counts> {
        self.read(|reader| reader.counts())
    }

    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>> {
        self.read(move |reader| reader.bookmark(&name))
    }

    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>> {
        self.read(|reader| reader.queues())
    }

    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()> {
        self.write(1, (queue, limits), queues::set)
    }

    fn backup(&self, to: PathBuf) -> StoreFuture<()> {
        let (reply, answer) = oneshot::channel();
        self.request(Box::new(move |reader| reader.shared.backup(to, reply)));
        self.answered(answer)
    }

    fn close(&self) -> StoreFuture<()> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Close(reply));
        self.answered(answer)
    }
}
