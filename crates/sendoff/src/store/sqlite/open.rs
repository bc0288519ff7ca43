//! Opening: who owns the store, whether it is one, and which version.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{ErrorKind as Io, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};
use rustix::fs::{FlockOperation, OFlags, flock};

use super::{SqliteOptions, export};
use crate::{
    error::{Error, ErrorKind, Result},
    store::transfer::Moved,
};

/// "send", in the header of each database of ours.
const APPLICATION_ID: i32 = 0x7365_6e64;

/// "senm": the same once its jobs were moved to another store.
pub(super) const MOVED_ID: i32 = 0x7365_6e6d;

/// Step n leads from schema n to n + 1, each in one transaction. Only ever append.
pub(super) const MIGRATIONS: [&str; 3] = [
    include_str!("sql/0001_jobs.sql"),
    include_str!("sql/0002_grants.sql"),
    include_str!("sql/0003_ready.sql"),
];

/// The first without the WAL-reset race, which lost commits when two connections wrote and
/// checkpointed.
const OLDEST_SQLITE: i32 = 3_051_003;

/// How long to wait for another program that looks into the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often, and how far apart, to look again for a lock whose owner has ended: a process that the
/// owner was just starting holds copies of its descriptors until its exec, and outlives a SIGKILL.
const ORPHANS: u32 = 500;
const ORPHANS_PAUSE: Duration = Duration::from_millis(10);

fn unusable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unusable, format!("the store {} cannot be used: {why}", path.display()))
}

/// Sees to the directory, and that nobody else owns the store. The database file is created here
/// only if it does not exist, so that nothing but SQLite ever opens an existing one: closing it
/// would drop SQLite's locks.
pub(super) fn claim_path(path: &Path) -> Result<(PathBuf, Lock)> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(unusable(
            path,
            format!("SQLite {} may lose commits; build with 3.51.3 or later", rusqlite::version()),
        ));
    }
    let Some(name) = path.file_name() else {
        return Err(unusable(path, "it is not the path of a file"));
    };
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let no_directory = |err: std::io::Error| {
        unusable(path, "its directory cannot be created; name another place").with_source(err)
    };
    let missing: Vec<_> = parent.ancestors().take_while(|directory| !directory.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(no_directory)?;
    // SQLite makes the files durable, but not the directories above them.
    for made in missing {
        sync_directory(made).map_err(no_directory)?;
    }
    let parent = parent
        .canonicalize()
        .map_err(|err| unusable(path, "its directory cannot be read").with_source(err))?;
    let mut path = parent.join(name);
    if path.is_symlink() {
        // One file has one lock, whatever name leads to it.
        path = path.canonicalize().map_err(|err| {
            unusable(&path, "it is a link that leads nowhere; name the file itself").with_source(err)
        })?;
    }
    if path.is_dir() {
        return Err(unusable(&path, "it is a directory; name a file in it"));
    }
    let was_opened = lock_path(&path).exists();
    let lock = lock(&path)?;
    if was_opened && fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
        tracing::warn!(
            "the store {} is empty, but was opened before: its jobs are gone, unless the file is put back",
            path.display()
        );
    }
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(_) => {}
        Err(err) if err.kind() == Io::AlreadyExists => {}
        Err(err) => {
            return Err(
                unusable(&path, "it cannot be created; name a directory you may write to").with_source(err)
            );
        }
    }
    crash_point!(StoreCreated);
    Ok((path, lock))
}

/// Held as long as the store is open; never judged by the file's existence. std opens it
/// close-on-exec, so a started process does not hold it.
pub(super) struct Lock(File);

impl Drop for Lock {
    /// Closing alone would not do: a process between its start and its exec holds a copy of the
    /// descriptor, and with it the lock. It is free at once if it is given up by name (flock(2)).
    fn drop(&mut self) {
        if let Err(err) = flock(&self.0, FlockOperation::Unlock) {
            tracing::warn!(error = %err, "giving up the lock of the store");
        }
    }
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

fn lock(path: &Path) -> Result<Lock> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(lock_path(path))
        .map_err(|err| {
            unusable(path, "its lock file cannot be written; name a directory you may write to")
                .with_source(err)
        })?;
    let mut left = ORPHANS;
    while let Err(err) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if err != rustix::io::Errno::WOULDBLOCK {
            return Err(unusable(path, "its lock file cannot be locked").with_source(err));
        }
        let mut owner = String::new();
        let known = file.rewind().and_then(|()| file.read_to_string(&mut owner)).is_ok();
        let owner = if known { owner.trim() } else { "" };
        if left == 0 || !is_gone(owner) {
            let owner = if owner.is_empty() { String::new() } else { format!(" (process {owner})") };
            return Err(Error::new(
                ErrorKind::Locked,
                format!(
                    "the store {} is in use by another sendoff{owner}; stop it or name another store",
                    path.display()
                ),
            ));
        }
        left -= 1;
        std::thread::sleep(ORPHANS_PAUSE);
    }
    // For the message above only; a lock without it is as good.
    let _ = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
    Ok(Lock(file))
}

/// Whether the process that wrote its number into the lock file has ended.
fn is_gone(owner: &str) -> bool {
    let pid = owner.parse().ok().and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

/// The writer's connection: checks what the file is and brings its schema up to date.
/// Where its jobs went, if they were moved and the options say to open it all the same.
pub(super) fn open_writer(path: &Path, options: &SqliteOptions) -> Result<(Connection, Option<Moved>)> {
    let failed = |err| open_error(path, err);
    let mut conn = connect(path).map_err(failed)?;
    let moved = check(&conn, path, failed)?;
    if let Some(moved) = moved.as_ref().filter(|_| !options.moved_too) {
        return Err(export::gone(path, moved));
    }
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(failed)?;
    if mode != "wal" {
        return Err(unusable(path, "its file system has no shared memory for a write-ahead log"));
    }
    conn.execute_batch(&format!(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA foreign_keys = OFF;
         PRAGMA cache_size = -{};",
        options.cache_bytes / 1024
    ))
    .map_err(failed)?;
    migrate(&mut conn).map_err(failed)?;
    // Not before: an index over many jobs is sorted in what temporary tables are kept in.
    conn.execute_batch("PRAGMA temp_store = MEMORY").map_err(failed)?;
    #[cfg(feature = "testing")]
    if let Some(pages) = options.max_pages {
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).map_err(failed)?;
    }
    Ok((conn, moved))
}

fn open_error(path: &Path, err: rusqlite::Error) -> Error {
    match err.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => {
            unusable(path, "it is not a sendoff store (not an SQLite database); name another file")
        }
        Some(ErrorCode::DatabaseBusy) => Error::new(
            ErrorKind::Locked,
            format!("another program holds the store {} locked; close it and try again", path.display()),
        ),
        Some(ErrorCode::DiskFull) => {
            Error::new(ErrorKind::Full, format!("no room for the store {}; free some space", path.display()))
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            unusable(path, "this user may not write it; check its owner and mode").with_source(err)
        }
        _ => unusable(path, "SQLite cannot open it").with_source(err),
    }
}

/// Refuses a file that is no store of ours, without owning it.
pub(super) fn check_store(path: &Path) -> Result<()> {
    let failed = |err| open_error(path, err);
    let conn = connect(path).map_err(failed)?;
    let moved = check(&conn, path, failed)?;
    let application: i32 = conn.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(failed)?;
    if application != APPLICATION_ID && moved.is_none() {
        return Err(unusable(path, "it is empty; name another file"));
    }
    Ok(())
}

/// A connection that only checkpoints.
pub(super) fn open_checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let conn = connect(path)?;
    open_log(&conn)?;
    Ok(conn)
}

/// SQLite opens the log when it first reads: later there might be no descriptor left.
fn open_log(conn: &Connection) -> rusqlite::Result<()> {
    conn.query_row("PRAGMA user_version", [], |_| Ok(()))
}

/// A connection that only reads.
pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = connect(path)?;
    conn.execute_batch("PRAGMA query_only = ON; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -4096;")?;
    open_log(&conn)?;
    Ok(conn)
}

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(PATIENCE)?;
    // Else SQLite plans some statements anew whenever their parameters change.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(conn)
}

/// Where the jobs went, if they were moved. Changes nothing.
fn check(conn: &Connection, path: &Path, failed: impl Fn(rusqlite::Error) -> Error) -> Result<Option<Moved>> {
    let number = |sql| conn.query_row(sql, [], |row| row.get::<_, i32>(0)).map_err(&failed);
    let (application, version) = (number("PRAGMA application_id")?, number("PRAGMA user_version")?);
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let moved = if application == MOVED_ID { export::moved(conn).map_err(&failed)? } else { None };
    let ours = application == APPLICATION_ID || moved.is_some();
    if !ours && (application, version, tables) != (0, 0, 0) {
        return Err(unusable(path, "it is the database of another program; name another file"));
    }
    if usize::try_from(version).is_ok_and(|version| version > MIGRATIONS.len()) {
        return Err(Error::new(
            ErrorKind::Newer,
            format!(
                "the store {} was written by a newer sendoff (schema {version}, this one knows {}); \
                 use that version or name another store",
                path.display(),
                MIGRATIONS.len()
            ),
        ));
    }
    Ok(moved)
}

/// Each step is one transaction, so a crash leaves the schema before or after it.
fn migrate(conn: &mut Connection) -> rusqlite::Result<()> {
    let version: usize = conn.query_row("PRAGMA user_version", [], |row| row.get::<_, u32>(0))? as usize;
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(version) {
        if version > 0 {
            tracing::info!(
                schema = step + 1,
                "bringing the store up to date; with many jobs this takes a while"
            );
        }
        let transaction = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.execute_batch(&format!("PRAGMA user_version = {};", step + 1))?;
        // What is there already may be the number of a store that was moved.
        if step == 0 {
            transaction.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID}"))?;
        }
        crash_point!(MigrateBeforeCommit);
        transaction.commit()?;
        crash_point!(MigrateAfterCommit);
    }
    Ok(())
}

/// Makes a file's directory entry durable.
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Removes a half-made file; that it cannot be removed changes nothing for the caller.
pub(super) fn discard(path: &Path) {
    let _ = fs::remove_file(path);
}
