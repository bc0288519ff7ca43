//! Checkpoints beside the writer: its own connection copies the write-ahead log into the database
//! while the writer goes on, so that no commit waits for it.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;

use super::{failure::Failure, shared::Shared};

/// How long after a commit.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Signal {
    state: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    dirty: bool,
    stop: bool,
    /// What a checkpoint met that a later one does not make up for.
    broken: Option<rusqlite::Error>,
}

/// The thread that checkpoints; sleeps while nothing is written.
pub(super) struct Checkpointer {
    signal: Arc<Signal>,
    thread: Option<JoinHandle<()>>,
}

/// Copies what no reader needs any more, without waiting for anybody.
///
/// # Errors
/// SQLite's. Somebody else being at it is none.
pub(super) fn passive(conn: &Connection) -> rusqlite::Result<()> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

impl Checkpointer {
    pub(super) fn start(conn: Connection, shared: Arc<Shared>) -> std::io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let thread = std::thread::Builder::new().name("sendoff-checkpoint".into()).spawn({
            let signal = signal.clone();
            move || signal.run(&conn, &shared)
        })?;
        Ok(Self { signal, thread: Some(thread) })
    }

    /// Why the store cannot be trusted any more, said once.
    pub(super) fn take_broken(&self) -> Option<rusqlite::Error> {
        self.signal.lock().broken.take()
    }

    /// Something was committed.
    pub(super) fn dirty(&self) {
        let mut wanted = self.signal.lock();
        if !wanted.dirty {
            wanted.dirty = true;
            self.signal.changed.notify_one();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.signal.lock().stop = true;
        self.signal.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Signal {
    fn lock(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, conn: &Connection, shared: &Shared) {
        let mut wanted = self.lock();
        loop {
            while !wanted.dirty && !wanted.stop {
                wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
            }
            wanted = self
                .changed
                .wait_timeout_while(wanted, PAUSE, |wanted| !wanted.stop)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(wanted, _)| wanted);
            if wanted.stop {
                return;
            }
            wanted.dirty = false;
            drop(wanted);
            crash_point!(CheckpointBefore);
            let result = passive(conn);
            crash_point!(CheckpointAfter);
            // It may have made the database longer. What is wrong is found again after the next commit.
            let _ = shared.files.check();
            wanted = self.lock();
            match result {
                Err(err) if Failure::of(&err) == Failure::Fatal => wanted.broken = Some(err),
                // The log still holds everything.
                Err(err) => tracing::warn!(error = %err, "a checkpoint failed"),
                Ok(()) => {}
            }
        }
    }
}
