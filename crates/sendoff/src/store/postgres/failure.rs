//! What an error of the database means for the call and for the connection.

use tokio_postgres::{
    Error as PgError,
    error::{Severity, SqlState},
};

use crate::error::{Error, ErrorKind};

/// The class of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The connection is of no use any more: what was sent may or may not have been done.
    Lost,
    /// Rolled back because of another transaction: run it again at once.
    Again,
    /// The server's disk is full: rolled back.
    Full,
    /// The server refused the statement: rolled back.
    Refused,
}

impl Failure {
    pub(super) fn of(err: &PgError) -> Self {
        let Some(code) = err.code() else {
            // Not the server's words: the connection broke, or the answer made no sense.
            return Self::Lost;
        };
        let lost = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            // A primary that became a standby.
            SqlState::READ_ONLY_SQL_TRANSACTION,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ];
        if code.code().starts_with("08") || lost.contains(code) || ends_session(err) {
            Self::Lost
        } else if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
            Self::Again
        } else if *code == SqlState::DISK_FULL {
            Self::Full
        } else {
            Self::Refused
        }
    }

    /// The error for the caller of a read, or of a write that was certainly not done.
    pub(super) fn error(self, err: &PgError) -> Error {
        let words = words(err);
        let (kind, what) = match self {
            Self::Lost => (
                ErrorKind::Unavailable,
                "the connection to the database broke; nothing was done, try again in a moment",
            ),
            Self::Again => (
                ErrorKind::Busy,
                "other transactions stood in the way again and again; nothing was done, try again",
            ),
            Self::Full => (ErrorKind::Full, "no room for the database; nothing was written, free some space"),
            Self::Refused => (ErrorKind::Unusable, "the database refused the call"),
        };
        Error::new(kind, format!("{what}: {words}"))
    }
}

/// Whether the session ends with it: also where the code says something else, as a pooler's do.
pub(super) fn ends_session(err: &PgError) -> bool {
    err.as_db_error().is_some_and(|db| match db.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        // Untranslated by who does not tell the other.
        None => matches!(db.severity(), "FATAL" | "PANIC"),
    })
}

/// For a write whose answer was lost.
pub(super) fn commit_unknown() -> Error {
    Error::new(
        ErrorKind::CommitUnknown,
        "the connection to the database broke before it had answered; look the job up by its guid",
    )
}

/// The server's words without its details, which may quote a row.
pub(super) fn words(err: &PgError) -> String {
    match err.as_db_error() {
        Some(db) => format!("{} (SQLSTATE {})", db.message(), db.code().code()),
        None => err.to_string(),
    }
}
