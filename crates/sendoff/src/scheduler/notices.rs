//! The stream of changes.

use tokio::sync::broadcast;

use crate::notice::Notice;

/// Changes of state, in the order in which they were committed, from the time of
/// [`Scheduler::notices`](super::Scheduler::notices) on.
#[derive(Debug)]
pub struct Notices(broadcast::Receiver<Notice>);

/// The listener was too slow: so many notices were dropped. Read what matters from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} notices were missed")]
pub struct Lagged(pub u64);

impl Notices {
    pub(super) fn new(receiver: broadcast::Receiver<Notice>) -> Self {
        Self(receiver)
    }

    /// The next change; `None` when the scheduler is gone. Loses nothing if dropped midway.
    pub async fn next(&mut self) -> Option<Result<Notice, Lagged>> {
        match self.0.recv().await {
            Ok(notice) => Some(Ok(notice)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(Lagged(missed))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
