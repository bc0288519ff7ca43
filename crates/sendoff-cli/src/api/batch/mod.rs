//! Batches: all or none, or each job by itself and any number of them.

#[cfg(test)]
pub(crate) mod fuzz;
mod itemised;
mod lines;

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use sendoff::{Batch, Guid, JobSpec, Verdict, ports::Durability};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Answered, Api, Call, json,
    problem::{INVALID_BODY, INVALID_JOB, Problem, TOO_LARGE},
    read::{self, Media},
};

/// What became of an atomic batch.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Stored {
    /// In the order of the jobs.
    items: Vec<Item>,
    created: usize,
    /// Jobs that were submitted before.
    existing: usize,
    durability: Durability,
}

/// One job of an atomic batch.
#[derive(Debug, Serialize, JsonSchema)]
struct Item {
    guid: Guid,
    /// False: it was submitted before, under this guid.
    created: bool,
}

/// Where in a body a job stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its number, from 1.
    pub(crate) item: u64,
    /// Its line, from 1; none in an array.
    pub(crate) line: Option<u64>,
}

impl Place {
    fn of(self, problem: Problem) -> Problem {
        let problem = problem.with("item", self.item);
        match self.line {
            Some(line) => problem.with("line", line),
            None => problem,
        }
    }
}

pub(crate) async fn submit(api: Arc<Api>, call: Call) -> Answered {
    let atomic = call.query.read("atomic", |text| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("it is true or false"),
    })?;
    let media = read::media(&call.headers, true)?;
    match atomic {
        Some(false) => itemised::submit(api, call, media).await,
        Some(true) | None => all_or_none(api, call, media).await,
    }
}

async fn all_or_none(api: Arc<Api>, call: Call, media: Media) -> Answered {
    let (body, _room) = api.room.whole(call.body, Batch::MAX_ATOMIC_BYTES).await?;
    let (specs, places) = match media {
        Media::NdJson => from_lines(&body)?,
        Media::Json => from_array(&body)?,
    };
    drop(body);
    let scheduler = api.scheduler.for_caller(call.who.caller());
    let verdicts = scheduler.submit_batch(Batch::atomic(specs)).await.map_err(|err| refused(err, &places))?;
    let items: Vec<Item> = verdicts
        .iter()
        .filter_map(|verdict| {
            let created = matches!(verdict, Verdict::Created(_));
            verdict.guid().map(|guid| Item { guid, created })
        })
        .collect();
    let created = items.iter().filter(|item| item.created).count();
    let existing = items.len() - created;
    tracing::debug!(target: "audit", who = %call.who.name, action = "submit_batch", created, existing);
    sendoff::crash_point!(BatchBeforeReply);
    json(StatusCode::OK, &Stored { items, created, existing, durability: scheduler.durability() })
}

type Specs = (Vec<JobSpec>, Vec<Place>);

fn from_lines(body: &[u8]) -> Result<Specs, Problem> {
    let lines = body.split(|&byte| byte == b'\n').zip(1_u64..);
    let lines = lines.filter(|(text, _)| !text.trim_ascii().is_empty());
    gather(lines.zip(1_u64..).map(|((text, line), item)| (text, Place { item, line: Some(line) })))
}

fn from_array(body: &[u8]) -> Result<Specs, Problem> {
    gather(
        items(body)?
            .iter()
            .zip(1_u64..)
            .map(|(job, item)| (job.get().as_bytes(), Place { item, line: None })),
    )
}

/// The items of a JSON array, each still to be read.
fn items(body: &[u8]) -> Result<Vec<&RawValue>, Problem> {
    serde_json::from_slice(body).map_err(|err| {
        INVALID_BODY.says(format!(
            "the body must be a JSON array of jobs, or one job a line with Content-Type application/x-ndjson: {err}"
        ))
    })
}

fn gather<'a>(jobs: impl Iterator<Item = (&'a [u8], Place)>) -> Result<Specs, Problem> {
    let (mut specs, mut places) = (Vec::new(), Vec::new());
    for (text, place) in jobs {
        if specs.len() == Batch::MAX_ATOMIC {
            let limit = Batch::MAX_ATOMIC;
            let why = format!("an atomic batch has at most {limit} jobs; send more with ?atomic=false");
            return Err(TOO_LARGE.says(why).with("limit", limit));
        }
        specs.push(JobSpec::from_json(text).map_err(|err| place.of(err.into()))?);
        places.push(place);
    }
    Ok((specs, places))
}

/// The job that is to blame becomes a member, with its line.
fn refused(err: sendoff::Error, places: &[Place]) -> Problem {
    match err.item().and_then(|item| places.get(item)) {
        Some(place) => place.of(err.of_one_job().into()),
        None => err.into(),
    }
}

/// A job that is longer than a job may be.
fn too_long(place: Place) -> Problem {
    let why = format!("the job is longer than the {} bytes allowed", JobSpec::MAX_BYTES);
    place.of(INVALID_JOB.says(why))
}
