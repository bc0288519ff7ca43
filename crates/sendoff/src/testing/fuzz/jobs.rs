//! Jobs as JSON: what is read is written as the same, refusals name a place, and what a start gets in
//! the end is what the caller wrote.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use crate::{
    job::{JobSpec, labels},
    ports::Starter,
    scheduler::fuzz::Jobs,
    starter::SimulatedStarter,
    time::Timestamp,
};

const FIELDS: [&str; 13] = [
    "start",
    "guid",
    "queue",
    "run_at",
    "delay",
    "priority",
    "delivery",
    "retry",
    "start_timeout",
    "expires_in",
    "expires_at",
    "idempotency_key",
    "labels",
];

/// A job's JSON.
pub(super) fn job(data: &[u8]) {
    match JobSpec::from_json(data) {
        Ok(spec) => {
            written_again(data, &spec);
            kept(&spec);
        }
        Err(err) => {
            assert!(err.is_invalid());
            refused(data, &err.to_string());
        }
    }
}

/// Every refusal says where; one of a JSON object names the field.
fn refused(data: &[u8], words: &str) {
    let says_where = ["(column ", "at column ", "not UTF-8 after byte ", "not an array", "is longer than"];
    assert!(says_where.iter().any(|place| words.contains(place)), "{words}");
    let Ok(Value::Object(given)) = serde_json::from_slice(data) else { return };
    let names = |field: &str| words.contains(&format!("`{field}`")) || begins_with(words, field);
    assert!(FIELDS.iter().any(|field| names(field)) || given.keys().any(|field| names(field)), "{words}");
}

/// Whether words begin with a field's path.
fn begins_with(words: &str, field: &str) -> bool {
    words.strip_prefix(field).is_some_and(|rest| rest.starts_with([':', '.', '[']))
}

fn written_again(data: &[u8], spec: &JobSpec) {
    let json = serde_json::to_string(spec).expect("a job has a JSON form");
    let read = JobSpec::from_json(json.as_bytes());
    if json.len() > JobSpec::MAX_BYTES {
        return;
    }
    let read = read.unwrap_or_else(|err| panic!("{json}: {err}"));
    assert_eq!(read.start.payload.get(), spec.start.payload.get(), "a payload is passed on as it is");
    assert_eq!(serde_json::to_string(&read).expect("a job has a JSON form"), json);
    // Neither reader of values goes as deep as one that keeps payloads as they are.
    let (Ok(given), Ok(written)) = (serde_json::from_slice(data), serde_json::from_str(&json)) else {
        return;
    };
    same_values(&given, &written);
}

fn same_values(given: &Map<String, Value>, written: &Map<String, Value>) {
    for field in FIELDS {
        let given = given.get(field).filter(|value| !value.is_null());
        let written = written.get(field);
        match field {
            "start" | "queue" | "priority" | "delivery" | "idempotency_key" => {
                assert_eq!(written, given, "{field}");
            }
            "labels" => {
                let given =
                    given.filter(|labels| labels.as_object().is_some_and(|labels| !labels.is_empty()));
                assert_eq!(written, given, "{field}");
            }
            // Written in one form, whatever form they had; without defaults.
            "retry" => assert!(written.is_none() || given.is_some(), "{field}"),
            _ => assert_eq!(written.is_some(), given.is_some(), "{field}"),
        }
    }
}

/// The job as stores keep it.
fn kept(spec: &JobSpec) {
    static JOBS: LazyLock<Jobs> = LazyLock::new(|| Jobs::with(starters()));
    let now = Timestamp::from_micros(1_800_000_000_000_000).expect("a time");
    let (job, payload) = match JOBS.resolve(spec, now) {
        Ok(resolved) => resolved,
        Err(err) => {
            assert!(err.is_invalid());
            let words = err.to_string();
            assert!(FIELDS.iter().any(|field| begins_with(&words, field)), "{words}");
            return;
        }
    };
    assert_eq!(payload, spec.start.payload.get(), "the start gets what was submitted");
    assert_eq!(labels(&job.request), spec.labels);
    let again =
        JobSpec::from_json(job.request.as_bytes()).unwrap_or_else(|err| panic!("{}: {err}", job.request));
    assert!(again.guid.is_none() && again.idempotency_key.is_none());
    assert_eq!(serde_json::to_string(&again).expect("a job has a JSON form"), *job.request);
    assert_eq!(job.own_guid, spec.guid.is_none());
    assert!(spec.guid.is_none_or(|guid| guid == job.guid));
    assert_eq!(job.idempotency_key.as_deref(), spec.idempotency_key.as_deref());
    assert_eq!(*job.lane.queue, *spec.queue.as_deref().unwrap_or("default"));
    assert_eq!(*job.lane.starter, *spec.start.starter);
    assert!(job.priority <= 9 && (1..=1_000).contains(&job.max_attempts));
    let asked_for = spec.run_at.or_else(|| now.checked_add(spec.delay?.duration())).unwrap_or(now);
    assert_eq!((job.queued_at, job.run_at), (now, asked_for));
    if let (Some(within), Some(at)) = (spec.expires_in, job.expires_at) {
        assert_eq!(at.saturating_since(asked_for.max(now)), within.duration());
    }
    assert_eq!(job.expires_at.is_some(), spec.expires_at.or(spec.expires_in.map(|_| now)).is_some());
}

fn starters() -> Vec<Arc<dyn Starter>> {
    vec![
        Arc::new(SimulatedStarter),
        #[cfg(feature = "http")]
        Arc::new(crate::starter::HttpStarter::new()),
        #[cfg(all(feature = "process", target_os = "linux"))]
        Arc::new(crate::starter::ProcessStarter::new()),
    ]
}
