//! One attempt, from the claim to its end.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde::Deserialize;

use super::resolve::{self, DEFAULT_START_TIMEOUT};
use crate::{
    dispatcher::{AttemptEnd, Backoff},
    job::{Retry, Start},
    ports::{Attempt, AttemptClock, Claimed, Lease, Running, StartError, Starter},
    time::{Clock, Span},
};

/// What an attempt needs of a stored request; the rest is in the job already.
#[derive(Deserialize)]
struct Request {
    start: Start,
    #[serde(default)]
    retry: Retry,
    start_timeout: Option<Span>,
}

/// Runs one attempt to its end, under its timeout. A panic of the starter is an ambiguous outcome.
pub(super) async fn run(
    starter: Arc<dyn Starter>,
    abandonable: bool,
    claimed: Arc<Claimed>,
    clock: Arc<AttemptClock>,
    running: Running,
) -> AttemptEnd {
    let id = claimed.id;
    let request: Request = match serde_json::from_str(&claimed.job.request) {
        Ok(request) => request,
        Err(err) => {
            let result = Err(StartError::permanent(format!("the stored request cannot be read: {err}")));
            return AttemptEnd { id, begun: None, result, backoff: Backoff::default() };
        }
    };
    let timeout = request.start_timeout.map_or(DEFAULT_START_TIMEOUT, Span::duration);
    let attempt = Attempt {
        guid: claimed.job.guid,
        queue: claimed.job.lane.queue.clone(),
        number: claimed.attempt,
        due_at: claimed.run_at,
        delivery: claimed.job.delivery,
        payload: request.start.payload,
        grant: claimed.job.grant.clone(),
        timeout,
        running,
        clock: clock.clone(),
    };
    // Also what a starter does before its future is polled, and while it is dropped, may panic.
    let start = AssertUnwindSafe(async {
        if !abandonable {
            return starter.start(attempt).await;
        }
        match tokio::time::timeout(timeout, starter.start(attempt)).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(&clock, timeout)),
        }
    });
    let result = start.catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic)));
    if result.is_ok() {
        clock.must_have_begun();
    }
    AttemptEnd { id, begun: clock.read(), result, backoff: resolve::backoff(&request.retry) }
}

fn timed_out(clock: &AttemptClock, timeout: Duration) -> StartError {
    let span = Span::from(timeout);
    if clock.stop() {
        StartError::not_started(format!("it could not begin within {span}"))
    } else {
        StartError::ambiguous(format!("no answer within {span}"))
    }
}

fn panicked(panic: &(dyn Any + Send)) -> StartError {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    StartError::ambiguous(format!("the starter panicked: {words}"))
}

/// The stamps of a claimed job's attempt.
pub(super) fn stamps(
    clock: &Arc<dyn Clock>,
    lease: Option<Arc<Lease>>,
    claimed: &Claimed,
) -> Arc<AttemptClock> {
    let job = &claimed.job;
    Arc::new(AttemptClock::new(clock.clone(), lease, job.queued_at, claimed.claimed_at, job.expires_at))
}
