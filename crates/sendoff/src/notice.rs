//! What happened to a job, told to whoever listens.

use std::sync::Arc;

use crate::{guid::Guid, state::State, time::Timestamp};

/// One change of state, sent after it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The job.
    pub guid: Guid,
    /// Its queue.
    pub queue: Arc<str>,
    /// The state that it reached.
    pub state: State,
    /// The attempt that led there; 0 before the first.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
}
