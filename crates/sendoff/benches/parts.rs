//! The parts of a start, each alone: `cargo bench -p sendoff --bench parts [-- NAME]`.
//!
//! Rates are jobs per second. The stores take whole lives (insert, claim, settle) of 1,000 jobs in
//! three calls; SQLite's are durable, so that part is the disk's.

use std::{hint::black_box, sync::Arc};

use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use sendoff::{
    Checker, Job, JobSpec, Receipt, Scheduler,
    ports::{Claim, Claimed, InsertBatch, Inserted, NewJob, Settlement, Store},
    starter::{HttpStarter, ProcessStarter, SimulatedStarter},
    state::{Outcome, begin},
    store::{MemoryStore, SqliteOptions, SqliteStore},
    testing::{
        Turns,
        model::{at, job},
    },
};
use tokio::runtime::Runtime;

const JOBS: u64 = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    resolving(&mut criterion.benchmark_group("resolve"));
    dispatching(&mut criterion.benchmark_group("dispatcher"));
    storing(&mut criterion.benchmark_group("store"));
    criterion.final_summary();
}

/// From a line of JSON to a job that was checked, defaults and times filled in.
fn resolving(group: &mut BenchmarkGroup<'_, WallTime>) {
    let builder = Scheduler::builder()
        .starter(SimulatedStarter)
        .starter(ProcessStarter::new())
        .starter(HttpStarter::new());
    let checker: Checker = builder.checker().expect("three starters");
    group.throughput(Throughput::Elements(1));
    for (name, line) in [
        ("simulated", r#"{"start": {"simulated": {"delay": "1ms"}}}"#),
        (
            "process",
            r#"{"start": {"process": {"program": "/bin/true", "args": ["a", "b"], "env": {"A": "b"}}}}"#,
        ),
        (
            "http",
            r#"{"start": {"http": {"url": "https://example.com/hook", "json": {"order": 17}}}, "delay": "90s", "queue": "mail", "labels": {"order": "17"}}"#,
        ),
    ] {
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let spec: JobSpec = serde_json::from_str(black_box(line)).expect("a job");
                checker.check(&spec).expect("it could start");
            });
        });
    }
}

/// Inserted, claimed, started and settled as the dispatcher sees it.
fn dispatching(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.throughput(Throughput::Elements(JOBS));
    for in_flight in [16, 1_024] {
        let mut turns = Turns::new(JOBS, in_flight);
        group.bench_function(format!("{in_flight} in flight"), |bench| {
            bench.iter(|| assert_eq!(turns.lives() as u64, JOBS));
        });
    }
}

fn storing(group: &mut BenchmarkGroup<'_, WallTime>) {
    let runtime = Runtime::new().expect("a runtime");
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let sqlite = SqliteStore::open(place.path().join("jobs"), SqliteOptions::default()).expect("it opens");
    let sqlite = Arc::new(sqlite);
    let stores: [(&str, Arc<dyn Store>); 2] =
        [("memory", Arc::new(MemoryStore::new())), ("sqlite", sqlite.clone())];
    group.throughput(Throughput::Elements(JOBS)).sample_size(20);
    for (name, store) in stores {
        let mut next = 0;
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || {
                    next += JOBS;
                    (next - JOBS..next).map(|n| Job { own_guid: true, ..job(n) }).collect()
                },
                |jobs| runtime.block_on(lives(&*store, jobs)),
                BatchSize::PerIteration,
            );
        });
    }
    runtime.block_on(sqlite.close()).expect("it closes");
}

async fn lives(store: &dyn Store, jobs: Vec<Job>) {
    let jobs: Vec<_> = jobs.into_iter().map(|job| NewJob { job: Arc::new(job), claim: None }).collect();
    let batch = InsertBatch { jobs, atomic: true, bookmark: None, now: at(0) };
    let inserted = store.insert(batch).await.expect("insert");
    let created = |verdict| if let Inserted::Created(id) = verdict { Some(id) } else { None };
    let ids: Vec<_> = inserted.into_iter().filter_map(created).collect();
    let claimed = store.claim(ids, Claim { node: "node".into(), now: at(1) }).await.expect("claim");
    let settlements: Vec<_> = claimed.into_iter().flatten().map(|claimed| settlement(&claimed)).collect();
    assert_eq!(settlements.len() as u64, JOBS, "each was claimed");
    let settled = store.settle(settlements, at(2)).await.expect("settle");
    assert!(settled.iter().all(|settled| settled.applied));
}

fn settlement(claimed: &Claimed) -> Settlement {
    let begun = begin(at(1), claimed.job.queued_at, claimed.claimed_at);
    let outcome = Outcome::Started { started_at: begun.starting_at, receipt: Receipt::default() };
    Settlement { id: claimed.id, fence: claimed.fence, begun: Some(begun), outcome }
}
