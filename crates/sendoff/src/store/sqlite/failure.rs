//! SQLite's errors in sendoff's classes.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::{Error, ErrorKind};

/// What an error means for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// No room: rolled back, the store goes on.
    Full,
    /// Somebody else holds the database's lock: rolled back, the store goes on.
    Busy,
    /// This call cannot be done: rolled back, the store goes on.
    Call,
    /// Nothing can be said of the file any more.
    Fatal,
}

impl Failure {
    /// The class of an error before the commit.
    pub(super) fn of(err: &rusqlite::Error) -> Self {
        match err.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy,
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) | None => {
                Self::Call
            }
            Some(_) => Self::Fatal,
        }
    }

    /// The class of an error of the commit itself. A full disk is found while the log is written,
    /// before anything counts; after any other error nobody knows.
    pub(super) fn of_commit(err: &rusqlite::Error) -> Self {
        match Self::of(err) {
            known @ (Self::Full | Self::Busy) => known,
            Self::Call | Self::Fatal => Self::Fatal,
        }
    }

    pub(super) fn error(self, err: rusqlite::Error, path: &Path) -> Error {
        let path = path.display();
        let (kind, words) = match self {
            Self::Full => (
                ErrorKind::Full,
                format!("no room for the store {path}; nothing was written, free some space"),
            ),
            Self::Busy => (
                ErrorKind::Busy,
                format!("another program holds the store {path} locked; nothing was written, try again"),
            ),
            Self::Call => (ErrorKind::Invalid, format!("the store {path} refused the call")),
            Self::Fatal => (
                ErrorKind::Fatal,
                format!("the store {path} failed; stop this process, check the disk, and open it again"),
            ),
        };
        Error::new(kind, words).with_source(err)
    }
}
