//! What the engine asks of a store.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use serde::Serialize;

use crate::{
    error::Result,
    guid::Guid,
    job::{Delivery, Header, Job, JobId, JobRecord, Lane, QueueLimits},
    ports::Fleet,
    state::{Begun, Outcome, Resolution, State},
    time::Timestamp,
};

/// A store's answer. The call itself enqueues: **effects take place in the order of the calls**,
/// whatever the order in which the answers are polled, and also if an answer is dropped.
pub type StoreFuture<T> = BoxFuture<'static, Result<T>>;

/// Keeps jobs and decides every race.
///
/// The contract, in terms of crashes: every call is atomic; after a crash it is wholly done or
/// wholly undone; once an answer `Ok` was given it is done for good (as far as
/// [`Store::durability`] says). Writes are compare-and-set on the row's state and fence: a lost
/// race changes nothing and says so. Time is always an argument. An error of class
/// *full* means rolled back; *fatal* means that the store is poisoned and every later write fails.
///
/// The engine owns the store alone, unless the store has a [`Fleet`]; it may call from any thread.
pub trait Store: Send + Sync + 'static {
    /// What an acknowledgement is worth.
    fn durability(&self) -> Durability;

    /// T1. Verdicts come in the order of the jobs. An equal second item of a batch gets the first
    /// one's guid. If `atomic` and any verdict is a conflict, nothing is inserted.
    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>>;
    /// T2, each by itself, in order. A row that cannot be decoded, or whose grant cannot, is never
    /// claimed: it is marked as quarantined.
    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>>;
    /// T3 to T6, T9, T11, each by itself, in order. Settling twice the same is harmless.
    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>>;
    /// T7 or T8, each by itself, in order.
    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>>;
    /// Changes when a pending job is to start; `None` if there is no such job, the record otherwise
    /// (unchanged if it is not pending, or if its deadline is not after `run_at`).
    fn reschedule(&self, guid: Guid, run_at: Timestamp, now: Timestamp) -> StoreFuture<Option<Changed>>;
    /// T12; `None` if there is no such job, the record otherwise (unchanged if it is not unknown).
    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>>;
    /// T10 for at most `limit` rows whose owner is dead; how many. Without a [`Fleet`] those are the
    /// rows that were `starting` when this store was opened.
    fn reclaim(&self, limit: usize, now: Timestamp) -> StoreFuture<usize>;
    /// T9 for at most `limit` pending rows past their deadline.
    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired>;
    /// T13: deletes at most `limit` final rows that ended before `before`; with a submitter, only
    /// that one's. How many. `Unknown` rows go only if `unknown_too`.
    fn prune(&self, prune: Prune) -> StoreFuture<usize>;

    /// Pending rows with `after < (next_at, id)` and `next_at <= until`, in that order, at most `limit`.
    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>>;
    /// Due pending rows of one lane, in the order in which they are to be claimed: priority
    /// descending, `next_at`, id; at most `limit`.
    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>>;
    /// Lanes with pending rows in an order that stays the same, at most `limit`. `after` is one that
    /// an earlier call gave; it may be without pending rows by now. Costs O(limit).
    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>>;

    /// One job's record.
    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>>;
    /// A page of records in the order of insertion, or against it. A job that is there, and matches,
    /// all through a listing in pages comes exactly once. A filter that is malformed is *invalid*.
    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page>;
    /// Jobs by queue and state, kept with every write. Costs nothing that grows with the jobs.
    fn counts(&self) -> StoreFuture<Counts>;
    /// What was last stored under this name together with a batch.
    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>>;
    /// The limits that were set for queues, by name. A queue whose limits cannot be read is paused.
    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>>;
    /// Keeps a queue's limits in place of those that it had; `None` forgets them. Whether there are
    /// jobs in the queue does not matter.
    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()>;
    /// Writes a consistent copy to a new file while the store goes on.
    fn backup(&self, to: PathBuf) -> StoreFuture<()>;
    /// Waits for every call so far, tidies up (checkpoint) and lets go of the file.
    fn close(&self) -> StoreFuture<()>;

    /// For a store that several nodes share: this node's part in it.
    fn fleet(&self) -> Option<Arc<dyn Fleet>> {
        None
    }
}

/// What survives once a store has acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Nothing survives the process.
    Memory,
    /// Everything survives a power cut of this machine.
    Disk,
    /// Everything survives the loss of one machine.
    Replicated,
}

/// Jobs to insert in one transaction.
#[derive(Debug, Clone)]
pub struct InsertBatch {
    /// The jobs, each with the node that claims it in the same write (it must be due), if any.
    pub jobs: Vec<NewJob>,
    /// All or none.
    pub atomic: bool,
    /// Something to keep under a name in the same transaction, as [`Store::bookmark`].
    pub bookmark: Option<(String, Vec<u8>)>,
    /// The time of the write.
    pub now: Timestamp,
}

/// One job of an [`InsertBatch`].
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The job.
    pub job: Arc<Job>,
    /// T1 and T2 in one: insert it `starting` with fence 1, claimed by this node.
    pub claim: Option<Arc<str>>,
}

/// What became of one job of an [`InsertBatch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// It is a new row, pending or, if asked for, claimed with fence 1 and attempt 1.
    Created(JobId),
    /// The same content was submitted before under this guid or key; the first one's guid.
    Existing(Guid),
    /// The guid or the key names another content, or they name two different jobs.
    Conflict(Conflict),
    /// The batch is atomic and another item conflicts.
    Skipped,
}

/// Why a job cannot be inserted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The job that holds the guid or key.
    pub with: Guid,
    /// That job's place in this batch, if it came with it.
    pub with_item: Option<usize>,
    /// `guid` or `idempotency_key`.
    pub field: &'static str,
}

/// Who claims, and when.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The node.
    pub node: Arc<str>,
    /// The time of the claim.
    pub now: Timestamp,
}

/// A claimed job: all that its start needs.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its row.
    pub id: JobId,
    /// Its unchanging part.
    pub job: Arc<Job>,
    /// What its outcome must carry.
    pub fence: u32,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When it was claimed.
    pub claimed_at: Timestamp,
    /// When it was to start: `run_at` as of now.
    pub run_at: Timestamp,
    /// Crashes while starting, since the last attempt that settled.
    pub crashes: u32,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The row.
    pub id: JobId,
    /// The attempt's fence.
    pub fence: u32,
    /// When it began, if it did.
    pub begun: Option<Begun>,
    /// How it ended.
    pub outcome: Outcome,
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Where the job stands now.
    pub state: State,
    /// Whether the settlement was applied; if not, another fence or state came first.
    pub applied: bool,
}

/// A cancel's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelVerdict {
    /// No start begins after this (once more if it was cancelled before).
    Cancelled {
        /// The row, if this call changed it.
        id: Option<JobId>,
        /// The record as it is now; `possible_duplicate` says that an earlier attempt may have happened.
        record: Box<JobRecord>,
    },
    /// It was starting or final; a starting one will not be tried again.
    TooLate(Box<JobRecord>),
    /// No such job.
    NotFound,
}

/// The answer to a reschedule or a resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Whether the job was in a state that allows the change.
    pub applied: bool,
    /// The job's header, if it is pending now.
    pub header: Option<Header>,
    /// The record as it is now.
    pub record: JobRecord,
}

/// The answer to an expire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expired {
    /// The rows that were ended, with guid, lane and the state that they reached.
    pub ended: Vec<(JobId, Guid, Arc<Lane>, State)>,
    /// The next deadline of a pending row; earlier than `now` if the limit cut the work short.
    pub next: Option<Timestamp>,
}

/// What to delete.
#[derive(Debug, Clone)]
pub struct Prune {
    /// Rows that ended before this.
    pub before: Timestamp,
    /// Only this submitter's.
    pub submitted_by: Option<String>,
    /// Also unresolved `unknown` ones.
    pub unknown_too: bool,
    /// At most so many.
    pub limit: usize,
}

/// Which jobs to list. An absent condition matches all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub state: Option<State>,
    /// Pending or starting, whichever of the two it is when it is looked at.
    pub unfinished: bool,
    /// In this queue.
    pub queue: Option<String>,
    /// With this label.
    pub label: Option<(String, String)>,
    /// From this submitter.
    pub submitted_by: Option<String>,
    /// With this delivery.
    pub delivery: Option<Delivery>,
    /// Whose guid ends so: 1 to 32 lower-case hexadecimal digits, without hyphens.
    pub guid_suffix: Option<String>,
    /// With `run_at` not before this.
    pub from: Option<Timestamp>,
    /// With `run_at` before this.
    pub to: Option<Timestamp>,
}

/// Which page.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    /// After this row, in the order asked for.
    pub after: Option<JobId>,
    /// The newest first, instead of in the order of insertion.
    pub newest_first: bool,
    /// At most so many records.
    pub limit: usize,
    /// Look at no more than about so many rows; a page may end early and still have a cursor.
    pub row_budget: usize,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { after: None, newest_first: false, limit: 100, row_budget: 10_000 }
    }
}

/// A page of records.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The records.
    pub records: Vec<JobRecord>,
    /// Where the next page begins; none after the last.
    pub next: Option<JobId>,
}

/// Jobs by queue and state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    /// For each queue the number of jobs in each state; zeros are left out.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, BTreeMap<String, u64>>"))]
    pub queues: BTreeMap<String, BTreeMap<State, u64>>,
    /// Of them all, those whose stored row was found to be unreadable when they were to be claimed.
    pub quarantined: u64,
}

impl Counts {
    /// Jobs in this state, over all queues.
    pub fn total(&self, state: State) -> u64 {
        self.queues.values().filter_map(|states| states.get(&state)).sum()
    }

    /// Jobs that are not final, over all queues.
    pub fn unfinished(&self) -> u64 {
        self.total(State::Pending) + self.total(State::Starting)
    }
}
