//! What the engine tells of its work, for metrics.

use std::{sync::Arc, time::Duration};

use crate::{
    job::{ErrorClass, Lane},
    state::State,
};

/// Is told of each attempt and each call of the store, on the scheduler's loop: it must be quick and
/// must not block.
pub trait Observer: Send + Sync + 'static {
    /// An attempt's outcome is stored.
    fn attempt_ended(&self, attempt: &AttemptSeen<'_>) {
        let _ = attempt;
    }

    /// The store has answered a call of this kind (`insert`, `claim`, `settle`, …), `took` after it
    /// was made.
    fn store_answered(&self, call: &'static str, took: Duration, ok: bool) {
        let _ = (call, took, ok);
    }
}

/// One attempt, as an [`Observer`] sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttemptSeen<'a> {
    /// Queue, starter and destination.
    pub lane: &'a Arc<Lane>,
    /// Where the job stands now: `Pending` after a retry or a release.
    pub state: State,
    /// What kind of failure it met, if any.
    pub failure: Option<ErrorClass>,
    /// For a first attempt that began: how long after it could have.
    pub wait: Option<Duration>,
    /// For one that started its target: how long the target took.
    pub took: Option<Duration>,
}
