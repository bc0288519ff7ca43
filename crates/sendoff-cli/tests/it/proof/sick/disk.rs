//! What a power cut leaves of the store: made up from the log of its writes.
//!
//! What a file's last finished sync had to cover is there. Of everything later, and of what a sync that
//! failed was to cover (Linux takes such pages for clean), each write by chance is there, is not, or is
//! there in part, sector by sector; so are new sizes, new files and removed ones.

use std::{fs, path::PathBuf};

use super::{super::Chance, shim::Shim};

/// The unit that a disk writes whole.
const SECTOR: usize = 512;
/// Files that belong to the store, by what their names have after its own.
const SUFFIXES: [&str; 3] = ["", "-wal", "-journal"];
/// The number of their directory.
const DIRECTORY: usize = SUFFIXES.len();

/// What is known of one change.
struct Change {
    file: usize,
    what: What,
    durable: bool,
    /// A sync that was to make it durable has failed.
    lost: bool,
}

enum What {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { size: usize },
    Create,
    Unlink,
}

/// The store's files as they were when the power was last switched on.
pub(super) struct Disk<'a> {
    shim: &'a Shim,
    files: [Option<Vec<u8>>; SUFFIXES.len()],
}

/// What became of the changes that no sync had covered.
#[derive(Default, Debug)]
pub(super) struct Lost {
    pub(super) kept: usize,
    pub(super) dropped: usize,
    pub(super) torn: usize,
}

impl Lost {
    pub(super) fn add(&mut self, other: Self) {
        self.kept += other.kept;
        self.dropped += other.dropped;
        self.torn += other.torn;
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kept, dropped, torn } = self;
        write!(f, "of the changes that no sync had covered {dropped} were lost, {torn} torn, {kept} kept")
    }
}

impl<'a> Disk<'a> {
    /// Of a daemon that does not run yet; from now on its writes are noted.
    pub(super) fn new(shim: &'a Shim) -> Self {
        let mut disk = Self { shim, files: [None, None, None] };
        disk.power_on();
        disk
    }

    /// Takes the files as they are.
    fn power_on(&mut self) {
        for (number, file) in self.files.iter_mut().enumerate() {
            *file = fs::read(path(self.shim, number)).ok();
        }
        fs::write(&self.shim.log, "").unwrap();
    }

    /// The daemon was killed: now the power goes too, and comes back.
    pub(super) fn cut(&mut self, chance: &mut Chance) -> Lost {
        let mut lost = Lost::default();
        for change in changes(&fs::read(&self.shim.log).unwrap()) {
            let is_long = matches!(&change.what, What::Write { bytes, .. } if bytes.len() > SECTOR);
            let torn = match (change.durable, chance.below(3)) {
                (true, _) => None,
                (false, 0) => {
                    lost.dropped += 1;
                    continue;
                }
                (false, 1) if is_long => {
                    lost.torn += 1;
                    Some(&mut *chance)
                }
                (false, _) => {
                    lost.kept += 1;
                    None
                }
            };
            apply(&mut self.files[change.file], change.what, torn);
        }
        for (number, file) in self.files.iter().enumerate() {
            match file {
                Some(bytes) => fs::write(path(self.shim, number), bytes).unwrap(),
                None => drop(fs::remove_file(path(self.shim, number))),
            }
        }
        // The index of the log is no file to trust: whatever it holds.
        let index = self.shim.store.with_extension("db-shm");
        if let (true, Ok(file)) = (chance.below(2) == 0, fs::metadata(&index)) {
            let garbage: Vec<u8> = (0..file.len()).map(|_| chance.below(256) as u8).collect();
            fs::write(&index, garbage).unwrap();
        }
        self.power_on();
        lost
    }
}

fn path(shim: &Shim, file: usize) -> PathBuf {
    let mut name = shim.store.clone().into_os_string();
    name.push(SUFFIXES[file]);
    name.into()
}

/// Reads the log: see `struct entry` in shim.c.
fn changes(mut log: &[u8]) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    // Syncs under way, with the number of changes that they have to cover.
    let mut syncs: Vec<(u64, usize)> = Vec::new();
    while let Some((head, rest)) = log.split_at_checked(16) {
        let (kind, file) = (head[0], usize::from(head[1]));
        let length = u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize;
        let at = u64::from_le_bytes(head[8..16].try_into().unwrap());
        // The last one may have been cut short with the process.
        let Some((bytes, rest)) = rest.split_at_checked(length) else { break };
        log = rest;
        let what = match kind {
            0 => What::Write { at: at as usize, bytes: bytes.to_vec() },
            1 => What::Truncate { size: at as usize },
            2 => {
                syncs.push((at, changes.len()));
                continue;
            }
            3 | 4 => {
                let place = syncs.iter().position(|(number, _)| *number == at).unwrap();
                let (_, covered) = syncs.swap_remove(place);
                for change in changes[..covered].iter_mut().filter(|change| change.covered_by(file)) {
                    change.durable |= kind == 3 && !change.lost;
                    change.lost |= kind == 4 && !change.durable;
                }
                continue;
            }
            5 => What::Create,
            6 => What::Unlink,
            _ => panic!("an entry of kind {kind}"),
        };
        changes.push(Change { file, what, durable: false, lost: false });
    }
    changes
}

impl Change {
    /// Whether a sync of this file is about it.
    fn covered_by(&self, file: usize) -> bool {
        match self.what {
            What::Create | What::Unlink => file == DIRECTORY,
            What::Write { .. } | What::Truncate { .. } => file == self.file,
        }
    }
}

/// Whole, or if there is chance in it, in part.
fn apply(file: &mut Option<Vec<u8>>, what: What, mut torn: Option<&mut Chance>) {
    match what {
        What::Create => drop(file.get_or_insert_default()),
        What::Unlink => *file = None,
        // Of a file whose name was lost nothing is left.
        What::Truncate { size } => drop(file.as_mut().map(|held| held.resize(size, 0))),
        What::Write { at, bytes } => {
            let Some(held) = file else { return };
            held.resize(held.len().max(at + bytes.len()), 0);
            for (number, sector) in bytes.chunks(SECTOR).enumerate() {
                if torn.as_mut().is_none_or(|chance| chance.below(2) == 0) {
                    let at = at + number * SECTOR;
                    held[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
    }
}
