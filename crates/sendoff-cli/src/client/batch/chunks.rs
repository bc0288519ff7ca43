//! The input of a batch, read on a thread of its own, in chunks of bounded size.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use sendoff::JobSpec;
use tokio::sync::mpsc;

use crate::{
    client::submit::make_repeatable,
    failure::Failure,
    run::{Line, Lines, Lookup, Reached},
};

/// Jobs that go out together.
pub(super) const PIECE: usize = 1_000;
/// Bytes that go out together, unless one job alone has more.
const BYTES: usize = 1024 * 1024;
/// What is read at once.
const BUFFER: usize = 256 * 1024;

/// Some lines of the input.
#[derive(Default)]
pub(super) struct Chunk {
    /// Its lines that are not blank.
    pub(super) items: Vec<Item>,
    /// The good ones, as they are sent.
    pub(super) body: Vec<u8>,
    /// How far the input is read with it.
    pub(super) reached: u64,
}

/// One line.
pub(super) struct Item {
    /// Its number, from 1.
    pub(super) line: u64,
    /// Whether the job has a name that nobody had before, or why it is no job.
    pub(super) job: Result<bool, String>,
}

impl Chunk {
    pub(super) fn append(&mut self, other: Self) {
        self.items.extend(other.items);
        self.body.extend_from_slice(&other.body);
        self.reached = other.reached;
    }
}

/// The chunks, as they are read.
pub(super) struct Chunks {
    chunks: mpsc::Receiver<Result<Chunk, Failure>>,
    /// The input's length, if that is known.
    pub(super) bytes: Option<u64>,
}

impl Chunks {
    /// Reads a file, or standard input as `-`, in chunks of at most so many jobs.
    ///
    /// # Errors
    /// Exit 2: it cannot be read.
    pub(super) fn read(file: &Path, label: &str, most: usize) -> Result<Self, Failure> {
        let unreadable = |err: io::Error| Failure::usage(format!("{label}: {err}"));
        let lookup = Lookup::of_this_process()
            .map_err(|err| Failure::usage(format!("the working directory cannot be read: {err}")))?;
        let (reader, bytes): (Box<dyn Read + Send>, _) = if file == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let opened = File::open(file).map_err(unreadable)?;
            let found = opened.metadata().map_err(unreadable)?;
            if found.is_dir() {
                return Err(Failure::usage(format!("{label}: it is a directory; name a file of jobs")));
            }
            (Box::new(opened), found.is_file().then_some(found.len()))
        };
        let lines = Lines::new(BufReader::with_capacity(BUFFER, reader), Reached::start());
        // Of a pipe, what is there goes out at once.
        let waits = bytes.is_some();
        let (sender, chunks) = mpsc::channel(1);
        let source = Source { lines, lookup, most, waits, label: label.to_owned() };
        drop(tokio::task::spawn_blocking(move || source.run(&sender)));
        Ok(Self { chunks, bytes })
    }

    pub(super) async fn next(&mut self) -> Option<Result<Chunk, Failure>> {
        self.chunks.recv().await
    }
}

struct Source {
    lines: Lines<BufReader<Box<dyn Read + Send>>>,
    lookup: Lookup,
    most: usize,
    waits: bool,
    label: String,
}

impl Source {
    fn run(mut self, to: &mpsc::Sender<Result<Chunk, Failure>>) {
        loop {
            let chunk = self.chunk();
            let failed = chunk.is_err();
            match chunk {
                Ok(chunk) if chunk.items.is_empty() => return,
                chunk => {
                    let chunk =
                        chunk.map_err(|err| Failure::usage(format!("{}: reading ended: {err}", self.label)));
                    if to.blocking_send(chunk).is_err() || failed {
                        return;
                    }
                }
            }
        }
    }

    /// The next chunk, empty at the end.
    fn chunk(&mut self) -> io::Result<Chunk> {
        let mut chunk = Chunk::default();
        while chunk.items.len() < self.most && chunk.body.len() < BYTES {
            if !chunk.items.is_empty() && !self.waits && !self.lines.has_line() {
                break;
            }
            let Some(line) = self.lines.next()? else { break };
            let job = match line {
                Line::Bytes(bytes) if bytes.trim_ascii().is_empty() => continue,
                Line::Bytes(bytes) => read(&mut self.lookup, bytes, &mut chunk.body),
                Line::TooLong(length) => Err(format!(
                    "a line of {length} bytes is longer than the {} allowed; put large data elsewhere and pass a reference",
                    JobSpec::MAX_BYTES
                )),
            };
            chunk.items.push(Item { line: self.lines.reached().lines, job });
        }
        chunk.reached = self.lines.reached().bytes;
        Ok(chunk)
    }
}

/// Adds the job of a line to what is sent. Whether its name is new.
fn read(lookup: &mut Lookup, line: &[u8], to: &mut Vec<u8>) -> Result<bool, String> {
    let mut job = JobSpec::from_json(line).map_err(|err| err.to_string())?;
    lookup.resolve(&mut job)?;
    let new = make_repeatable(&mut job);
    let json = serde_json::to_vec(&job).expect("a job has a JSON form");
    // A payload is passed on as it was written, on one line.
    to.extend_from_slice(&json);
    to.push(b'\n');
    Ok(new)
}
