//! Cancels: of one job, and of many by a filter.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use schemars::JsonSchema;
use sendoff::{
    Guid, JobId, JobRecord, State, Timestamp,
    ports::{CancelVerdict, Filter, PageRequest},
    time::{Clock, SystemClock},
};
use serde::{Deserialize, Serialize};

use super::{
    Answered, Api, Call, cursor,
    jobs::{no_job, with_record},
    json, list,
    problem::{INVALID_BODY, NO_FILTER, Problem, TOO_LATE},
    read, schema,
};

/// How long one call works before it gives a cursor to go on with.
const WORK: Duration = Duration::from_secs(10);
/// Jobs cancelled at once.
const CHUNK: usize = 1_000;

/// A cancel that came in time.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Cancelled {
    outcome: Outcome,
    /// An earlier attempt may have happened, or may still.
    maybe_started: bool,
    record: Box<JobRecord>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Cancelled,
}

/// Which jobs to cancel: a filter, or `all`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("oneOf" = [
    {
        "required": ["filter"],
        "properties": {
            "filter": {"type": "object", "not": {"additionalProperties": {"type": "null"}}},
            "all": {"const": false},
        },
    },
    {
        "required": ["all"],
        "properties": {
            "filter": {"additionalProperties": {"type": "null"}},
            "all": {"const": true},
        },
    },
]))]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    filter: Option<Narrow>,
    /// Every job that is not final. Only without a filter.
    #[serde(default)]
    all: bool,
    /// Goes on where the same request broke off.
    cursor: Option<String>,
}

/// Jobs that match all of this.
#[derive(Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Narrow {
    queue: Option<String>,
    /// `NAME=VALUE`.
    #[schemars(regex(pattern = schema::LABEL))]
    label: Option<String>,
    /// With `run_at` not before this.
    from: Option<Timestamp>,
    /// With `run_at` before this.
    to: Option<Timestamp>,
    submitted_by: Option<String>,
}

/// Where a purge goes on.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Continue {
    /// Goes on where the same request broke off.
    cursor: Option<String>,
}

/// What a bulk cancel has done.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Counts {
    cancelled: u64,
    /// Of those: an earlier attempt may have happened.
    maybe_started: u64,
    /// Were starting already: the attempt under way is their last.
    too_late: u64,
    /// There is more to do: repeat the request with this cursor.
    next_cursor: Option<String>,
}

pub(crate) async fn one(api: Arc<Api>, call: Call) -> Answered {
    let guid = call.guid()?;
    read::nothing(call.body).await?;
    let verdict = api.scheduler.cancel(guid).await?;
    let outcome = match &verdict {
        CancelVerdict::Cancelled { .. } => "cancelled",
        CancelVerdict::TooLate(_) => "too_late",
        CancelVerdict::NotFound => "not_found",
    };
    tracing::info!(target: "audit", who = %call.who.name, action = "cancel", %guid, outcome);
    match verdict {
        CancelVerdict::Cancelled { record, .. } => {
            let maybe_started = record.possible_duplicate;
            json(StatusCode::OK, &Cancelled { outcome: Outcome::Cancelled, maybe_started, record })
        }
        CancelVerdict::TooLate(record) => {
            let asked = record.cancel_requested_at.is_some();
            let problem = TOO_LATE.says(format!("job {guid} was {} already", record.state.as_str()));
            Err(with_record(problem, &record).with("cancel_requested", asked))
        }
        CancelVerdict::NotFound => Err(no_job(guid)),
    }
}

pub(crate) async fn many(api: Arc<Api>, call: Call) -> Answered {
    let which: Which = read::json(&call.headers, call.body).await?;
    let narrow = which.filter.unwrap_or_default();
    if narrow == Narrow::default() {
        if !which.all {
            return Err(NO_FILTER.says("give a filter, or say \"all\": true if every job is meant"));
        }
    } else if which.all {
        return Err(INVALID_BODY.says("give a filter or \"all\": true, not both").with("field", "all"));
    }
    let label = narrow.label.as_deref().map(list::label).transpose();
    let label = label.map_err(|err| INVALID_BODY.says(format!("filter.label: {err}")))?;
    let filter = Filter {
        queue: narrow.queue,
        label,
        from: narrow.from,
        to: narrow.to,
        submitted_by: narrow.submitted_by,
        ..Filter::default()
    };
    let sweep = Sweep::new(&api, filter, &[State::Starting, State::Pending], which.cursor.as_deref())?;
    let counts = sweep.run().await?;
    audit(&call.who.name, "cancel_many", None, &counts);
    json(StatusCode::OK, &counts)
}

/// Cancels what is pending in a queue.
pub(crate) async fn purge(api: Arc<Api>, call: Call) -> Answered {
    let go_on: Continue = read::json_or_none(&call.headers, call.body).await?;
    let filter = Filter { queue: Some(call.part.clone()), ..Filter::default() };
    let counts = Sweep::new(&api, filter, &[State::Pending], go_on.cursor.as_deref())?.run().await?;
    audit(&call.who.name, "purge", Some(&call.part), &counts);
    json(StatusCode::OK, &counts)
}

fn audit(who: &str, action: &str, queue: Option<&str>, counts: &Counts) {
    tracing::info!(
        target: "audit",
        who,
        action,
        queue,
        cancelled = counts.cancelled,
        too_late = counts.too_late,
        complete = counts.next_cursor.is_none(),
    );
}

/// A walk over jobs that are not final, cancelling each.
///
/// A job may change its state while the walk passes by; so rounds over all `states` are repeated
/// until one meets nothing that it could change. A starting job has its cancel noted and cannot
/// become pending again. Jobs that came after the walk began are left alone, or it might never end.
struct Sweep<'a> {
    api: &'a Api,
    filter: Filter,
    states: &'a [State],
    /// What its cursors are bound to.
    request: String,
    begun: Timestamp,
    /// Which of `states` this round is at, and after which row.
    at: usize,
    after: Option<JobId>,
    /// This round has changed something.
    found: bool,
    counts: Counts,
}

impl<'a> Sweep<'a> {
    fn new(api: &'a Api, filter: Filter, states: &'a [State], cursor: Option<&str>) -> Result<Self, Problem> {
        let request = format!("cancel {} {filter:?}", states.len());
        let mut sweep = Self {
            api,
            filter,
            states,
            request,
            begun: SystemClock.now(),
            at: 0,
            after: None,
            found: false,
            counts: Counts::default(),
        };
        if let Some(text) = cursor {
            let [begun, at, after, found] = cursor::read(text, &sweep.request)?;
            let begun = i64::try_from(begun).ok().and_then(Timestamp::from_micros);
            sweep.begun = begun.unwrap_or(sweep.begun);
            sweep.at = usize::try_from(at).unwrap_or(0).min(states.len() - 1);
            sweep.after = (after > 0).then(|| JobId(after - 1));
            sweep.found = found > 0;
        }
        Ok(sweep)
    }

    fn cursor(&self) -> String {
        let begun = self.begun.as_micros().unsigned_abs();
        let after = self.after.map_or(0, |JobId(id)| id.saturating_add(1));
        cursor::write(&[begun, self.at as u64, after, u64::from(self.found)], &self.request)
    }

    async fn run(mut self) -> Result<Counts, Problem> {
        let began = SystemClock.elapsed();
        let stopping = self.api.stopping();
        while self.chunk().await? {
            if SystemClock.elapsed().saturating_sub(began) >= WORK || *stopping.borrow() {
                self.counts.next_cursor = Some(self.cursor());
                break;
            }
        }
        Ok(self.counts)
    }

    /// Cancels a page of jobs; whether there is more to do.
    async fn chunk(&mut self) -> Result<bool, Problem> {
        let state = self.states[self.at];
        let filter = Filter { state: Some(state), ..self.filter.clone() };
        let page = PageRequest { after: self.after, limit: CHUNK, ..PageRequest::default() };
        let page = self.api.scheduler.list(filter, page).await?;
        let all_later = !page.records.is_empty() && page.records.iter().all(|job| job.queued_at > self.begun);
        let guids: Vec<Guid> = page
            .records
            .iter()
            .filter(|job| {
                job.queued_at <= self.begun && job.cancel_requested_at.is_none() && !job.quarantined
            })
            .map(|job| job.guid)
            .collect();
        if !guids.is_empty() {
            self.cancel(guids).await?;
        }
        self.after = page.next.filter(|_| !all_later);
        if self.after.is_none() {
            self.at += 1;
        }
        if self.at == self.states.len() {
            self.at = 0;
            // One state alone is walked once: what leaves it may come back for ever.
            return Ok(std::mem::take(&mut self.found) && self.states.len() > 1);
        }
        Ok(true)
    }

    async fn cancel(&mut self, guids: Vec<Guid>) -> Result<(), Problem> {
        for verdict in self.api.scheduler.cancel_many(guids).await? {
            match verdict {
                CancelVerdict::Cancelled { record, .. } => {
                    self.found = true;
                    self.counts.cancelled += 1;
                    self.counts.maybe_started += u64::from(record.possible_duplicate);
                }
                CancelVerdict::TooLate(_) => {
                    self.found = true;
                    self.counts.too_late += 1;
                }
                CancelVerdict::NotFound => {}
            }
        }
        Ok(())
    }
}
