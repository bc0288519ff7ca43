//! SIGKILL at random moments under load.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Chance,
    caller::Caller,
    figure,
    judge::{Endpoint, Ledger},
    seed,
};
use crate::harness::{Daemon, Place};

const CALLERS: usize = 16;
/// Starts under way at once, so the most that one kill leaves in doubt.
const MAX_IN_FLIGHT: usize = 128;

/// What a job is, for its judge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    Simulated,
    HttpAtLeastOnce,
    HttpAtMostOnce,
    Process,
}

struct Planned {
    guid: String,
    kind: Kind,
    body: String,
}

fn plan(chance: &mut Chance, endpoint: &Endpoint, ledger: &Ledger) -> Planned {
    let guid = chance.guid();
    let url = format!("http://{}/", endpoint.address);
    let (kind, mut job) = match chance.below(10) {
        0..4 => (Kind::HttpAtLeastOnce, json!({"start": {"http": {"url": url, "json": {"a": 1}}}})),
        4..6 => (Kind::HttpAtMostOnce, json!({"start": {"http": {"url": url}}, "delivery": "at_most_once"})),
        6 => {
            let script = r#"echo "$SENDOFF_GUID" >> "$0""#;
            let process = json!({"program": "/bin/sh", "args": ["-c", script, ledger.path()]});
            (Kind::Process, json!({"start": {"process": process}}))
        }
        _ => (Kind::Simulated, json!({"start": {"simulated": {"delay": "1ms"}}})),
    };
    job["guid"] = guid.as_str().into();
    // A reclaimed attempt counts; a job must not fail only because it met several kills.
    job["retry"] = json!({"max_attempts": 20, "max_backoff": "100ms"});
    if chance.below(4) == 0 {
        job["delay"] = format!("{}ms", chance.below(300)).into();
    }
    Planned { guid, kind, body: job.to_string() }
}

/// Submits everything, again after a broken answer, until all is acknowledged.
fn submit(caller: &mut Caller, jobs: &[Planned], next: &AtomicUsize, acknowledged: &AtomicUsize) {
    while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
        loop {
            match caller.ask("POST", "/v1/jobs", &job.body) {
                Ok((200 | 201, record)) => {
                    assert_eq!(record["guid"], job.guid);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Ok((503, _)) | Err(_) => std::thread::sleep(Duration::from_millis(5)),
                Ok(refused) => panic!("{}: {refused:?}", job.body),
            }
        }
    }
}

/// The record once it is final.
fn ended(caller: &mut Caller, guid: &str) -> Value {
    loop {
        let (status, record) = caller.ask("GET", &format!("/v1/jobs/{guid}?wait=60s"), "").unwrap();
        assert_eq!(status, 200, "{guid} was acknowledged and is lost: {record}");
        if !matches!(record["state"].as_str(), Some("pending" | "starting")) {
            return record;
        }
    }
}

#[derive(Default)]
struct Verdict {
    jobs: usize,
    unknown: usize,
    doubled: usize,
    by_state: BTreeMap<String, usize>,
}

fn judge(record: &Value, job: &Planned, starts: usize, verdict: &mut Verdict) {
    let state = record["state"].as_str().unwrap();
    verdict.jobs += 1;
    *verdict.by_state.entry(format!("{:?} {state}", job.kind)).or_default() += 1;
    let flagged = record["possible_duplicate"] == true;
    let told = format!("{} starts of {record}", starts);
    match job.kind {
        Kind::Simulated => assert_eq!(state, "started", "{told}"),
        Kind::HttpAtLeastOnce => {
            assert_eq!(state, "started", "{told}");
            assert!(starts >= 1, "lost: {told}");
            assert!(starts == 1 || flagged, "doubled and not flagged: {told}");
            verdict.doubled += starts - 1;
        }
        Kind::HttpAtMostOnce | Kind::Process => {
            assert!(starts <= 1, "doubled: {told}");
            match state {
                "started" => assert_eq!(starts, 1, "{told}"),
                "unknown" => {
                    assert!(flagged, "{told}");
                    verdict.unknown += 1;
                }
                _ => panic!("{told}"),
            }
        }
    }
}

#[test]
fn nothing_is_lost_and_no_at_most_once_is_doubled() {
    let (kills, jobs_each) = (figure("SENDOFF_KILLS", 3), figure("SENDOFF_JOBS", 1_000));
    let mut chance = Chance(seed() | 1);
    let endpoint = Endpoint::open();
    let place = Place::new();
    let flags = ["--max-in-flight", &MAX_IN_FLIGHT.to_string(), "--log", "error"];
    let mut daemon = Daemon::start(&place, &flags);
    let socket = place.path(daemon.ready["socket"].as_str().unwrap());
    let mut total = Verdict::default();
    for round in 1..=kills {
        let ledger = Ledger::new(place.path(&format!("ledger-{round}")));
        let jobs: Vec<_> = (0..jobs_each).map(|_| plan(&mut chance, &endpoint, &ledger)).collect();
        let (next, acknowledged, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        // Somewhere between the first submit and a while after the last.
        let moment = chance.below(jobs_each as u64 * 5 / 4) as usize;
        let after = Duration::from_micros(chance.below(100_000));
        daemon = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS)
                .map(|_| {
                    scope.spawn(|| submit(&mut Caller::new(socket.clone()), &jobs, &next, &acknowledged))
                })
                .collect();
            let killer = scope.spawn(|| {
                while acknowledged.load(Ordering::Relaxed) < moment && !done.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                // The moment is chance, not order: nothing waits for it.
                std::thread::sleep(after);
                daemon.kill();
                Daemon::start(&place, &flags)
            });
            callers.into_iter().for_each(|caller| caller.join().unwrap());
            done.store(true, Ordering::Relaxed);
            killer.join().unwrap()
        });
        let mut caller = Caller::new(socket.clone());
        let records: Vec<_> = jobs.iter().map(|job| ended(&mut caller, &job.guid)).collect();
        let calls = endpoint.calls();
        let starts = written(&ledger, &jobs, &records);
        let mut verdict = Verdict::default();
        for (job, record) in jobs.iter().zip(&records) {
            let starts = if job.kind == Kind::Process { &starts } else { &calls };
            judge(record, job, starts.get(&job.guid).copied().unwrap_or(0), &mut verdict);
        }
        assert!(verdict.doubled <= MAX_IN_FLIGHT, "{} doubled by one kill", verdict.doubled);
        assert!(verdict.unknown <= MAX_IN_FLIGHT, "{} unknown by one kill", verdict.unknown);
        total.jobs += verdict.jobs;
        total.doubled += verdict.doubled;
        total.unknown += verdict.unknown;
        for (state, count) in verdict.by_state {
            *total.by_state.entry(state).or_default() += count;
        }
    }
    println!(
        "{kills} kills, {} jobs acknowledged: 0 lost, 0 at_most_once doubled, {} at_least_once doubled and flagged, {} unknown",
        total.jobs, total.doubled, total.unknown
    );
    println!("{:?}", total.by_state);
}

/// What the processes wrote, once those that are known to have started have had the time for it.
fn written(ledger: &Ledger, jobs: &[Planned], records: &[Value]) -> HashMap<String, usize> {
    let started = jobs
        .iter()
        .zip(records)
        .filter(|(job, record)| job.kind == Kind::Process && record["state"] == "started");
    let started: Vec<_> = started.map(|(job, _)| &job.guid).collect();
    for _ in 0..1_000 {
        let starts = ledger.starts();
        if started.iter().all(|guid| starts.contains_key(*guid)) {
            return starts;
        }
        // They are nobody's children that could be waited for.
        std::thread::sleep(Duration::from_millis(10));
    }
    ledger.starts()
}
