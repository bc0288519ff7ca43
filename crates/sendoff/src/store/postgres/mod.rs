//! The store that many nodes share: one PostgreSQL, 13 or later.
//!
//! One connection writes, in the order of the calls; what waits for it goes into one transaction.
//! Another reads. Nothing rests on a session's state, so that a transaction pooler may stand between.

mod ask;
mod connect;
mod failure;
mod import;
mod incoming;
mod link;
mod listing;
mod reader;
mod rows;
mod schema;
mod sql;
mod texts;
mod tls;
mod url;

use std::{fmt, time::Duration};

use connect::Target;
pub use import::PostgresImport;
#[cfg(feature = "sqlite")]
pub(crate) use import::{Held, Mark};

use crate::error::Result;

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
    /// This node's name. Default: a fresh UUID, so that no name is ever taken for its predecessor's.
    #[cfg(feature = "testing")]
    pub node: Option<String>,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            queues: None,
            poll_interval: Duration::from_secs(5),
            allow_async_failover: false,
            #[cfg(feature = "testing")]
            node: None,
        }
    }
}

/// Keeps jobs in a PostgreSQL database, for one node or many.
pub struct PostgresStore {
    target: Target,
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
    pub async fn connect(url: &str, _options: PostgresOptions) -> Result<Self> {
        let target = Target::parse(url)?;
        drop(target.connect().await?);
        Ok(Self { target })
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("target", &self.target).finish_non_exhaustive()
    }
}
