//! `--records`: the record of each job, one JSON object a line.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use sendoff::JobRecord;

use crate::failure::Failure;

/// A file of records in the making: it takes its name when it is whole.
pub(crate) struct Records {
    to: PathBuf,
    /// Its name until then, if it is a file of ours.
    unfinished: Option<PathBuf>,
    writer: BufWriter<File>,
}

impl Records {
    /// Begins a file. Called before anything starts, so that a path that cannot be written is
    /// refused in time.
    ///
    /// # Errors
    /// Exit 2: it cannot be written, or it is one of the files `kept`, which it would replace.
    pub(crate) fn create(to: &Path, kept: &[&Path]) -> Result<Self, Failure> {
        // What a link leads to is written, and the link stays.
        let real = to.canonicalize();
        let to = real.as_deref().unwrap_or(to);
        if real.is_ok() && kept.iter().any(|kept| is_of(to, kept)) {
            return Err(Failure::usage(format!(
                "{}: the records would replace what this run reads or keeps; name another file",
                to.display()
            )));
        }
        let failed = |err: io::Error| {
            Failure::usage(format!("{}: the records cannot be written: {err}", to.display()))
        };
        if to.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        if to.metadata().is_ok_and(|found| !found.is_file()) {
            // A pipe or a device takes the records as they are; it must not be replaced by a file.
            let file = File::options().write(true).open(to).map_err(failed)?;
            let writer = BufWriter::new(file);
            return Ok(Self { to: to.into(), unfinished: None, writer });
        }
        let name = to.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", std::process::id()));
        let unfinished = to.with_file_name(hidden);
        let file = File::create(&unfinished).map_err(failed)?;
        Ok(Self { to: to.into(), unfinished: Some(unfinished), writer: BufWriter::new(file) })
    }

    /// The next record.
    pub(crate) fn write(&mut self, record: &JobRecord) -> io::Result<()> {
        serde_json::to_writer(&mut self.writer, record)?;
        self.writer.write_all(b"\n")
    }

    /// Makes the file whole, and gives it its name.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.writer.flush()?;
        if let Some(unfinished) = &self.unfinished {
            self.writer.get_ref().sync_all()?;
            std::fs::rename(unfinished, &self.to)?;
            self.unfinished = None;
        }
        Ok(())
    }
}

/// Whether `to` is `kept`, or one of the files that SQLite and the lock keep beside it.
fn is_of(to: &Path, kept: &Path) -> bool {
    let Ok(kept) = kept.canonicalize() else { return false };
    ["", "-wal", "-shm", ".lock"].into_iter().any(|suffix| {
        let mut beside = kept.clone().into_os_string();
        beside.push(suffix);
        to == Path::new(&beside)
    })
}

impl Drop for Records {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // It never became a whole file; nobody misses it.
            let _ = std::fs::remove_file(unfinished);
        }
    }
}
