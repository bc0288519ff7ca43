//! What happened to a job, told to whoever listens.

use std::sync::Arc;

use serde::Serialize;

use crate::{guid::Guid, job::JobRecord, state::State, time::Timestamp};

/// One change of state, sent after it was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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

impl Notice {
    /// Where the job stands since `at`.
    pub(crate) fn of(record: &JobRecord, at: Timestamp) -> Self {
        Self {
            guid: record.guid,
            queue: record.queue.clone(),
            state: record.state,
            attempt: record.attempt,
            at,
        }
    }
}
