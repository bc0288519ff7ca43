//! What all threads of a store share.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use tokio::sync::oneshot;

use super::{backup, files::Files, reader::Pool, sql::Texts};
use crate::{
    error::{Error, ErrorKind, Result},
    store::transfer::Moved,
};

pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) files: Files,
    pub(super) texts: Texts,
    /// Writes called and not committed yet.
    pub(super) waiting: AtomicU64,
    pub(super) pool: Pool,
    /// Rows that a reader could not decode.
    pub(super) suspects: Mutex<BTreeSet<i64>>,
    /// Lanes in which a reader found nothing pending.
    pub(super) idle_lanes: Mutex<BTreeSet<i64>>,
    /// Pages in the write-ahead log, as of the last commit.
    pub(super) log_pages: AtomicU32,
    pub(super) closed: AtomicBool,
    /// Where the jobs went: from then on nothing is written here.
    pub(super) moved: OnceLock<Moved>,
    /// For tests: end as a killed process would.
    pub(super) crashed: AtomicBool,
    backups: Mutex<Vec<JoinHandle<()>>>,
}

impl Shared {
    pub(super) fn new(path: PathBuf, texts: Texts) -> Self {
        Self {
            files: Files::of(&path),
            path,
            texts,
            waiting: AtomicU64::new(0),
            pool: Pool::default(),
            suspects: Mutex::default(),
            idle_lanes: Mutex::default(),
            log_pages: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            moved: OnceLock::new(),
            crashed: AtomicBool::new(false),
            backups: Mutex::default(),
        }
    }

    /// Why a call gets no answer.
    pub(super) fn ended(&self) -> Error {
        let path = self.path.display();
        if self.closed.load(Ordering::Acquire) {
            Error::new(ErrorKind::Closed, format!("the store {path} is closed"))
        } else {
            Error::new(ErrorKind::Fatal, format!("a thread of the store {path} ended; stop this process"))
        }
    }

    /// Copies the database on a thread of its own.
    pub(super) fn backup(&self, to: PathBuf, reply: oneshot::Sender<Result<()>>) {
        let from = self.path.clone();
        let spawned = std::thread::Builder::new().name("sendoff-backup".into()).spawn(move || {
            let _ = reply.send(backup::backup(&from, &to));
        });
        let mut backups = self.backups.lock().unwrap_or_else(PoisonError::into_inner);
        backups.retain(|backup| !backup.is_finished());
        // Without a thread the reply is dropped, which answers the call.
        backups.extend(spawned);
    }

    pub(super) fn wait_for_backups(&self) {
        let backups = std::mem::take(&mut *self.backups.lock().unwrap_or_else(PoisonError::into_inner));
        for backup in backups {
            let _ = backup.join();
        }
    }
}
