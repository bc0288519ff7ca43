//! One job: submit it, look at it, move it, decide on it.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use sendoff::{
    Guid, JobRecord, JobSpec, NotStarted, State, Timestamp,
    ports::{Changed, Durability},
    state::Resolution,
    time::{Clock, Span, SystemClock},
};
use serde::{Deserialize, Serialize};

use super::{
    Answered, Api, Call, json,
    problem::{INVALID_BODY, INVALID_JOB, NO_JOB, NOT_PENDING, NOT_UNKNOWN, PAST_DEADLINE, Problem},
    read::{self, bad_parameter},
};

pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest wait of a `?wait=`.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(300);

/// The answer to a submit: the record, and what became of the request.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Submitted {
    #[serde(flatten)]
    record: JobRecord,
    /// False: this very job was submitted before, and this is its record.
    created: bool,
    /// What survives now that this is answered.
    durability: Durability,
}

/// When a pending job is to start: exactly one of the two.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = [
    {"required": ["run_at"], "properties": {"run_at": {"type": "string"}, "delay": {"type": "null"}}},
    {"required": ["delay"], "properties": {"delay": {"type": "string"}, "run_at": {"type": "null"}}},
]))]
#[serde(deny_unknown_fields)]
pub(crate) struct Move {
    run_at: Option<Timestamp>,
    delay: Option<Span>,
}

/// An operator's decision on an unknown job.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Decision {
    to: Resolution,
}

pub(crate) async fn submit(api: Arc<Api>, call: Call) -> Answered {
    read::media(&call.headers, false)?;
    let body = read::whole(call.body, JobSpec::MAX_BYTES).await?;
    let mut spec = JobSpec::from_json(&body)?;
    drop(body);
    sendoff::crash_point!(SubmitReceived);
    if let Some(key) = read::header_text(&call.headers, &IDEMPOTENCY_KEY)? {
        match &spec.idempotency_key {
            Some(other) if other != key => {
                return Err(INVALID_JOB
                    .says("the job's idempotency_key and the Idempotency-Key header differ; give one of them")
                    .with("field", "idempotency_key"));
            }
            Some(_) => {}
            None => spec.idempotency_key = Some(key.to_owned()),
        }
    }
    let mut submission = api.scheduler.for_caller(call.who.caller()).submit(spec)?;
    let accepted = (&mut submission).await?;
    let record = match submission.record() {
        Some(record) => record,
        // It was submitted before; only retention can have been faster than this read.
        None => api.scheduler.get(accepted.guid).await?.ok_or_else(|| no_job(accepted.guid))?,
    };
    tracing::debug!(target: "audit", who = %call.who.name, action = "submit", guid = %accepted.guid, created = accepted.created);
    let status = if accepted.created { StatusCode::CREATED } else { StatusCode::OK };
    let guid = accepted.guid;
    let durability = api.scheduler.durability();
    let mut response = json(status, &Submitted { record, created: accepted.created, durability })?;
    if accepted.created
        && let Ok(place) = HeaderValue::from_str(&format!("/v1/jobs/{guid}"))
    {
        response.headers_mut().insert(header::LOCATION, place);
    }
    sendoff::crash_point!(SubmitBeforeReply);
    Ok(response)
}

pub(crate) async fn show(api: Arc<Api>, call: Call) -> Answered {
    let guid = call.guid()?;
    let wait = call.query.read("wait", |text| text.parse::<Span>())?.unwrap_or_default().duration();
    if wait > MAX_WAIT {
        return Err(bad_parameter("wait", "it is at most 5m; ask again for longer"));
    }
    if !wait.is_zero() {
        let mut stopping = api.stopping();
        tokio::select! {
            ended = api.scheduler.started(guid) => return json(StatusCode::OK, &ended_record(ended)?),
            () = tokio::time::sleep(wait) => {}
            () = api.crowded.notified() => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }
    match api.scheduler.get(guid).await? {
        Some(record) => json(StatusCode::OK, &record),
        None => Err(no_job(guid)),
    }
}

/// The record of a job that is final, however it ended.
fn ended_record(ended: Result<JobRecord, NotStarted>) -> Result<JobRecord, Problem> {
    match ended {
        Ok(record) => Ok(record),
        Err(
            NotStarted::Cancelled(record)
            | NotStarted::Failed(record)
            | NotStarted::Expired(record)
            | NotStarted::Unknown(record),
        ) => Ok(*record),
        Err(NotStarted::Error(err)) => Err(err.into()),
    }
}

pub(crate) async fn reschedule(api: Arc<Api>, call: Call) -> Answered {
    let guid = call.guid()?;
    let to: Move = read::json(&call.headers, call.body).await?;
    let run_at = match (to.run_at, to.delay) {
        (Some(run_at), None) => run_at,
        (None, Some(delay)) => SystemClock
            .now()
            .checked_add(delay.duration())
            .ok_or_else(|| INVALID_BODY.says("delay: it ends past the year 9999").with("field", "delay"))?,
        _ => return Err(INVALID_BODY.says("give exactly one of run_at and delay")),
    };
    let changed = api.scheduler.reschedule(guid, run_at).await?;
    moved(&call.who.name, "reschedule", guid, changed)
}

pub(crate) async fn start_now(api: Arc<Api>, call: Call) -> Answered {
    let guid = call.guid()?;
    read::nothing(call.body).await?;
    let changed = api.scheduler.start_now(guid).await?;
    moved(&call.who.name, "start_now", guid, changed)
}

fn moved(who: &str, action: &str, guid: Guid, changed: Option<Changed>) -> Answered {
    let changed = changed.ok_or_else(|| no_job(guid))?;
    tracing::info!(target: "audit", who, action, %guid, applied = changed.applied, run_at = %changed.record.run_at);
    if changed.applied {
        sendoff::crash_point!(RescheduleBeforeReply);
        return json(StatusCode::OK, &changed.record);
    }
    let state = changed.record.state;
    let problem = if state == State::Pending {
        PAST_DEADLINE.says(format!("the deadline of job {guid} is not after the time asked for"))
    } else {
        NOT_PENDING.says(format!("job {guid} is {}, not pending", state.as_str()))
    };
    Err(with_record(problem, &changed.record))
}

pub(crate) async fn resolve(api: Arc<Api>, call: Call) -> Answered {
    let guid = call.guid()?;
    let decision: Decision = read::json(&call.headers, call.body).await?;
    let to = decision.to;
    let changed = api.scheduler.resolve_unknown(guid, to).await?.ok_or_else(|| no_job(guid))?;
    tracing::info!(target: "audit", who = %call.who.name, action = "resolve", %guid, ?to, applied = changed.applied);
    if changed.applied {
        return json(StatusCode::OK, &changed.record);
    }
    let problem = NOT_UNKNOWN.says(format!("job {guid} is {}, not unknown", changed.record.state.as_str()));
    Err(with_record(problem, &changed.record))
}

pub(crate) fn no_job(guid: Guid) -> Problem {
    NO_JOB.says(format!("there is no job {guid}, or not any more")).with("guid", guid.to_string())
}

pub(crate) fn with_record(problem: Problem, record: &JobRecord) -> Problem {
    problem.with("record", serde_json::to_value(record).unwrap_or_default())
}
