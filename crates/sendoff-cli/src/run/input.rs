//! What `run` reads, and how the run is called.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom, Stdin},
    path::{Path, PathBuf},
};

use sendoff::time::{Clock, SystemClock};

use super::{
    lines::{Lines, Reached},
    source::{Form, Template},
};
use crate::{args::RunArgs, failure::Failure};

/// The input of a run.
#[derive(Debug)]
pub(crate) struct Input {
    /// As messages call it.
    pub(crate) label: String,
    pub(crate) kind: Kind,
    pub(crate) form: Form,
    /// The run's name; none if it cannot be resumed.
    pub(crate) name: Option<String>,
}

/// Where the bytes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file that can be read again: it is checked whole before anything starts.
    File(PathBuf),
    /// A pipe of this path: it is started as it arrives.
    Pipe(PathBuf),
    /// Standard input.
    Stdin,
}

/// What is read at once.
const BUFFER: usize = 256 * 1024;

impl Input {
    /// What the command line names.
    ///
    /// # Errors
    /// Exit 2: it is missing, a directory, or cannot be read.
    pub(crate) fn of(args: &RunArgs) -> Result<Self, Failure> {
        if args.each_line.is_none() && !args.command.is_empty() {
            return Err(Failure::usage(
                "a command after -- goes with --each-line FILE, not with a file of jobs",
            ));
        }
        let form = match &args.each_line {
            Some(_) => Form::Argument(Template::new(args.command.clone())),
            None => Form::Job,
        };
        let path = args.each_line.as_ref().or(args.file.as_ref());
        let path = path.ok_or_else(|| Failure::usage("name a file of jobs, or - for standard input"))?;
        if path == Path::new("-") {
            return Ok(Self { label: "stdin".into(), kind: Kind::Stdin, form, name: args.name.clone() });
        }
        let label = path.display().to_string();
        let unreadable = |err: io::Error| Failure::usage(format!("{label}: {err}"));
        // Not opened yet: whoever writes to a pipe would take that for its reader.
        let found = fs::metadata(path).map_err(unreadable)?;
        if found.is_dir() {
            return Err(Failure::usage(format!("{label}: it is a directory; name a file of jobs")));
        }
        if !found.is_file() {
            return Ok(Self { label, kind: Kind::Pipe(path.clone()), form, name: args.name.clone() });
        }
        File::open(path).map_err(unreadable)?;
        let canonical = fs::canonicalize(path).map_err(unreadable)?;
        let name = args.name.clone().unwrap_or_else(|| {
            let path = canonical.to_string_lossy();
            match &form {
                Form::Job => path.into_owned(),
                // Another command for the same lines is another run.
                Form::Argument(template) => format!("{path} -- {template}"),
            }
        });
        Ok(Self { label, kind: Kind::File(canonical), form, name: Some(name) })
    }

    /// A name for this time only.
    pub(crate) fn passing_name() -> String {
        format!("stdin-{}-{}", SystemClock.now().as_micros(), std::process::id())
    }

    /// Its lines from the beginning.
    ///
    /// # Errors
    /// Exit 2: it cannot be read.
    pub(crate) fn lines(&self) -> Result<Lines<BufReader<Reader>>, Failure> {
        let open =
            |path: &Path| File::open(path).map_err(|err| Failure::usage(format!("{}: {err}", self.label)));
        let reader = match &self.kind {
            Kind::File(path) | Kind::Pipe(path) => Reader::File(open(path)?),
            Kind::Stdin => Reader::Stdin(io::stdin()),
        };
        Ok(Lines::new(BufReader::with_capacity(BUFFER, reader), Reached::start()))
    }

    /// The lines of a file from `reached` on.
    ///
    /// # Errors
    /// Exit 2: it cannot be read.
    pub(crate) fn lines_from(&self, reached: Reached) -> Result<Lines<BufReader<Reader>>, Failure> {
        let failed = |err: io::Error| Failure::usage(format!("{}: {err}", self.label));
        let Kind::File(path) = &self.kind else { return self.lines() };
        let mut file = File::open(path).map_err(failed)?;
        file.seek(SeekFrom::Start(reached.bytes)).map_err(failed)?;
        Ok(Lines::new(BufReader::with_capacity(BUFFER, Reader::File(file)), reached))
    }

    /// Whether it arrives bit by bit.
    pub(crate) fn streams(&self) -> bool {
        !matches!(self.kind, Kind::File(_))
    }
}

/// A file or standard input.
#[derive(Debug)]
pub(crate) enum Reader {
    File(File),
    Stdin(Stdin),
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            // Through its own small buffer, which a read as large as this one passes by.
            Self::Stdin(stdin) => stdin.lock().read(buffer),
        }
    }
}
