//! What was measured on: figures mean little without it.

use std::{fs, path::Path};

use serde::Serialize;

use super::raw::timing;

/// The machine, and the disk of the folder that was measured in.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpus: usize,
    pub(super) cpu: Option<String>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) kernel: String,
    /// The type of the folder's file system.
    pub(super) file_system: Option<String>,
    /// Microseconds that a write of 4 KiB takes to be durable there, the median of some.
    pub(super) sync_us: Option<f64>,
}

/// Below this a disk did nothing: no disk is so fast.
const NO_SYNC_US: f64 = 15.0;

impl Machine {
    pub(super) fn look(dir: &Path) -> Self {
        let uname = rustix::system::uname();
        let memory = value("/proc/meminfo", "MemTotal").and_then(|text| {
            text.strip_suffix(" kB").and_then(|number| number.parse::<u64>().ok()).map(|kib| kib * 1024)
        });
        let pause = std::time::Duration::ZERO;
        Self {
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: value("/proc/cpuinfo", "model name"),
            memory_bytes: memory,
            kernel: format!(
                "{} {} {}",
                uname.sysname().to_string_lossy(),
                uname.release().to_string_lossy(),
                uname.machine().to_string_lossy()
            ),
            file_system: file_system(dir),
            sync_us: timing::syncs(dir, 4096, 50, pause).ok().map(|times| times.quantile(0.5)),
        }
    }

    /// Whether an fsync costs nothing in the folder.
    pub(super) fn syncs_for_nothing(&self) -> bool {
        self.sync_us.is_some_and(|micros| micros < NO_SYNC_US)
    }

    /// In a line or two.
    pub(super) fn words(&self) -> String {
        let cpu = self.cpu.as_deref().unwrap_or("unknown CPU");
        let memory = self
            .memory_bytes
            .map_or_else(String::new, |bytes| format!(", {} GiB", (bytes + (1 << 29)) >> 30));
        let disk = self.file_system.as_deref().unwrap_or("unknown file system");
        let sync = self
            .sync_us
            .map_or_else(String::new, |us| format!(", 4 KiB durable in {}", crate::run::time(us as u64)));
        let mut words = format!("{} CPUs ({cpu}){memory}, {}, {disk}{sync}", self.cpus, self.kernel);
        if self.syncs_for_nothing() {
            words.push_str(
                "\nnote: fsync costs nothing here, so durable figures are those of memory; --dir names a folder on a disk",
            );
        }
        words
    }
}

/// The value of a line `name : value`.
fn value(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// The type of the file system with the longest mount point above `dir`.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // … mount point … - type source options
    let mounts = mounts.lines().filter_map(|line| {
        let (place, what) = line.split_once(" - ")?;
        let point = Path::new(place.split(' ').nth(4)?);
        dir.starts_with(point).then_some((point.components().count(), what.split(' ').next()?))
    });
    // Of two on one point the later one hides the earlier.
    mounts.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind.to_owned())
}
