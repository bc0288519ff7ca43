//! `sendoff cancel`: jobs by their names, or all that match a filter.

use sendoff::Guid;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};

use super::{
    each::each,
    http::{Call, Client},
    list::filter,
    output::{Output, Record},
    select::selectors,
};
use crate::{
    args::CancelArgs,
    failure::{Exit, Failure},
    out,
    run::{counted, grouped},
};

pub(super) async fn run(client: &Client, output: Output, args: &CancelArgs) -> Result<Exit, Failure> {
    if args.jobs.is_empty() {
        let mut request = Map::new();
        let filter: Map<String, Value> = filter(&args.filter)
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
            .collect();
        if args.all {
            request.insert("all".into(), true.into());
        } else {
            request.insert("filter".into(), filter.into());
        }
        return many(client, output, "/v1/jobs:cancel", request).await;
    }
    each(client, output, selectors(&args.jobs), |guid| one(client, guid), |verdict| tell(output, &verdict))
        .await
}

/// What became of a cancel.
#[derive(Serialize)]
struct Verdict {
    outcome: &'static str,
    maybe_started: bool,
    record: Box<RawValue>,
}

#[derive(Deserialize)]
struct Cancelled {
    maybe_started: bool,
    record: Box<RawValue>,
}

async fn one(client: &Client, guid: Guid) -> Result<Verdict, Failure> {
    let answer = client.call(&Call::post(format!("/v1/jobs/{guid}:cancel"))).await?;
    if let Some(problem) = answer.problem() {
        let Some(record) = problem.record().filter(|_| problem.kind() == "too_late") else {
            return Err(problem.failure());
        };
        let record = serde_json::value::to_raw_value(record).expect("JSON that was read can be written");
        return Ok(Verdict { outcome: "too_late", maybe_started: true, record });
    }
    let Cancelled { maybe_started, record } = answer.json()?;
    Ok(Verdict { outcome: "cancelled", maybe_started, record })
}

fn tell(output: Output, verdict: &Verdict) -> Result<Exit, Failure> {
    let record = Record::read(verdict.record.clone())?;
    let cancelled = verdict.outcome == "cancelled";
    match output {
        Output::Json => out::json(verdict)?,
        // Those of which a script may be sure.
        Output::Guids if cancelled => out::line(&record.job.guid.to_string())?,
        Output::Guids => {}
        Output::People => out::line(&words(verdict, &record))?,
    }
    Ok(if cancelled { Exit::Ok } else { Exit::NotAll })
}

fn words(verdict: &Verdict, record: &Record) -> String {
    let (guid, job) = (record.job.guid, &record.job);
    match (verdict.outcome, verdict.maybe_started) {
        ("cancelled", false) => format!("{guid}  cancelled"),
        ("cancelled", true) => format!("{guid}  cancelled; an earlier attempt may have started"),
        _ if !job.state.is_final() => {
            format!("{guid}  too late: it is starting; no other attempt follows this one")
        }
        _ => format!("{guid}  too late: it is {}", job.state),
    }
}

/// What many cancels did.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Counts {
    cancelled: u64,
    maybe_started: u64,
    too_late: u64,
    #[serde(skip_serializing)]
    next_cursor: Option<String>,
}

/// Repeats a call that works in chunks, until it says that nothing is left.
pub(super) async fn many(
    client: &Client,
    output: Output,
    path: &str,
    mut request: Map<String, Value>,
) -> Result<Exit, Failure> {
    let mut sum = Counts::default();
    loop {
        let call = if request.is_empty() { Call::post(path) } else { Call::post(path).json(&request) };
        // Told twice, it would count what it cancelled the first time as nothing.
        let done: Counts = client.call(&call.only_once()).await?.json()?;
        sum.cancelled += done.cancelled;
        sum.maybe_started += done.maybe_started;
        sum.too_late += done.too_late;
        let Some(cursor) = done.next_cursor else { break };
        output.note(&format!("{} cancelled so far", grouped(sum.cancelled)));
        request.insert("cursor".into(), cursor.into());
    }
    output.fact(&sum, || {
        let mut text = format!("{} cancelled", counted(sum.cancelled, "job"));
        if sum.maybe_started > 0 {
            text.push_str(&format!(" ({} of them may have started before)", grouped(sum.maybe_started)));
        }
        if sum.too_late > 0 {
            text.push_str(&format!(", {} too late: they were starting", grouped(sum.too_late)));
        }
        text
    })?;
    Ok(if sum.too_late > 0 { Exit::NotAll } else { Exit::Ok })
}
