//! What the memory store takes: bytes per pending job, and CPU time per call (so that other load on
//! the machine does not count).
//!
//! `cargo run --release --example memory_load -- [JOBS [pending|scattered|cycles]]`

use std::{hint::black_box, sync::Arc, time::Duration};

use futures_util::FutureExt;
use rustix::time::{ClockId, clock_gettime};
use sendoff::{
    Delivery, Guid, Job, JobId, Lane, Receipt, Result,
    ports::{Claim, Filter, InsertBatch, NewJob, PageRequest, Settlement, Store, StoreFuture},
    state::{Begun, Outcome},
    store::MemoryStore,
    time::Timestamp,
};

const BATCH: usize = 1_000;

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let jobs = args.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let part = args.next();
    let wanted = |name| part.as_deref().is_none_or(|part| part == name);
    if wanted("pending") {
        let store = filled("insert, due one after the other", jobs, |n| at(3_600_000_000 + n))?;
        cancel(&store, jobs)?;
    }
    if wanted("scattered") {
        filled("insert, due at random", jobs, |n| at(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20))?;
    }
    if wanted("cycles") {
        cycles(jobs)?;
    }
    Ok(())
}

fn at(micros: u64) -> Timestamp {
    let base = Timestamp::from_micros(1_700_000_000_000_000).unwrap_or(Timestamp::MIN);
    base.saturating_add(Duration::from_micros(micros))
}

/// The memory store's answers are there at once.
fn now<T>(answer: StoreFuture<T>) -> Result<T> {
    answer.now_or_never().expect("the memory store answers at once")
}

fn job(n: u64, run_at: Timestamp, lane: &Arc<Lane>, request: &Arc<str>) -> NewJob {
    let job = Job {
        guid: Guid::from_bytes((u128::from(n) << 64 | u128::from(n.wrapping_mul(0x9e37_79b9))).to_be_bytes()),
        own_guid: true,
        idempotency_key: None,
        lane: lane.clone(),
        priority: 0,
        delivery: Delivery::AtLeastOnce,
        max_attempts: 5,
        queued_at: at(0),
        run_at,
        expires_at: None,
        // Shared, so that it does not count: what is measured is a job without its payload.
        request: request.clone(),
        submitted_by: None,
        grant: None,
    };
    NewJob { job: Arc::new(job), claim: None }
}

fn fill(store: &MemoryStore, jobs: u64, run_at: impl Fn(u64) -> Timestamp) -> Result<()> {
    let lane = Arc::new(Lane { queue: "default".into(), starter: "simulated".into(), destination: None });
    let request: Arc<str> = r#"{"start":{"simulated":{"delay":"1ms"}}}"#.into();
    for first in (0..jobs).step_by(BATCH) {
        let jobs = (first..jobs.min(first + BATCH as u64)).map(|n| job(n, run_at(n), &lane, &request));
        let batch = InsertBatch { jobs: jobs.collect(), atomic: true, bookmark: None, now: at(0) };
        black_box(now(store.insert(batch))?);
    }
    Ok(())
}

fn filled(what: &str, jobs: u64, run_at: impl Fn(u64) -> Timestamp) -> Result<MemoryStore> {
    let (store, before) = (MemoryStore::new(), resident());
    let took = timed(|| fill(&store, jobs, run_at))?;
    report(what, jobs, took);
    println!("{:>32} {:>10.0} bytes a pending job", "", (resident() - before) / jobs as f64);
    Ok(store)
}

fn cancel(store: &MemoryStore, jobs: u64) -> Result<()> {
    let all = usize::try_from(jobs).unwrap_or(usize::MAX);
    let all = PageRequest { limit: all, row_budget: all, ..PageRequest::default() };
    let records = now(store.list(Filter::default(), all))?.records;
    let guids: Vec<_> = records.iter().map(|record| record.guid).collect();
    drop(records);
    let took = timed(|| {
        for guids in guids.chunks(BATCH) {
            black_box(now(store.cancel(guids.to_vec(), at(1)))?);
        }
        Ok(())
    })?;
    report("cancel by guid", jobs, took);
    Ok(())
}

/// Insert, claim and settle, in batches, with at most as many pending as there are in a batch.
fn cycles(jobs: u64) -> Result<()> {
    let store = MemoryStore::new();
    let mut took = Duration::ZERO;
    let node: Arc<str> = "node".into();
    for backlog in [0, jobs] {
        if backlog > 0 {
            fill(&store, backlog, |n| at(n % 1_000_000))?;
        }
        let lane = Arc::new(Lane { queue: "default".into(), starter: "simulated".into(), destination: None });
        let request: Arc<str> = r#"{"start":{"simulated":{"delay":"1ms"}}}"#.into();
        for first in (0..jobs).step_by(BATCH) {
            took += timed(|| {
                let numbers = first..jobs.min(first + BATCH as u64);
                let new =
                    numbers.map(|n| job(2 * jobs + backlog + n, at(1_000_000), &lane, &request)).collect();
                let batch = InsertBatch { jobs: new, atomic: false, bookmark: None, now: at(1_000_000) };
                now(store.insert(batch))?;
                let ready = now(store.ready(lane.clone(), at(2_000_000), BATCH))?;
                let ids: Vec<JobId> = ready.iter().map(|header| header.id).collect();
                let claimed = now(store.claim(ids, Claim { node: node.clone(), now: at(2_000_000) }))?;
                let settlements = claimed.iter().flatten().map(|claimed| Settlement {
                    id: claimed.id,
                    fence: claimed.fence,
                    begun: Some(Begun { starting_at: at(2_000_001), clock_skew_us: 0 }),
                    outcome: Outcome::Started { started_at: at(2_000_002), receipt: Receipt::default() },
                });
                black_box(now(store.settle(settlements.collect(), at(2_000_003)))?);
                Ok(())
            })?;
        }
        report(
            if backlog == 0 { "insert, ready, claim, settle" } else { "the same behind a backlog" },
            jobs,
            took,
        );
        took = Duration::ZERO;
    }
    Ok(())
}

fn timed(run: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let before = cpu_time();
    run()?;
    Ok(cpu_time() - before)
}

fn report(what: &str, jobs: u64, took: Duration) {
    let each = took.as_secs_f64() / jobs as f64;
    println!("{what:>32} {:>10.0} jobs/s, {:.0} ns a job", 1.0 / each, each * 1e9);
}

/// The CPU time that this process has used.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The resident memory of this process in bytes.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0
}
