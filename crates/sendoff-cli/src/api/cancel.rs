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
    problem::{INVALID_BODY, NO_FILTER, Problem, STORE_UNAVAILABLE, TOO_LATE},
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
    sendoff::crash_point!(CancelBeforeReply);
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
        unfinished: true,
        queue: narrow.queue,
        label,
        from: narrow.from,
        to: narrow.to,
        submitted_by: narrow.submitted_by,
        ..Filter::default()
    };
    let sweep = Sweep::new(&api, filter, which.cursor.as_deref())?;
    let counts = sweep.run().await?;
    audit(&call.who.name, "cancel_many", None, &counts);
    sendoff::crash_point!(BulkCancelBeforeReply);
    json(StatusCode::OK, &counts)
}

/// Cancels what is pending in a queue.
pub(crate) async fn purge(api: Arc<Api>, call: Call) -> Answered {
    let go_on: Continue = read::json_or_none(&call.headers, call.body).await?;
    let filter = Filter { state: Some(State::Pending), queue: Some(call.part.clone()), ..Filter::default() };
    let counts = Sweep::new(&api, filter, go_on.cursor.as_deref())?.run().await?;
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

/// A walk over the jobs that match, cancelling each. One that is not final when the walk comes by
/// is cancelled by its name, whatever state it is in by then. Jobs that came after the walk began are
/// left alone, or it might never end.
struct Sweep<'a> {
    api: &'a Api,
    filter: Filter,
    /// What its cursors are bound to.
    request: String,
    begun: Timestamp,
    after: Option<JobId>,
    counts: Counts,
}

impl<'a> Sweep<'a> {
    fn new(api: &'a Api, filter: Filter, cursor: Option<&str>) -> Result<Self, Problem> {
        let request = format!("cancel {filter:?}");
        let (mut begun, mut after) = (SystemClock.now(), None);
        if let Some(text) = cursor {
            let [micros, last] = cursor::read(text, &request)?;
            begun = i64::try_from(micros).ok().and_then(Timestamp::from_micros).unwrap_or(begun);
            after = Some(JobId(last));
        }
        Ok(Self { api, filter, request, begun, after, counts: Counts::default() })
    }

    async fn run(mut self) -> Result<Counts, Problem> {
        let began = SystemClock.elapsed();
        let stopping = self.api.stopping();
        let first = self.after;
        loop {
            let broke_off = match self.chunk().await {
                Ok(None) => break,
                Ok(Some(_)) => false,
                // What was done is told: the caller goes on when the store can be reached again.
                Err(problem) if problem.kind == STORE_UNAVAILABLE.name && self.after != first => true,
                Err(problem) => return Err(problem),
            };
            let late = SystemClock.elapsed().saturating_sub(began) >= WORK;
            if let Some(JobId(last)) = self.after
                && (broke_off || late || *stopping.borrow())
            {
                let position = [self.begun.as_micros().unsigned_abs(), last];
                self.counts.next_cursor = Some(cursor::write(&position, &self.request));
                break;
            }
        }
        Ok(self.counts)
    }

    /// Cancels a page of jobs; after which row there is more to do.
    async fn chunk(&mut self) -> Result<Option<JobId>, Problem> {
        let page = PageRequest { after: self.after, limit: CHUNK, ..PageRequest::default() };
        let page = self.api.scheduler.list(self.filter.clone(), page).await?;
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
            sendoff::crash_point!(BulkCancelAfterChunk);
        }
        self.after = page.next.filter(|_| !all_later);
        Ok(self.after)
    }

    async fn cancel(&mut self, guids: Vec<Guid>) -> Result<(), Problem> {
        for verdict in self.api.scheduler.cancel_many(guids).await? {
            match verdict {
                CancelVerdict::Cancelled { record, .. } => {
                    self.counts.cancelled += 1;
                    self.counts.maybe_started += u64::from(record.possible_duplicate);
                }
                CancelVerdict::TooLate(_) => self.counts.too_late += 1,
                CancelVerdict::NotFound => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sendoff::{JobSpec, starter::Simulated};

    use super::*;
    use crate::api::tests::Place;

    /// Every step of a walk sees the job in whatever state it is in by then: it cannot slip through
    /// between two looks at different states.
    #[tokio::test]
    async fn a_job_that_begins_under_the_walk_is_met() {
        let place = Place::new().await;
        let slow = || JobSpec::new(&Simulated::new(Duration::from_secs(3_600)));
        let hour = Duration::from_secs(3_600);
        let mut last = None;
        for _ in 0..=CHUNK {
            last = Some(place.scheduler.submit(slow().delay(hour)).unwrap().await.unwrap().guid);
        }
        let filter = Filter { unfinished: true, ..Filter::default() };
        let mut sweep = Sweep::new(&place.api, filter, None).unwrap();
        assert!(sweep.chunk().await.unwrap().is_some());
        let last = last.unwrap();
        place.scheduler.start_now(last).await.unwrap();
        while place.scheduler.get(last).await.unwrap().unwrap().state == State::Pending {
            tokio::task::yield_now().await;
        }
        let counts = sweep.run().await.unwrap();
        assert_eq!((counts.cancelled, counts.too_late), (CHUNK as u64, 1));
    }
}
