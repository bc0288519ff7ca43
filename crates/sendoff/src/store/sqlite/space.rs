//! Whether there is room for new jobs.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::SqliteOptions;
use crate::time::{Clock, SystemClock};

/// What is free beside the store, looked up at most once a second.
pub(super) struct Space {
    path: PathBuf,
    keep_bytes: u64,
    keep_percent: u64,
    looked: Option<Duration>,
    low: bool,
}

impl Space {
    const PERIOD: Duration = Duration::from_secs(1);

    pub(super) fn new(path: PathBuf, options: &SqliteOptions) -> Self {
        Self {
            path,
            keep_bytes: options.keep_free_bytes,
            keep_percent: u64::from(options.keep_free_percent),
            looked: None,
            low: false,
        }
    }

    pub(super) fn low(&mut self) -> bool {
        let now = SystemClock.elapsed();
        if self.looked.is_none_or(|looked| now.saturating_sub(looked) >= Self::PERIOD) {
            self.looked = Some(now);
            // A file system that cannot say counts as roomy: a write that finds it full says so.
            self.low = space(&self.path)
                .is_ok_and(|(free, size)| free < self.keep_bytes.min(size / 100 * self.keep_percent));
        }
        self.low
    }
}

/// Bytes that this user may still write beside `path`, and the size of the file system.
fn space(path: &Path) -> std::io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(path)?;
    Ok((stat.f_bavail.saturating_mul(stat.f_frsize), stat.f_blocks.saturating_mul(stat.f_frsize)))
}
