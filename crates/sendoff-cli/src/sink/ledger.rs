//! What the sink counts and writes down.

use std::{
    collections::HashSet,
    fmt,
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sendoff::{
    Guid,
    time::{Clock, SystemClock},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::failure::Failure;

/// Counts requests, and writes one line for each to a file if there is one. Clones share it.
#[derive(Clone)]
pub(crate) struct Ledger(Arc<Mutex<Pages>>);

struct Pages {
    requests: u64,
    without_guid: u64,
    /// Guids seen: 16 bytes each and the set's overhead, so a million of them take some 32 MB.
    seen: HashSet<[u8; 16]>,
    /// Lines that are not in the file yet.
    lines: Vec<u8>,
    file: Option<Arc<File>>,
}

/// What a sink saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    /// Requests answered.
    pub(crate) requests: u64,
    /// Different guids among them.
    pub(crate) guids: u64,
    /// Requests whose guid had been seen before.
    pub(crate) repeats: u64,
    /// Requests that carried no guid.
    pub(crate) without_guid: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, guids, repeats, without_guid } = self;
        write!(f, "{requests} requests, {guids} distinct guids, {repeats} repeats")?;
        if *without_guid > 0 {
            write!(f, ", {without_guid} without a guid")?;
        }
        Ok(())
    }
}

/// Lines are passed on to the file at the latest when so many bytes wait.
const FULL: usize = 1024 * 1024;

impl Ledger {
    /// A ledger that appends to `file`, or one that only counts.
    pub(crate) fn new(file: Option<&Path>) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.map(Arc::new).map_err(|err| {
                Failure::usage(format!("{}: the ledger cannot be written: {err}", path.display()))
            })
        };
        let file = file.map(open).transpose()?;
        let pages = Pages { requests: 0, without_guid: 0, seen: HashSet::new(), lines: Vec::new(), file };
        Ok(Self(Arc::new(Mutex::new(pages))))
    }

    /// One request.
    pub(crate) fn note(&self, guid: Option<&str>, attempt: Option<u32>) {
        let at = SystemClock.now();
        let mut pages = self.pages();
        pages.requests += 1;
        match guid {
            None => pages.without_guid += 1,
            Some(guid) => {
                pages.seen.insert(fixed(guid));
            }
        }
        if pages.file.is_none() {
            return;
        }
        let line = Entry { guid, attempt, at: &at };
        if serde_json::to_writer(&mut pages.lines, &line).is_ok() {
            pages.lines.push(b'\n');
        }
        if pages.lines.len() >= FULL {
            // Written under the lock: the file is behind, so requests wait for it.
            let lines = std::mem::take(&mut pages.lines);
            if let Some(mut file) = pages.file.as_deref() {
                let _ = file.write_all(&lines);
            }
        }
    }

    /// Writes what waits.
    pub(crate) fn flush(&self) -> io::Result<()> {
        let mut pages = self.pages();
        let Some(file) = pages.file.clone() else { return Ok(()) };
        let lines = std::mem::take(&mut pages.lines);
        // Under the lock, so that lines stay in order.
        (&*file).write_all(&lines)
    }

    /// What it saw so far.
    pub(crate) fn totals(&self) -> Totals {
        let pages = self.pages();
        let guids = pages.seen.len() as u64;
        Totals {
            requests: pages.requests,
            guids,
            repeats: pages.requests - pages.without_guid - guids,
            without_guid: pages.without_guid,
        }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of the ledger.
#[derive(Serialize)]
struct Entry<'a> {
    guid: Option<&'a str>,
    attempt: Option<u32>,
    at: &'a sendoff::time::Timestamp,
}

/// The bytes of a guid; of any other text, a hash.
fn fixed(guid: &str) -> [u8; 16] {
    match guid.parse::<Guid>() {
        Ok(guid) => *guid.as_bytes(),
        Err(_) => Sha256::digest(guid)[..16].try_into().expect("a hash has 32 bytes"),
    }
}
