//! Errors: one text in plain words, as they end in a test's output.

use std::fmt;

/// What went wrong, and where known what to do.
pub struct Error(String);

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Gives an error the words that say what was tried.
pub(crate) trait Context<T> {
    fn context(self, tried: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, tried: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error(format!("{tried}: {error}")))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text itself, so that `unwrap` in a test shows it readably.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
