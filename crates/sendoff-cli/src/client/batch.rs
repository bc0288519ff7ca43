//! `sendoff batch`: a file of jobs, in chunks or all or none.

mod chunks;
mod sum;

use std::path::Path;

use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;

use self::{
    chunks::{Chunk, Chunks, Item},
    sum::Sum,
};
use super::{
    http::{Call, Client, strange},
    output::Output,
    problem::Problem,
};
use crate::{
    args::BatchArgs,
    failure::{Exit, Failure},
    run::{counted, grouped},
};

/// Chunks on their way at once.
const AT_ONCE: usize = 4;
/// What the daemon takes at most of an atomic batch.
const ATOMIC_JOBS: usize = 10_000;
const ATOMIC_BYTES: usize = 16 * 1024 * 1024;
/// Bad lines of an atomic batch that are shown one by one.
const SHOWN: usize = 20;

pub(super) async fn run(client: Client, output: Output, args: &BatchArgs) -> Result<Exit, Failure> {
    let label = if args.file == Path::new("-") { "stdin".into() } else { args.file.display().to_string() };
    if args.atomic {
        return atomic(&client, output, args, label).await;
    }
    let chunks = Chunks::read(&args.file, &label, chunks::PIECE)?;
    let mut sum = Sum::new(output, label.clone(), chunks.bytes);
    let client = &client;
    let answers = stream::unfold(chunks, |mut chunks| async { Some((chunks.next().await?, chunks)) })
        .map(|chunk| async move { send(client, chunk?).await })
        .buffered(AT_ONCE);
    let mut answers = std::pin::pin!(answers);
    while let Some(answered) = answers.next().await {
        // What was accepted before stays accepted, and is told.
        match answered {
            Ok(answered) => sum.add(answered)?,
            Err(failure) => return Err(sum.broken(failure)),
        }
    }
    sum.finish()
}

/// What became of a chunk: a verdict for each of its items, in order.
struct Answered {
    chunk: Chunk,
    verdicts: Vec<Verdict>,
}

enum Verdict {
    Accepted {
        guid: String,
        created: bool,
    },
    Refused(Problem),
    /// It is no job; it was not sent.
    Bad(String),
}

/// One line of the answer to an itemised batch.
#[derive(Deserialize)]
struct Line {
    guid: Option<String>,
    /// Of an item whether it is new; of the last line how many are.
    #[serde(default)]
    created: Value,
    problem: Option<Value>,
    items: Option<u64>,
}

async fn send(client: &Client, chunk: Chunk) -> Result<Answered, Failure> {
    let mut verdicts = Vec::with_capacity(chunk.items.len());
    let mut lines = Vec::new();
    if !chunk.body.is_empty() {
        let call = Call::post("/v1/jobs:batch?atomic=false")
            .body("application/x-ndjson", chunk.body.clone())
            .in_lines();
        let answer = client.call(&call).await?;
        answer.success()?;
        for line in answer.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let line: Line = serde_json::from_slice(line).map_err(|err| strange(&err))?;
            match (line.items, line.problem) {
                (Some(_), None) => break,
                (Some(_), Some(problem)) => return Err(Problem::within(&problem).failure()),
                (None, Some(problem)) => lines.push(Verdict::Refused(Problem::within(&problem))),
                (None, None) => {
                    let guid = line.guid.ok_or_else(|| strange(&"an item has no guid"))?;
                    lines.push(Verdict::Accepted { guid, created: line.created == true });
                }
            }
        }
    }
    let mut lines = lines.into_iter();
    for item in &chunk.items {
        verdicts.push(match &item.job {
            Err(message) => Verdict::Bad(message.clone()),
            Ok(ours) => match lines.next() {
                // An answer that was lost had created it.
                Some(Verdict::Accepted { guid, created }) => {
                    Verdict::Accepted { guid, created: created || *ours }
                }
                Some(verdict) => verdict,
                None => return Err(strange(&"it does not name every job of the batch")),
            },
        });
    }
    Ok(Answered { chunk, verdicts })
}

/// The items of the answer to an atomic batch.
#[derive(Deserialize)]
struct Stored {
    items: Vec<StoredItem>,
}

#[derive(Deserialize)]
struct StoredItem {
    guid: String,
    created: bool,
}

async fn atomic(client: &Client, output: Output, args: &BatchArgs, label: String) -> Result<Exit, Failure> {
    let mut chunks = Chunks::read(&args.file, &label, usize::MAX)?;
    let mut all = Chunk::default();
    while let Some(chunk) = chunks.next().await {
        all.append(chunk?);
        if all.items.len() > ATOMIC_JOBS || all.body.len() > ATOMIC_BYTES {
            return Err(Failure::usage(format!(
                "{label}: an atomic batch has at most {} jobs and 16 MiB; without --atomic the length does not matter",
                grouped(ATOMIC_JOBS as u64)
            )));
        }
    }
    let mut sum = Sum::new(output, label.clone(), None);
    let bad: Vec<&Item> = all.items.iter().filter(|item| item.job.is_err()).collect();
    if !bad.is_empty() {
        for item in bad.iter().take(SHOWN) {
            sum.report(item.line, item.job.as_ref().err().map_or("", String::as_str));
        }
        let more = if bad.len() > SHOWN {
            format!(" ({} more than are shown)", bad.len() - SHOWN)
        } else {
            String::new()
        };
        let lines = counted(bad.len() as u64, "bad line");
        return Err(Failure::usage(format!("{label}: {lines}{more}, and nothing was submitted")));
    }
    if all.items.is_empty() {
        return sum.finish();
    }
    let call = Call::post("/v1/jobs:batch?atomic=true").body("application/x-ndjson", all.body.clone());
    let answer = client.call(&call).await?;
    if let Some(problem) = answer.problem() {
        let item = problem.members.get("item").and_then(Value::as_u64);
        let line = item.and_then(|item| all.items.get(usize::try_from(item).ok()?.checked_sub(1)?));
        let failure = problem.failure();
        return Err(match line {
            Some(item) => Failure {
                message: format!("{label}:{}: {failure}; nothing was submitted", item.line),
                ..failure
            },
            None => failure,
        });
    }
    let Stored { items } = answer.json()?;
    if items.len() != all.items.len() {
        return Err(strange(&"it does not name every job of the batch"));
    }
    let verdicts = items.into_iter().zip(&all.items).map(|(stored, item)| Verdict::Accepted {
        guid: stored.guid,
        created: stored.created || item.job == Ok(true),
    });
    let verdicts = verdicts.collect();
    sum.add(Answered { chunk: all, verdicts })?;
    sum.finish()
}
