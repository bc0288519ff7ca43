//! From chunks of input to stored jobs.

use std::io;

use sendoff::{Batch, Error, Scheduler, Verdict};
use tokio::sync::mpsc::Receiver;

use super::{
    check::Bad,
    feed::{CHUNK_JOBS, Chunk, End},
    position::Position,
};
use crate::{failure::Failure, out};

/// Submits what is read, and remembers how far it came.
pub(crate) struct Acceptor<'a> {
    pub(crate) scheduler: &'a Scheduler,
    pub(crate) key: &'a str,
    /// As messages call the input.
    pub(crate) label: &'a str,
    /// Go on after bad lines.
    pub(crate) skip_invalid: bool,
    /// Print the guids of what is accepted.
    pub(crate) print_guids: bool,
    /// Say what is wrong as JSON.
    pub(crate) json: bool,
    /// How far the input is accepted.
    pub(crate) position: Position,
}

/// Why no more is accepted.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The input has ended.
    Input,
    /// A bad line, which has been reported.
    Bad,
    /// The input could not be read.
    Unreadable(io::Error),
    /// The store did not take it.
    Refused(Error),
}

impl Acceptor<'_> {
    /// Accepts until the input ends, or cannot go on.
    pub(crate) async fn run(&mut self, mut chunks: Receiver<Chunk>) -> Result<Ended, Failure> {
        let mut held: Option<Chunk> = None;
        // Bad lines found by the store are not in the positions that the reader counts.
        let repeats = self.position.repeats;
        let (mut conflicts, mut repeated) = (0, 0);
        loop {
            let mut chunk = match held.take() {
                Some(chunk) => chunk,
                None => match chunks.recv().await {
                    Some(chunk) => chunk,
                    None => return Ok(Ended::Unreadable(io::Error::other("the reader has died"))),
                },
            };
            // What has arrived meanwhile joins the transaction, as long as it is one.
            while chunk.end.is_none() && held.is_none() {
                match chunks.try_recv() {
                    Ok(next) if chunk.lines() + next.lines() <= CHUNK_JOBS => chunk.join(next),
                    Ok(next) => held = Some(next),
                    Err(_) => break,
                }
            }
            self.report(&chunk.bad);
            let lines: Vec<u64> = chunk.jobs.iter().map(|(line, _)| *line).collect();
            let specs = chunk.jobs.into_iter().map(|(_, spec)| spec).collect();
            chunk.position.skipped += conflicts;
            chunk.position.repeats = repeats + repeated;
            self.position = chunk.position;
            let verdicts = match self.store(specs).await {
                Ok(verdicts) => verdicts,
                Err(err) => return Ok(Ended::Refused(err)),
            };
            let mut guids = String::new();
            let mut bad = Vec::new();
            for (line, verdict) in lines.into_iter().zip(verdicts) {
                match verdict {
                    Verdict::Created(guid) => guids.push_str(&format!("{guid}\n")),
                    Verdict::Existing(guid) => {
                        guids.push_str(&format!("{guid}\n"));
                        repeated += 1;
                    }
                    Verdict::Conflict(err) | Verdict::Invalid(err) => {
                        bad.push(Bad { line, message: err.to_string() });
                    }
                }
            }
            if self.print_guids && !guids.is_empty() {
                out::bytes(guids.as_bytes())?;
            }
            self.report(&bad);
            conflicts += bad.len() as u64;
            let ended = match chunk.end {
                _ if !bad.is_empty() && !self.skip_invalid => Some(Ended::Bad),
                Some(End::Input) => Some(Ended::Input),
                Some(End::Bad(bad)) => {
                    self.report(&[bad]);
                    Some(Ended::Bad)
                }
                Some(End::Failed(err)) => Some(Ended::Unreadable(err)),
                None => None,
            };
            if let Some(ended) = ended {
                if bad.is_empty() && repeats + repeated == self.position.repeats {
                    return Ok(ended);
                }
                self.position.skipped += bad.len() as u64;
                self.position.repeats = repeats + repeated;
                return Ok(match self.store(Vec::new()).await {
                    Ok(_) => ended,
                    Err(err) => Ended::Refused(err),
                });
            }
        }
    }

    /// The jobs and the position in one transaction.
    async fn store(&self, specs: Vec<sendoff::JobSpec>) -> sendoff::Result<Vec<Verdict>> {
        let batch = Batch::itemised(specs).bookmark(self.key, self.position.write());
        self.scheduler.submit_batch(batch).await
    }

    fn report(&self, bad: &[Bad]) {
        report(self.label, bad, self.json);
    }
}

/// Says what is wrong with these lines, on stderr.
pub(crate) fn report(label: &str, bad: &[Bad], json: bool) {
    for Bad { line, message } in bad {
        if json {
            out::note(&serde_json::json!({ "file": label, "line": line, "error": message }).to_string());
        } else {
            out::note(&format!("{label}:{line}: {message}"));
        }
    }
}
