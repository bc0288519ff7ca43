//! The tokens that a running daemon knows. It notices by itself when the file changes.

use std::{
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sendoff::{
    Timestamp,
    time::{Clock, SystemClock},
};
use subtle::ConstantTimeEq;

use super::{
    Scope,
    tokens::{Tokens, hash},
};
use crate::failure::Failure;

/// How often the file is looked at, at most, for tokens that are known.
const LOOK: Duration = Duration::from_secs(1);

/// All of them.
pub(crate) struct Keyring {
    path: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    known: Arc<[Known]>,
    file: Option<Stamp>,
    looked: Duration,
}

/// Whom a token names, and what it is good for.
#[derive(Clone, PartialEq)]
pub(crate) struct Known {
    sha256: [u8; 32],
    expires: Option<Timestamp>,
    /// `token:NAME`.
    pub(crate) name: Arc<str>,
    pub(crate) scopes: Arc<[Scope]>,
}

/// What tells one version of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Known {
    fn is_good(&self, now: Timestamp) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

impl Keyring {
    /// Reads the file.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Failure> {
        let file = stamp(&path);
        let known = read(&path)?;
        Ok(Self { path, held: Mutex::new(Held { known, file, looked: SystemClock.elapsed() }) })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.current(LOOK).is_empty()
    }

    /// Looks at the file at the next use.
    pub(crate) fn look_again(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.looked = Duration::ZERO;
        held.file = None;
    }

    /// Whom this secret names, if it is a token that is good now.
    pub(crate) fn find(&self, secret: &str) -> Option<Known> {
        let presented = hash(secret);
        // It may have been made just now.
        let found = among(&self.current(LOOK), &presented)
            .or_else(|| among(&self.current(Duration::ZERO), &presented));
        found.filter(|known| known.is_good(SystemClock.now()))
    }

    /// Whether the token that was found once is still good, for the same.
    pub(crate) fn holds(&self, found: &Known) -> bool {
        found.is_good(SystemClock.now()) && self.current(LOOK).contains(found)
    }

    /// What the file says, or said so long ago.
    fn current(&self, ago: Duration) -> Arc<[Known]> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemClock.elapsed();
        if now.saturating_sub(held.looked) >= ago || held.looked.is_zero() {
            held.looked = now;
            let file = stamp(&self.path);
            if file.is_none() || file != held.file {
                match read(&self.path) {
                    Ok(known) => held.known = known,
                    Err(failure) => tracing::error!("the tokens known before stay in force: {failure}"),
                }
                held.file = file;
            }
        }
        held.known.clone()
    }
}

/// The one with this hash. It is held against all, each in constant time.
fn among(all: &[Known], presented: &[u8; 32]) -> Option<Known> {
    let mut found = None;
    for known in all {
        if bool::from(known.sha256.ct_eq(presented)) {
            found = Some(known.clone());
        }
    }
    found
}

fn read(path: &std::path::Path) -> Result<Arc<[Known]>, Failure> {
    let tokens = Tokens::read(path)?;
    let known = tokens.all.iter().filter_map(|token| {
        let name = format!("token:{}", token.name).into();
        let scopes = token.scopes.clone().into();
        Some(Known { sha256: token.hash()?, expires: token.expires, name, scopes })
    });
    Ok(known.collect())
}

fn stamp(path: &std::path::Path) -> Option<Stamp> {
    let file = std::fs::metadata(path).ok()?;
    Some(Stamp { inode: file.ino(), bytes: file.len(), changed: (file.mtime(), file.mtime_nsec()) })
}
