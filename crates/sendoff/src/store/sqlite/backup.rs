//! A consistent copy of the database while the store goes on.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rusqlite::{
    Connection, OpenFlags,
    backup::{Backup, StepResult},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::open;
use crate::error::{Error, ErrorKind, Result};

/// Copies the database at `from` as it is now to the new file `to`. The copy is made under another
/// name beside it, so that `to` is either whole or absent.
pub(super) fn backup(from: &Path, to: &Path) -> Result<()> {
    let refused =
        |why: &str| Error::new(ErrorKind::Unusable, format!("no backup to {}: {why}", to.display()));
    let Some(name) = to.file_name() else { return Err(refused("it is not the path of a file")) };
    if to.symlink_metadata().is_ok() {
        return Err(refused("it exists already; name a new file"));
    }
    let mut partial_name = name.to_owned();
    partial_name.push(format!(".{}.partial", std::process::id()));
    let partial = to.with_file_name(partial_name);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&partial)
        .map_err(|err| refused("its directory cannot be written; name another place").with_source(err))?;
    let made = copy(from, &partial).map_err(|err| match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => {
            Error::new(ErrorKind::Full, format!("no room for the backup {}; free some space", to.display()))
        }
        _ => refused("it cannot be written").with_source(err),
    });
    let made = made.and_then(|()| {
        let placed = File::open(&partial)
            .and_then(|file| file.sync_all())
            .and_then(|()| Ok(renameat_with(CWD, &partial, CWD, to, RenameFlags::NOREPLACE)?))
            .and_then(|()| open::sync_directory(to));
        placed.map_err(|err| refused("it cannot be put in place").with_source(err))
    });
    if made.is_err() {
        open::discard(&partial);
    }
    made
}

fn copy(from: &Path, to: &Path) -> rusqlite::Result<()> {
    let source = open::open_reader(from)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut target = Connection::open_with_flags(to, flags)?;
    {
        let backup = Backup::new(&source, &mut target)?;
        // All in one step: in several ones, each commit in between would start the copy anew.
        match backup.step(-1)? {
            StepResult::Done => {}
            _ => {
                return Err(rusqlite::Error::SqliteFailure(
                    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
                    None,
                ));
            }
        }
    }
    target.close().map_err(|(_, err)| err)
}
