//! Whether the store's files are still those that were opened. SQLite goes on with a file that has no
//! name any more, and what it commits there is gone with the process.

use std::{
    ffi::{CStr, CString},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use crate::error::{Error, ErrorKind};

/// The database and its write-ahead log, by their names, which are ready for the system: each commit asks
/// for them.
pub(super) struct Files {
    names: [CString; 2],
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Device and inode of each.
    places: [Option<(u64, u64)>; 2],
    /// The database never shrinks.
    size: u64,
}

impl Files {
    /// Of a database that is open.
    pub(super) fn of(database: &Path) -> Self {
        let name = database.as_os_str().as_bytes();
        // SQLite has opened it, so there is no NUL in its path.
        let names =
            [name.to_vec(), [name, b"-wal"].concat()].map(|name| CString::new(name).unwrap_or_default());
        let files = Self { names, seen: Mutex::default() };
        // What is not there yet is taken as it is when it is first seen.
        let _ = files.check();
        files
    }

    /// After what may have changed them.
    ///
    /// # Errors
    /// Somebody removed, replaced or cut a file.
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let [database, log] = &self.names;
        let size = look(database, &mut seen.places[0])?;
        look(log, &mut seen.places[1])?;
        if size < seen.size {
            return Err(touched(database, "was cut short"));
        }
        seen.size = size;
        Ok(())
    }
}

/// The size of the file of this name, if it is the known one.
fn look(name: &CStr, known: &mut Option<(u64, u64)>) -> Result<u64, Error> {
    let file = rustix::fs::lstat(name).ok();
    let now = file.map(|file| (file.st_dev, file.st_ino));
    if known.is_some() && *known != now {
        return Err(touched(name, "was removed or replaced"));
    }
    *known = now;
    Ok(file.map_or(0, |file| file.st_size.unsigned_abs()))
}

fn touched(name: &CStr, what: &str) -> Error {
    Error::new(
        ErrorKind::Fatal,
        format!(
            "{} {what} while the store was open; stop this process, put the file back, and open it again",
            name.to_string_lossy()
        ),
    )
}
