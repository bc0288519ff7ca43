//! The writer's thread from beginning to end; it starts the others and outlives them.

use std::{
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
};

use rusqlite::{Connection, ErrorCode, config::DbConfig};
use tokio::sync::oneshot;

use super::{
    SqliteOptions,
    checkpoint::Checkpointer,
    open, reader,
    shared::Shared,
    writer::{Message, Writer},
};
use crate::error::{Error, ErrorKind, Result};

/// Enough for two callers that list at once; the dispatcher's reads are short.
const READERS: usize = 2;

type CloseReply = oneshot::Sender<Result<()>>;

/// Owns the database's lock until all connections are closed.
pub(super) fn run(
    mut conn: Connection,
    lock: open::Lock,
    shared: &Arc<Shared>,
    options: &SqliteOptions,
    messages: &mpsc::Receiver<Message>,
    ready: &mpsc::SyncSender<Result<()>>,
) {
    let (close, poison) = match work(&mut conn, shared, options, messages, ready) {
        Ok(ended) => ended,
        Err(err) => {
            let _ = ready.send(Err(err));
            (None, None)
        }
    };
    let finished = match poison {
        // Closing would write once more, as if nothing had happened.
        Some(err) => {
            let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            Err(err)
        }
        None if shared.crashed.load(Ordering::Relaxed) => {
            let _ = conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            Ok(())
        }
        None => {
            crash_point!(CloseBeforeCheckpoint);
            conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .map_err(|err| super::failure::Failure::of(&err).error(err, &shared.path))
        }
    };
    crash_point!(CloseAfterCheckpoint);
    drop(conn);
    drop(lock);
    if let Some(close) = close {
        let _ = close.send(finished);
    }
}

fn work(
    conn: &mut Connection,
    shared: &Arc<Shared>,
    options: &SqliteOptions,
    messages: &mpsc::Receiver<Message>,
    ready: &mpsc::SyncSender<Result<()>>,
) -> Result<(Option<CloseReply>, Option<Error>)> {
    let broken = |err: rusqlite::Error| {
        let cure = match err.sqlite_error_code() {
            Some(ErrorCode::OutOfMemory | ErrorCode::CannotOpen) => {
                "raise the limits of memory and of open files"
            }
            _ => "restore a backup",
        };
        let words = format!("the store {} cannot be read; {cure}", shared.path.display());
        Error::new(ErrorKind::Unusable, words).with_source(err)
    };
    let no_thread = |err: std::io::Error| {
        Error::new(ErrorKind::Unusable, "no thread for the store; lower other load").with_source(err)
    };
    conn.wal_hook(Some({
        let shared = shared.clone();
        move |_: &mut rusqlite::hooks::Wal, pages: i32| {
            shared.log_pages.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }
    }))
    .map_err(broken)?;
    let mut writer = Writer::new(conn, shared.clone(), options).map_err(broken)?;
    let checkpointer =
        Checkpointer::start(open::open_checkpointer(&shared.path).map_err(broken)?, shared.clone())
            .map_err(no_thread)?;
    let mut readers: Vec<JoinHandle<()>> = Vec::with_capacity(READERS);
    let mut started = Ok(());
    let (ready_to_read, prepared) = mpsc::channel();
    for _ in 0..READERS {
        let spawned = open::open_reader(&shared.path).map_err(broken).and_then(|conn| {
            let (shared, recent, ready) = (shared.clone(), writer.names.shared(), ready_to_read.clone());
            let read = move || reader::run(&conn, shared, recent, &ready);
            std::thread::Builder::new().name("sendoff-reader".into()).spawn(read).map_err(no_thread)
        });
        match spawned {
            Ok(reader) => readers.push(reader),
            Err(err) => started = Err(err),
        }
    }
    drop(ready_to_read);
    // Without its readers a store would keep callers waiting for ever.
    for _ in 0..readers.len() {
        if let Ok(Err(err)) = prepared.recv() {
            started = Err(broken(err));
        }
    }
    let close = match started {
        Ok(()) => {
            let _ = ready.send(Ok(()));
            writer.run(messages, &checkpointer)
        }
        Err(ref _err) => None,
    };
    shared.closed.store(true, Ordering::Release);
    shared.pool.close();
    for reader in readers {
        let _ = reader.join();
    }
    shared.wait_for_backups();
    started.map(|()| (close, writer.poison().map(Error::again)))
}
