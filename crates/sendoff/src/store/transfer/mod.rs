//! Moving jobs from one store to another: whole rows, whether two of them tell the same job, and
//! the move itself.

mod compare;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod migration;

use std::sync::Arc;

pub use compare::{Compared, Digest};
#[cfg(all(feature = "sqlite", feature = "postgres"))]
pub use migration::{Difference, Migration, Progress, Report, Step};

use crate::{
    guid::Guid,
    job::{Job, JobId},
    state::Life,
    time::Timestamp,
};

/// Everything that a store knows of one job.
#[derive(Debug, Clone)]
pub struct StoredJob {
    /// The store's own number of the row.
    pub id: JobId,
    /// The unchanging part.
    pub job: Arc<Job>,
    /// The changing part.
    pub life: Life,
    /// The row was found to be unreadable when it was to be claimed, and is left alone.
    pub quarantined: bool,
}

/// A row that a store cannot read whole, or that another store cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The store's own number of the row.
    pub id: JobId,
    /// The job's name, if that can be read.
    pub guid: Option<Guid>,
    /// Which part, and what is wrong with it; without its content.
    pub reason: String,
}

/// Where a store's jobs went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The move's own name, by which the other store knows how far it has come.
    pub id: Guid,
    /// The other store, without secrets.
    pub to: String,
    /// Since when.
    pub at: Timestamp,
}
