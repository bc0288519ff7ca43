//! One attempt, from the claim to its end.

mod many;

use std::{any::Any, fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::resolve::{self, DEFAULT_START_TIMEOUT};
use crate::{
    dispatcher::{AttemptEnd, Backoff},
    job::{JobId, Receipt, Retry},
    ports::{Attempt, AttemptClock, Claimed, Lease, Running, StartError, Starter},
    time::{Clock, Span},
};

pub(super) use many::run_many;

/// What an attempt needs of a stored request; the rest is in the job already.
#[derive(Clone, Deserialize)]
struct Request {
    #[serde(rename = "start", deserialize_with = "payload")]
    payload: Box<RawValue>,
    #[serde(default)]
    retry: Retry,
    start_timeout: Option<Span>,
}

impl Request {
    fn read(request: &str) -> serde_json::Result<Self> {
        match lone_payload(request) {
            Some(payload) => {
                Ok(Self { payload: payload.to_owned(), retry: Retry::default(), start_timeout: None })
            }
            None => serde_json::from_str(request),
        }
    }
}

/// The payload of a request that says nothing else, as most do: `{"start":{"name":PAYLOAD}}`. Finding
/// its end is then all the reading that there is.
fn lone_payload(request: &str) -> Option<&RawValue> {
    let (name, rest) = request.strip_prefix("{\"start\":{\"")?.split_once('"')?;
    if name.contains('\\') {
        return None;
    }
    let rest = rest.strip_prefix(':')?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
    let payload = values.next()?.ok()?;
    (&rest[values.byte_offset()..] == "}}").then_some(payload)
}

/// What a start of this stored request is given.
#[cfg(feature = "testing")]
pub(super) fn payload_of(request: &str) -> String {
    let whole: Request = serde_json::from_str(request).expect("a stored request");
    let read = Request::read(request).expect("a stored request");
    assert_eq!(whole.payload.get(), read.payload.get(), "both ways of reading it");
    read.payload.get().to_owned()
}

/// What stands behind the starter's name.
fn payload<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
    struct OneEntry;

    impl<'de> Visitor<'de> for OneEntry {
        type Value = Box<RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object with one starter")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let entry = map.next_entry::<IgnoredAny, Self::Value>()?;
            entry.map(|(_, payload)| payload).ok_or_else(|| de::Error::invalid_length(0, &self))
        }
    }

    deserializer.deserialize_map(OneEntry)
}

/// An attempt to be made.
pub(super) struct Given {
    pub(super) claimed: Arc<Claimed>,
    pub(super) clock: Arc<AttemptClock>,
    pub(super) running: Running,
}

/// What is kept of an attempt while the starter has it.
struct Open {
    id: JobId,
    clock: Arc<AttemptClock>,
    timeout: Duration,
    backoff: Backoff,
}

impl Given {
    /// Reads the stored request; if that cannot be, the attempt has ended.
    fn read(&self) -> Result<Request, AttemptEnd> {
        Request::read(&self.claimed.job.request).map_err(|err| {
            let result = Err(StartError::permanent(format!("the stored request cannot be read: {err}")));
            AttemptEnd { id: self.claimed.id, begun: None, result, backoff: Backoff::default() }
        })
    }

    /// What the starter gets, and what is kept of it.
    fn open(self, request: Request) -> (Attempt, Open) {
        let Self { claimed, clock, running } = self;
        let id = claimed.id;
        let timeout = request.start_timeout.map_or(DEFAULT_START_TIMEOUT, Span::duration);
        let attempt = Attempt {
            guid: claimed.job.guid,
            queue: claimed.job.lane.queue.clone(),
            number: claimed.attempt,
            due_at: claimed.run_at,
            delivery: claimed.job.delivery,
            payload: request.payload,
            grant: claimed.job.grant.clone(),
            timeout,
            running,
            clock: clock.clone(),
        };
        (attempt, Open { id, clock, timeout, backoff: resolve::backoff(&request.retry) })
    }
}

impl Open {
    /// `now` is what has elapsed by the clock.
    fn end(self, result: Result<Receipt, StartError>, now: Duration) -> AttemptEnd {
        if result.is_ok() {
            self.clock.must_have_begun();
        }
        AttemptEnd { id: self.id, begun: self.clock.read_at(now), result, backoff: self.backoff }
    }
}

/// Runs one attempt to its end, under its timeout. A panic of the starter is an ambiguous outcome.
pub(super) async fn run(starter: Arc<dyn Starter>, abandonable: bool, given: Given) -> AttemptEnd {
    let request = match given.read() {
        Ok(request) => request,
        Err(end) => return end,
    };
    let (attempt, open) = given.open(request);
    // Also what a starter does before its future is polled, and while it is dropped, may panic.
    let start = AssertUnwindSafe(async {
        if !abandonable {
            return starter.start(attempt).await;
        }
        match tokio::time::timeout(open.timeout, starter.start(attempt)).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(&open.clock, open.timeout)),
        }
    });
    let result = start.catch_unwind().await.unwrap_or_else(|panic| Err(panicked(&*panic)));
    crash_point!(StartEnded);
    let now = open.clock.elapsed();
    open.end(result, now)
}

fn timed_out(clock: &AttemptClock, timeout: Duration) -> StartError {
    let span = Span::from(timeout);
    if clock.stop() || mutated!(TimeoutIsNotStarted) {
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
    if mutated!(PanicIsNotStarted) {
        return StartError::not_started("the starter panicked");
    }
    StartError::ambiguous(format!("the starter panicked: {words}"))
}

/// The stamps of a claimed job's attempt.
pub(super) fn stamps(
    clock: &Arc<dyn Clock>,
    lease: Option<Arc<Lease>>,
    claimed: &Claimed,
) -> Arc<AttemptClock> {
    let job = &claimed.job;
    // Not before it was to start either: the wall clock may have stepped back since the first attempt.
    let run_at = if mutated!(StampBeforeItsTime) { claimed.claimed_at } else { claimed.run_at };
    let not_before = claimed.claimed_at.max(run_at);
    Arc::new(AttemptClock::new(clock.clone(), lease, job.queued_at, not_before, job.expires_at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_payload_is_found_where_it_is_alone() {
        for (request, payload) in [
            (r#"{"start":{"simulated":{"delay":"1ms"}}}"#, Some(r#"{"delay":"1ms"}"#)),
            (r#"{"start":{"a":"}}"}}"#, Some(r#""}}""#)),
            (r#"{"start":{"a":{}},"labels":{"start":"}}"}}"#, None),
            (r#"{"start":{"a":{}},"retry":{"max_attempts":2}}"#, None),
            (r#"{"labels":{"a":"b"},"start":{"a":{}}}"#, None),
            (r#"{"start":{"a\"":{}}}"#, None),
            (r#"{"start":{"a":{},"b":{}}}"#, None),
            (r#"{"start":{"a":{}}"#, None),
            (r#"{"start":{"a":}}"#, None),
        ] {
            assert_eq!(lone_payload(request).map(RawValue::get), payload, "{request}");
            let whole = serde_json::from_str::<Request>(request);
            if let (Ok(whole), Ok(read)) = (whole, Request::read(request)) {
                assert_eq!(whole.payload.get(), read.payload.get(), "{request}");
                assert_eq!((whole.retry, whole.start_timeout), (read.retry, read.start_timeout), "{request}");
            }
        }
    }
}
