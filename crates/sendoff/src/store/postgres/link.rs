//! One connection that comes back by itself.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Notify, OwnedMutexGuard},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_postgres::Client;

use super::connect::Target;
use crate::error::{Error, ErrorKind, Result};

/// How long a caller waits for a connection.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pauses between attempts to connect, doubling from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// A connection to the database: opened when it is asked for, opened anew after it was lost.
pub(super) struct Link {
    shared: Arc<Shared>,
    /// Held by what connects; the others wait for it.
    attempts: Arc<tokio::sync::Mutex<Attempts>>,
    /// Whoever connects ends with the link.
    connecting: Mutex<Option<AbortHandle>>,
    /// Held by who has a request under way, where no other may be sent behind it.
    turn: tokio::sync::Mutex<()>,
}

struct Shared {
    target: Target,
    /// Told when a connection that was lost is back.
    back: Arc<Notify>,
    open: Mutex<Option<Open>>,
    last_error: Mutex<Option<Error>>,
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
}

impl Link {
    pub(super) fn new(target: Target, back: Arc<Notify>) -> Self {
        let shared = Shared { target, back, open: Mutex::default(), last_error: Mutex::default() };
        Self {
            shared: Arc::new(shared),
            attempts: Arc::default(),
            connecting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// The connection, opened now if there is none.
    ///
    /// # Errors
    /// [`Error::is_unavailable`] if there is none within about 2 s: nothing was done.
    pub(super) async fn client(&self) -> Result<Arc<Client>> {
        if let Some(client) = self.shared.current() {
            return Ok(client);
        }
        timeout(PATIENCE, self.connect()).await.map_err(|_| {
            let words = "the database cannot be reached; nothing was done, try again in a moment";
            match &*lock(&self.shared.last_error) {
                Some(last) => Error::new(ErrorKind::Unavailable, format!("{words}: {last}")),
                None => Error::new(ErrorKind::Unavailable, words),
            }
        })
    }

    /// Whether a session may be asked to keep prepared statements, and requests sent behind each
    /// other. PgBouncer before 1.21 lends a session on, with the answers still to come, if its client
    /// vanishes between two requests that it has sent already; the next client takes them for its own.
    pub(super) fn prepares(&self) -> bool {
        self.shared.target.prepares()
    }

    /// Whose turn it is to ask; everybody's if requests may be sent behind each other.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let held = if self.prepares() { None } else { Some(self.turn.lock().await) };
        Turn { link: self, held }
    }

    /// The connection, if there is one.
    pub(super) fn current(&self) -> Option<Arc<Client>> {
        self.shared.current()
    }

    /// Drops this connection after a failure, unless another has taken its place already.
    pub(super) fn lost(&self, client: &Arc<Client>) {
        lock(&self.shared.open).take_if(|open| Arc::ptr_eq(&open.client, client));
    }

    /// Drops the connection, whichever it is.
    pub(super) fn close(&self) {
        *lock(&self.shared.open) = None;
    }

    async fn connect(&self) -> Arc<Client> {
        let attempts = self.attempts.clone().lock_owned().await;
        // Another caller may have connected while this one waited.
        if let Some(client) = self.shared.current() {
            return client;
        }
        // Goes on after this caller's patience: one server of several may need longer than that to be
        // given up, and the next would never be tried.
        let connecting = Handle::current().spawn(self.shared.clone().connect(attempts));
        *lock(&self.connecting) = Some(connecting.abort_handle());
        match connecting.await {
            Ok(client) => client,
            // The link or the runtime ends.
            Err(_) => std::future::pending().await,
        }
    }
}

/// See [`Link::turn`]. Who gives up a request in the middle takes the connection along, as its answer
/// is still to come.
pub(super) struct Turn<'a> {
    link: &'a Link,
    held: Option<tokio::sync::MutexGuard<'a, ()>>,
}

impl Turn<'_> {
    /// All that was sent is answered, or the connection is lost.
    pub(super) fn over(mut self) {
        self.held = None;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.held.is_some() {
            self.link.close();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(connecting) = &*lock(&self.connecting) {
            connecting.abort();
        }
    }
}

impl Shared {
    fn current(&self) -> Option<Arc<Client>> {
        let mut open = lock(&self.open);
        open.take_if(|open| open.client.is_closed());
        open.as_ref().map(|open| open.client.clone())
    }

    /// Tries until it is connected.
    async fn connect(self: Arc<Self>, mut attempts: OwnedMutexGuard<Attempts>) -> Arc<Client> {
        loop {
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
                    *lock(&self.open) = Some(open);
                    *lock(&self.last_error) = None;
                    if attempts.connected_before {
                        self.back.notify_one();
                    }
                    *attempts = Attempts { connected_before: true, failed: 0 };
                    return client;
                }
                Err(err) => *lock(&self.last_error) = Some(err),
            }
            attempts.failed += 1;
            sleep(pause(attempts.failed)).await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Open {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("target", &self.shared.target).finish_non_exhaustive()
    }
}

/// The pause after so many failures, with jitter, so that nodes do not come back all at once.
fn pause(failed: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failed.saturating_sub(1).min(16));
    doubled.min(LAST_PAUSE).mul_f64(fastrand::f64().mul_add(0.5, 0.75))
}
