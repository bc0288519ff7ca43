//! The stream of changes.

use tokio::sync::{broadcast, watch};

use crate::notice::Notice;

/// Changes of state, in the order in which they were committed, from the time of
/// [`Scheduler::notices`](super::Scheduler::notices) on.
#[derive(Debug)]
pub struct Notices {
    notices: broadcast::Receiver<Notice>,
    done: watch::Receiver<bool>,
}

/// The listener was too slow: so many notices were dropped. Read what matters from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} notices were missed")]
pub struct Lagged(pub u64);

impl Notices {
    pub(super) fn new(notices: broadcast::Receiver<Notice>, done: watch::Receiver<bool>) -> Self {
        Self { notices, done }
    }

    /// The next change; `None` when the scheduler has stopped and everything was told. Loses
    /// nothing if dropped midway.
    pub async fn next(&mut self) -> Option<Result<Notice, Lagged>> {
        let received = tokio::select! {
            biased;
            received = self.notices.recv() => received,
            // Handles may outlive the scheduler, and with them the channel.
            _ = self.done.wait_for(|done| *done) => match self.notices.try_recv() {
                Ok(notice) => Ok(notice),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    Err(broadcast::error::RecvError::Lagged(missed))
                }
                Err(_) => return None,
            },
        };
        match received {
            Ok(notice) => Some(Ok(notice)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(Lagged(missed))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}
