//! The shim that makes a daemon's surroundings sick: built when it is first needed, loaded by LD_PRELOAD.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use crate::harness::{Daemon, Place};

/// The fields of `struct control` in shim.c, by their order.
#[derive(Clone, Copy)]
pub(in crate::proof) enum Field {
    /// How far the wall clock is ahead of the machine's, in microseconds.
    Clock,
    /// The how manieth sync from now fails with EIO; 0: none.
    FailSync,
    FailWrite,
    _FailRead,
    /// 0: of any file; else 1 + the file alone.
    Only,
    /// A sync takes up to so many microseconds.
    SyncMicros,
    /// So many calls have failed.
    Failed,
}

/// What one daemon runs in: its store's disk, its clock.
pub(in crate::proof) struct Shim {
    /// The SQLite file.
    pub(in crate::proof) store: PathBuf,
    control: PathBuf,
    pub(super) log: PathBuf,
}

impl Shim {
    /// Sound surroundings, until told otherwise.
    pub(in crate::proof) fn new(place: &Place) -> Self {
        // As the daemon resolves it.
        let root = place.path(".").canonicalize().unwrap();
        let (control, log) = (root.join("control"), root.join("log-of-writes"));
        fs::write(&control, [0; 64]).unwrap();
        Self { store: root.join("state/sendoff/sendoff.db"), control, log }
    }

    /// The daemon's command with the shim in it.
    pub(in crate::proof) fn command(&self, place: &Place, flags: &[&str]) -> Command {
        let mut command = Daemon::command(place, flags);
        command.env("LD_PRELOAD", library()).env("SICK_CONTROL", &self.control);
        command
    }

    pub(in crate::proof) fn set(&self, field: Field, value: i64) {
        let file = fs::OpenOptions::new().write(true).open(&self.control).unwrap();
        file.write_all_at(&value.to_le_bytes(), field as u64 * 8).unwrap();
    }

    pub(in crate::proof) fn get(&self, field: Field) -> i64 {
        let mut bytes = [0; 8];
        fs::File::open(&self.control).unwrap().read_exact_at(&mut bytes, field as u64 * 8).unwrap();
        i64::from_le_bytes(bytes)
    }
}

/// Built by the C compiler that built SQLite.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/proof/sick/shim.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sick-{}.so", std::process::id()));
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library);
        let built = compiler.arg(source).args(["-ldl", "-lpthread"]).output().unwrap();
        assert!(built.status.success(), "{compiler:?}: {}", String::from_utf8_lossy(&built.stderr));
        library
    })
}
