//! Itemised batches: jobs stream in, verdicts stream out, memory stays bounded.
//!
//! While one chunk is in the store the next is read; a client that does not read its answers is not
//! read from either. If it goes away, what has gone to the store stays, and the rest is not read.

use std::{fmt::Write as _, sync::Arc};

use futures_util::future;
use hyper::body::Bytes;
use sendoff::{Batch, Guid, JobSpec, Scheduler, Verdict};
use serde_json::json;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc, watch},
};

use super::{
    Place, items,
    lines::{Line, Lines},
    too_long,
};
use crate::access::Identity;
use crate::api::{
    Answered, Api, Call,
    body::{self, Writer},
    problem::{INVALID_JOB, Problem, STOPPING, UNAUTHORIZED},
    read::{Media, broken},
    streamed,
};

/// A chunk goes to the store when it has so many jobs, or so many bytes, or when the store is free
/// and the client has sent no more.
const JOBS: usize = 1_000;
const BYTES: usize = 1024 * 1024;

/// Where the jobs come from.
enum Source {
    /// Of any length.
    Lines(Lines),
    /// An array, which is read whole before the answer begins.
    Array(Bytes, OwnedSemaphorePermit),
}

/// Jobs on their way to the store, with those that are none.
#[derive(Default)]
struct Chunk {
    /// In order; with what is wrong, if it is no job.
    entries: Vec<(Place, Option<Problem>)>,
    /// The jobs, in the order of their entries.
    jobs: Vec<JobSpec>,
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, place: Place, text: &[u8]) {
        self.bytes += text.len();
        let refusal = match JobSpec::from_json(text) {
            Ok(job) => {
                self.jobs.push(job);
                None
            }
            Err(err) => Some(place.of(err.into())),
        };
        self.entries.push((place, refusal));
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= JOBS || self.bytes >= BYTES
    }
}

/// What has been answered so far.
#[derive(Default)]
struct Tally {
    items: u64,
    created: u64,
    existing: u64,
    refused: u64,
}

pub(super) async fn submit(api: Arc<Api>, call: Call, media: Media) -> Answered {
    let source = match media {
        Media::NdJson => Source::Lines(Lines::new(call.body)),
        Media::Json => {
            let (whole, room) = api.room.whole(call.body, Batch::MAX_ATOMIC_BYTES).await?;
            items(&whole)?;
            Source::Array(whole, room)
        }
    };
    let scheduler = api.scheduler.for_caller(call.who.caller());
    let stopping = api.stopping();
    let (writer, body) = body::written(2);
    let work = async move {
        let tally = run(&scheduler, &call.who, source, &writer, stopping).await;
        let Tally { items, created, existing, refused } = tally;
        tracing::debug!(target: "audit", who = %call.who.name, action = "submit_batch", items, created, existing, refused);
    };
    // It ends with the request's body, or when nobody reads the answer any more.
    drop(Handle::current().spawn(work));
    Ok(streamed("application/x-ndjson", body))
}

async fn run(
    scheduler: &Scheduler,
    who: &Identity,
    source: Source,
    answers: &Writer,
    stopping: watch::Receiver<bool>,
) -> Tally {
    let mut tally = Tally::default();
    let (feeder, chunks) = mpsc::channel(1);
    let feed = async {
        match source {
            Source::Lines(lines) => feed_lines(lines, feeder, stopping).await,
            Source::Array(array, _room) => feed_array(&array, feeder).await,
        }
    };
    let (fed, stored) = future::join(feed, store(scheduler, who, chunks, answers, &mut tally)).await;
    let last = match stored.and(fed) {
        Ok(()) => json!({
            "items": tally.items,
            "created": tally.created,
            "existing": tally.existing,
            "refused": tally.refused,
            "durability": scheduler.durability(),
        }),
        Err(problem) => json!({ "problem": problem.to_json(), "items": tally.items }),
    };
    // Nobody may be there to read it.
    let _ = answers.send(format!("{last}\n").into()).await;
    tally
}

async fn feed_lines(
    mut lines: Lines,
    feeder: mpsc::Sender<Chunk>,
    mut stopping: watch::Receiver<bool>,
) -> Result<(), Problem> {
    let mut chunk = Chunk::default();
    let mut item = 0;
    loop {
        if chunk.is_full() && feeder.send(std::mem::take(&mut chunk)).await.is_err() {
            return Ok(());
        }
        let line = tokio::select! {
            biased;
            line = lines.next() => line,
            free = feeder.reserve(), if !chunk.entries.is_empty() => {
                let Ok(free) = free else { return Ok(()) };
                free.send(std::mem::take(&mut chunk));
                continue;
            }
            () = feeder.closed() => return Ok(()),
            _ = stopping.wait_for(|stopping| *stopping) => {
                Err(Box::new(STOPPING.says("the daemon is stopping; what is not answered was not accepted")) as _)
            }
        };
        let ended = match line {
            Ok(Some(line)) => {
                item += 1;
                let place = Place { item, line: Some(lines.number()) };
                match line {
                    Line::Text(text) => chunk.push(place, &text),
                    Line::TooLong => chunk.entries.push((place, Some(too_long(place)))),
                }
                continue;
            }
            Ok(None) => Ok(()),
            Err(err) => Err(broken(err)),
        };
        // If the store takes no more, it says why.
        let _ = feeder.send(chunk).await;
        return ended;
    }
}

async fn feed_array(array: &[u8], feeder: mpsc::Sender<Chunk>) -> Result<(), Problem> {
    let mut chunk = Chunk::default();
    for (job, item) in items(array)?.into_iter().zip(1..) {
        chunk.push(Place { item, line: None }, job.get().as_bytes());
        if chunk.is_full() && feeder.send(std::mem::take(&mut chunk)).await.is_err() {
            return Ok(());
        }
    }
    let _ = feeder.send(chunk).await;
    Ok(())
}

/// Stores the chunks and answers them, until there are no more, nobody reads the answers, or the
/// caller's token is no longer good.
async fn store(
    scheduler: &Scheduler,
    who: &Identity,
    mut chunks: mpsc::Receiver<Chunk>,
    answers: &Writer,
    tally: &mut Tally,
) -> Result<(), Problem> {
    while let Some(chunk) = chunks.recv().await {
        if chunk.entries.is_empty() {
            continue;
        }
        if !who.holds() {
            return Err(UNAUTHORIZED.says("the token is not good any more; nothing after this was accepted"));
        }
        let verdicts = match chunk.jobs.is_empty() {
            true => Vec::new(),
            false => {
                let stored = chunk.entries.iter().filter(|(_, refusal)| refusal.is_none());
                let numbers = stored.map(|(place, _)| place.item).collect();
                scheduler.submit_batch(Batch::itemised(chunk.jobs).numbered(numbers)).await?
            }
        };
        let text = told(chunk.entries, verdicts, tally);
        if answers.send(text.into()).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// One line for each entry.
fn told(entries: Vec<(Place, Option<Problem>)>, verdicts: Vec<Verdict>, tally: &mut Tally) -> String {
    let mut verdicts = verdicts.into_iter();
    let mut text = String::with_capacity(entries.len() * 80);
    for (place, refusal) in entries {
        let verdict = match refusal {
            Some(refusal) => Err(refusal),
            None => judged(verdicts.next(), place),
        };
        tally.items += 1;
        // Writing to a string does not fail.
        let _ = match verdict {
            Ok((guid, created)) => {
                *if created { &mut tally.created } else { &mut tally.existing } += 1;
                let item = place.item;
                writeln!(text, r#"{{"item":{item},"guid":"{guid}","created":{created}}}"#)
            }
            Err(problem) => {
                tally.refused += 1;
                writeln!(text, "{}", json!({ "item": place.item, "problem": problem.to_json() }))
            }
        };
    }
    text
}

fn judged(verdict: Option<Verdict>, place: Place) -> Result<(Guid, bool), Problem> {
    match verdict {
        Some(Verdict::Created(guid)) => Ok((guid, true)),
        Some(Verdict::Existing(guid)) => Ok((guid, false)),
        Some(Verdict::Conflict(err) | Verdict::Invalid(err)) => Err(place.of(err.into())),
        None => Err(place.of(INVALID_JOB.says("the store gave no verdict on it"))),
    }
}
