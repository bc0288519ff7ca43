//! One connection that comes back by itself.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_postgres::Client;

use super::connect::Target;
use crate::{
    error::{Error, ErrorKind, Result},
    time::{Clock, SystemClock},
};

/// How long a caller waits for a connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pauses between attempts to connect, doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// A connection to the database: opened when it is asked for, opened anew after it was lost.
pub(super) struct Link {
    target: Target,
    /// Told when a connection that was lost is back.
    back: Arc<Notify>,
    open: Mutex<Option<Open>>,
    /// Held by the one who connects; the others wait for it.
    attempts: tokio::sync::Mutex<Attempts>,
}

struct Open {
    client: Arc<Client>,
    driver: AbortHandle,
}

#[derive(Default)]
struct Attempts {
    connected_before: bool,
    /// Failures since the last connection.
    failed: u32,
    /// By [`Clock::elapsed`].
    not_before: Duration,
    last_error: Option<Error>,
}

impl Link {
    pub(super) fn new(target: Target, back: Arc<Notify>) -> Self {
        Self { target, back, open: Mutex::default(), attempts: tokio::sync::Mutex::default() }
    }

    /// The connection, opened now if there is none.
    ///
    /// # Errors
    /// [`Error::is_unavailable`] if there is none within about 2 s: nothing was done.
    pub(super) async fn client(&self) -> Result<Arc<Client>> {
        if let Some(client) = self.current() {
            return Ok(client);
        }
        match timeout(PATIENCE, self.connect()).await {
            Ok(client) => Ok(client),
            Err(_) => {
                let words = "the database cannot be reached; nothing was done, try again in a moment";
                let last = self.attempts.try_lock().ok().and_then(|mut at| at.last_error.take());
                Err(match last {
                    Some(last) => Error::new(ErrorKind::Unavailable, format!("{words}: {last}")),
                    None => Error::new(ErrorKind::Unavailable, words),
                })
            }
        }
    }

    /// Drops this connection after a failure, unless another has taken its place already.
    pub(super) fn lost(&self, client: &Arc<Client>) {
        let mut open = self.lock();
        if open.as_ref().is_some_and(|open| Arc::ptr_eq(&open.client, client)) {
            *open = None;
        }
    }

    /// Drops the connection, whichever it is.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn current(&self) -> Option<Arc<Client>> {
        let mut open = self.lock();
        if open.as_ref().is_some_and(|open| open.client.is_closed()) {
            *open = None;
        }
        open.as_ref().map(|open| open.client.clone())
    }

    async fn connect(&self) -> Arc<Client> {
        let mut attempts = self.attempts.lock().await;
        loop {
            // Another caller may have connected while this one waited.
            if let Some(client) = self.current() {
                return client;
            }
            sleep(attempts.not_before.saturating_sub(SystemClock.elapsed())).await;
            // Also if this caller's patience ends during the attempt.
            attempts.failed += 1;
            attempts.not_before = SystemClock.elapsed() + pause(attempts.failed);
            match self.target.connect().await {
                Ok(connected) => {
                    let client = Arc::new(connected.client);
                    let driver = connected.driver;
                    // Ends with the connection, which ends with its `Open`.
                    let driver = Handle::current().spawn(async move {
                        if let Err(err) = driver.await {
                            tracing::debug!(error = %super::failure::words(&err), "a connection to the database ended");
                        }
                    });
                    let open = Open { client: client.clone(), driver: driver.abort_handle() };
                    *self.lock() = Some(open);
                    if attempts.connected_before {
                        self.back.notify_one();
                    }
                    *attempts = Attempts { connected_before: true, ..Attempts::default() };
                    return client;
                }
                Err(err) => attempts.last_error = Some(err),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("target", &self.target).finish_non_exhaustive()
    }
}

/// The pause after so many failures, with jitter, so that nodes do not come back all at once.
fn pause(failed: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(16));
    doubled.min(LAST_PAUSE).mul_f64(fastrand::f64().mul_add(0.5, 0.75))
}
