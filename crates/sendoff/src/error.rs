//! The one error of the public API: opaque, with predicates.

use std::fmt;

/// What went wrong, in words for a person, with predicates for a program.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    /// Of a batch's jobs, the one that is to blame, counted from 0.
    item: Option<usize>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The classes of [`Error`] that programs tell apart; see its predicates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ErrorKind {
    Invalid,
    Busy,
    Conflict,
    NotFound,
    Closed,
    Full,
    Locked,
    Newer,
    Unusable,
    Unavailable,
    CommitUnknown,
    Fatal,
}

/// The result of most calls of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), item: None, source: None }))
    }

    pub(crate) fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    pub(crate) fn of_item(mut self, item: usize) -> Self {
        self.0.item = Some(item);
        self
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the scheduler has stopped; this job was not accepted")
    }

    /// The loop ended before it had the store's answer.
    pub(crate) fn commit_unknown() -> Self {
        Self::new(
            ErrorKind::CommitUnknown,
            "the scheduler stopped before the store had answered; open it again and look the job up by its guid",
        )
    }

    /// The same error for another caller that waited for the same write.
    pub(crate) fn again(&self) -> Self {
        Self::new(self.0.kind, self.to_string())
    }

    /// Which of its jobs an atomic batch was refused for, counted from 0. The words name it as
    /// `job 1: `, counted from 1, unless [`Error::of_one_job`] is asked for.
    pub fn item(&self) -> Option<usize> {
        self.0.item
    }

    /// The same about that job alone, wherever it stands in its batch.
    #[must_use]
    pub fn of_one_job(mut self) -> Self {
        self.0.item = None;
        self
    }

    /// The job is malformed or can never start; the message names the field.
    pub fn is_invalid(&self) -> bool {
        self.0.kind == ErrorKind::Invalid
    }

    /// The inbox is full: nothing was accepted, try again in a moment.
    pub fn is_busy(&self) -> bool {
        self.0.kind == ErrorKind::Busy
    }

    /// The guid or the idempotency key names another job already.
    pub fn is_conflict(&self) -> bool {
        self.0.kind == ErrorKind::Conflict
    }

    /// There is no such job.
    pub fn is_not_found(&self) -> bool {
        self.0.kind == ErrorKind::NotFound
    }

    /// The scheduler is shutting down or has stopped.
    pub fn is_closed(&self) -> bool {
        self.0.kind == ErrorKind::Closed
    }

    /// The disk is full: the write was rolled back and the store goes on.
    pub fn is_full(&self) -> bool {
        self.0.kind == ErrorKind::Full
    }

    /// Another process owns the store.
    pub fn is_locked(&self) -> bool {
        self.0.kind == ErrorKind::Locked
    }

    /// The store was written by a newer version of sendoff.
    pub fn is_newer(&self) -> bool {
        self.0.kind == ErrorKind::Newer
    }

    /// The store cannot be used: not a database, not readable, not writable, locked or too new.
    pub fn is_unusable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Unusable | ErrorKind::Locked | ErrorKind::Newer)
    }

    /// The store cannot be reached for now: nothing was done, try again in a moment.
    pub fn is_unavailable(&self) -> bool {
        self.0.kind == ErrorKind::Unavailable
    }

    /// It is not known whether the write took place; read the job by its guid.
    pub fn is_commit_unknown(&self) -> bool {
        self.0.kind == ErrorKind::CommitUnknown
    }

    /// The store is poisoned by an I/O error: stop this process, nothing is acknowledged any more.
    pub fn is_fatal(&self) -> bool {
        self.0.kind == ErrorKind::Fatal
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(item) = self.0.item {
            write!(f, "job {}: ", item + 1)?;
        }
        f.write_str(&self.0.message)?;
        match &self.0.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The source's words are part of the message already.
        self.0.source.as_ref().and_then(|source| source.source())
    }
}
