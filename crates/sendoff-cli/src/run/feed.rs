//! Reading the input on a thread of its own, in chunks of bounded size.

use std::{io, thread};

use sendoff::JobSpec;
use tokio::sync::mpsc;

use super::{
    check::Bad,
    lines::{Buffered, Lines},
    position::Position,
    source::Source,
};

/// Some lines, and how far the input was consumed with them.
pub(crate) struct Chunk {
    /// The jobs with their line numbers.
    pub(crate) jobs: Vec<(u64, JobSpec)>,
    /// Bad lines that were skipped.
    pub(crate) bad: Vec<Bad>,
    /// Where the input stands after this chunk.
    pub(crate) position: Position,
    /// Why nothing follows.
    pub(crate) end: Option<End>,
}

impl Chunk {
    /// Lines that are jobs, or bad.
    pub(crate) fn lines(&self) -> usize {
        self.jobs.len() + self.bad.len()
    }

    /// Takes the next chunk's lines too.
    pub(crate) fn join(&mut self, next: Self) {
        self.jobs.extend(next.jobs);
        self.bad.extend(next.bad);
        self.position = next.position;
        self.end = next.end;
    }
}

/// Why the reading ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The input has ended.
    Input,
    /// This line is bad; the chunk ends before it.
    Bad(Bad),
    /// The input could not be read.
    Failed(io::Error),
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Go on after bad lines.
    pub(crate) skip_invalid: bool,
    /// The input arrives bit by bit: pass on what is there instead of filling a chunk.
    pub(crate) streams: bool,
}

/// Jobs of a chunk, and so of a transaction.
pub(crate) const CHUNK_JOBS: usize = 1_000;
/// Bytes of input of a chunk, but for its last line.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// Reads `lines` from `position` on. Ends when the receiver is dropped (and the input yields), so
/// that nobody has to wait for a reader that waits for a terminal.
pub(crate) fn read<R: io::BufRead + Buffered + Send + 'static>(
    mut lines: Lines<R>,
    mut source: Source,
    mut position: Position,
    manner: Manner,
) -> io::Result<mpsc::Receiver<Chunk>> {
    let (sender, receiver) = mpsc::channel(2);
    thread::Builder::new().name("input".into()).spawn(move || {
        loop {
            let chunk = next_chunk(&mut lines, &mut source, &mut position, manner);
            let last = chunk.end.is_some();
            if sender.blocking_send(chunk).is_err() || last {
                return;
            }
        }
    })?;
    Ok(receiver)
}

fn next_chunk<R: io::BufRead + Buffered>(
    lines: &mut Lines<R>,
    source: &mut Source,
    position: &mut Position,
    manner: Manner,
) -> Chunk {
    let mut jobs = Vec::new();
    let mut bad = Vec::new();
    let begin = lines.reached().bytes;
    let mut consumed = lines.reached().clone();
    let end = loop {
        let job = match lines.next() {
            Ok(Some(line)) => source.job(&line),
            Ok(None) => {
                position.complete = true;
                break Some(End::Input);
            }
            Err(err) => break Some(End::Failed(err)),
        };
        let line = lines.reached().lines;
        match job {
            Ok(None) => {}
            Ok(Some(job)) => jobs.push((line, job)),
            Err(message) if manner.skip_invalid => {
                position.skipped += 1;
                bad.push(Bad { line, message });
            }
            Err(message) => break Some(End::Bad(Bad { line, message })),
        }
        // Only here: a bad line that ends the reading is not consumed.
        position.note(lines.reached());
        consumed.clone_from(lines.reached());
        let full = jobs.len() + bad.len() >= CHUNK_JOBS || lines.reached().bytes - begin >= CHUNK_BYTES;
        if full || (manner.streams && !lines.has_line()) {
            break None;
        }
    };
    position.reach(&consumed);
    Chunk { jobs, bad, position: position.clone(), end }
}
