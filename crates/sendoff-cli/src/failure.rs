//! Why a command did not do its work, and the exit code that says so.

use std::{fmt, process::ExitCode};

/// The exit codes; see `sendoff --help`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything started.
    Ok = 0,
    /// Some job did not start.
    NotAll = 1,
    /// Wrong usage or bad input.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// The store or the daemon is broken or cannot be reached.
    Store = 4,
    /// What was waited for did not happen in time.
    TimedOut = 124,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An exit code and the words that go with it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    /// Exit 1: this command could not do all of its work.
    pub(crate) fn not_all(message: impl Into<String>) -> Self {
        Self { exit: Exit::NotAll, message: message.into() }
    }

    /// Exit 2: the caller has to change the command or the input.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    /// Exit 3: no such job, queue or token.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { exit: Exit::NotFound, message: message.into() }
    }

    /// Exit 124: a wait ran out.
    pub(crate) fn timed_out(message: impl Into<String>) -> Self {
        Self { exit: Exit::TimedOut, message: message.into() }
    }

    /// Exit 4: the store or the daemon.
    pub(crate) fn store(message: impl Into<String>) -> Self {
        Self { exit: Exit::Store, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
