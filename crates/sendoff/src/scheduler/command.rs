//! What callers ask of the driver, through the inbox.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    error::Result,
    guid::Guid,
    job::{Job, QueueLimits},
    ports::{CancelVerdict, Changed, Durability, Inserted},
    state::Resolution,
    time::Timestamp,
};

pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// One call; those that change jobs take effect in the order in which they were sent.
pub(super) enum Command {
    Submit {
        job: Arc<Job>,
        reply: Reply<Stored>,
        room: OwnedSemaphorePermit,
    },
    Batch {
        batch: NewBatch,
        reply: Reply<Vec<Inserted>>,
        room: OwnedSemaphorePermit,
    },
    Cancel {
        guids: Vec<Guid>,
        reply: Reply<Vec<CancelVerdict>>,
    },
    Reschedule {
        guid: Guid,
        run_at: Timestamp,
        reply: Reply<Option<Changed>>,
    },
    Resolve {
        guid: Guid,
        to: Resolution,
        reply: Reply<Option<Changed>>,
    },
    /// Answered when everything before it is stored.
    Barrier(Reply<()>),
    QueueLimits {
        queue: Arc<str>,
        limits: Option<QueueLimits>,
        reply: Reply<()>,
    },
    MaxInFlight(usize),
    Shutdown {
        grace: Duration,
        reply: oneshot::Sender<ShutdownReport>,
    },
}

/// Jobs that go to the store in one call.
pub(super) struct NewBatch {
    pub(super) jobs: Vec<Arc<Job>>,
    pub(super) atomic: bool,
    pub(super) bookmark: Option<(String, Vec<u8>)>,
}

/// The answer to a submit: the job is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The job's name; the first one's if the same job was submitted before.
    pub guid: Guid,
    /// Whether this call made the job.
    pub created: bool,
    /// What survives what.
    pub durability: Durability,
}

/// The answer to a submit, and what is needed to show the job's record as it was stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) accepted: Accepted,
    /// If it was made, and inserted claimed: by which node, and when.
    pub(super) claimed: Option<(Arc<str>, Timestamp)>,
}

/// What a shutdown did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Attempts that were given back because they had not begun.
    pub released: usize,
    /// Attempts that were given up after the grace period; they count as ambiguous.
    pub abandoned: usize,
    /// Outcomes that could not be stored; the next start finds these jobs as after a crash.
    pub unsettled: usize,
}
