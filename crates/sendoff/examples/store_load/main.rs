//! How fast jobs go through SQLite: bare SQLite with the same rows, indexes and syncs, the store
//! alone, and the whole scheduler, taking turns, so that their ratios hold on a busy machine.
//!
//! `cargo run --release -p sendoff --example store_load -- [submits|lives|backlog]...`
//!
//! Submits are due in an hour; with 1, 64 and 1,024 callers, each of which waits until its job is
//! durable before it submits the next, and in batches of 1,000. Lives go from the insert to the
//! outcome of a start that does nothing. A backlog is due when the measure begins. The files are
//! made in the current directory. Beside each rate stands the CPU time of this process for a job.

mod ours;
mod raw;
mod table;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use sendoff::{
    Delivery, Guid, Job, Lane,
    ports::Store,
    time::{Clock, SystemClock},
};
use table::{Side, Table};

const BATCH: usize = 1_000;
const ROUNDS: usize = 3;
const HOUR: Duration = Duration::from_secs(3_600);
/// A request has about 200 bytes with it.
const PADDING: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
     0123456789012345678901234567890123456789012345678901234567890123456789";

fn main() {
    let mut parts: Vec<String> = std::env::args().skip(1).collect();
    if parts.is_empty() {
        parts = ["submits", "lives", "backlog"].map(str::to_owned).to_vec();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(measure(&parts));
}

async fn measure(parts: &[String]) {
    let mut table = Table::default();
    for part in parts {
        match part.as_str() {
            "submits" => submits(&mut table).await,
            "lives" => lives(&mut table).await,
            "backlog" => backlogs(&mut table).await,
            other => panic!("{other} is none of submits, lives, backlog"),
        }
    }
    table.print();
}

async fn submits(table: &mut Table) {
    let directory = directory();
    let place = |name| directory.path().join(name);
    let (mut bare, store) = (raw::Raw::new(&place("raw")), ours::open(&place("store")));
    let scheduler = ours::scheduler(ours::open(&place("scheduler")), &ours::Noop::default()).await;
    for _ in 0..ROUNDS {
        for (callers, jobs) in [(1, 1_000), (64, 12_800), (1_024, 20_480)] {
            let row = format!("submits, {callers} callers");
            let spent = Spent::begin();
            bare = bare.calls(callers, jobs).await;
            table.add(&row, Side::Raw, spent.end(jobs));
            let spent = Spent::begin();
            ours::inserts(&store, callers, jobs).await;
            table.add(&row, Side::Store, spent.end(jobs));
            let spent = Spent::begin();
            ours::submits(&scheduler, callers, jobs).await;
            table.add(&row, Side::Scheduler, spent.end(jobs));
        }
        let (row, jobs) = ("submits, batches of 1,000", 30_000);
        let batches: Vec<_> = (0..jobs / BATCH).map(|_| new_jobs(HOUR)).collect();
        let spent = Spent::begin();
        for batch in &batches {
            bare.insert(batch);
        }
        table.add(row, Side::Raw, spent.end(jobs));
        let batches: Vec<_> = (0..jobs / BATCH).map(|_| new_jobs(HOUR)).collect();
        let spent = Spent::begin();
        for batch in batches {
            ours::insert(&store, batch).await;
        }
        table.add(row, Side::Store, spent.end(jobs));
        let batches: Vec<_> = (0..jobs / BATCH).map(|_| ours::specs(BATCH, HOUR)).collect();
        let spent = Spent::begin();
        ours::submit_batches(&scheduler, batches).await;
        table.add(row, Side::Scheduler, spent.end(jobs));
    }
    store.close().await.expect("close");
    scheduler.shutdown(Duration::ZERO).await.expect("a clean end");
}

async fn lives(table: &mut Table) {
    let directory = directory();
    let place = |name| directory.path().join(name);
    let (mut bare, store) = (raw::Raw::new(&place("raw")), ours::open(&place("store")));
    let noop = ours::Noop::default();
    let scheduler = ours::scheduler(ours::open(&place("scheduler")), &noop).await;
    let (row, jobs) = ("lives of no-ops", 30_000);
    for _ in 0..ROUNDS {
        let batches: Vec<_> = (0..jobs / BATCH).map(|_| new_jobs(Duration::ZERO)).collect();
        let spent = Spent::begin();
        for batch in &batches {
            let ids: Vec<i64> = bare.insert(batch).collect();
            bare.claim(&ids);
            bare.started(&ids);
        }
        table.add(row, Side::Raw, spent.end(jobs));
        let batches: Vec<_> = (0..jobs / BATCH).map(|_| new_jobs(Duration::ZERO)).collect();
        let spent = Spent::begin();
        for batch in batches {
            let ids = ours::insert(&store, batch).await;
            ours::start(&store, ids).await;
        }
        table.add(row, Side::Store, spent.end(jobs));
        let batches: Vec<_> = (0..jobs / BATCH).map(|_| ours::specs(BATCH, Duration::ZERO)).collect();
        let spent = Spent::begin();
        ours::submit_batches(&scheduler, batches).await;
        scheduler.idle().await.expect("all started");
        table.add(row, Side::Scheduler, spent.end(jobs));
    }
    store.close().await.expect("close");
    scheduler.shutdown(Duration::ZERO).await.expect("a clean end");
}

async fn backlogs(table: &mut Table) {
    let directory = directory();
    for (name, backlog, jobs) in [("10 k", 10_000, 10_000), ("1 M", 1_000_000, 30_000)] {
        let row = format!("claimed and started of {name}");
        let path = directory.path().join(name);
        // Each takes the next jobs of a large backlog, and makes a small one anew.
        let again = if backlog == jobs { jobs } else { 0 };
        fill(&path, backlog - again).await;
        for _ in 0..ROUNDS {
            fill(&path, again).await;
            let bare = raw::Raw::new(&path);
            let ids = bare.due(jobs);
            let spent = Spent::begin();
            for ids in ids.chunks(BATCH) {
                bare.claim(ids);
                bare.started(ids);
            }
            table.add(&row, Side::Raw, spent.end(jobs));
            drop(bare);
            fill(&path, again).await;
            let store = ours::open(&path);
            let ids = ours::due(&store, jobs).await;
            let spent = Spent::begin();
            for ids in ids.chunks(BATCH) {
                ours::start(&store, ids.to_vec()).await;
            }
            table.add(&row, Side::Store, spent.end(jobs));
            store.close().await.expect("close");
            fill(&path, again).await;
            let noop = ours::Noop::default();
            let mut count = noop.count();
            let spent = Spent::begin();
            let scheduler = ours::scheduler(ours::open(&path), &noop).await;
            let _ = count.wait_for(|begun| *begun >= jobs).await;
            table.add(&row, Side::Scheduler, spent.end(jobs));
            scheduler.shutdown(Duration::from_secs(5)).await.expect("a clean end");
        }
    }
}

/// Adds so many jobs that are due.
async fn fill(path: &Path, jobs: usize) {
    let store = ours::open(path);
    for _ in 0..jobs / BATCH {
        ours::insert(&store, new_jobs(Duration::ZERO)).await;
    }
    store.close().await.expect("close");
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(".").expect("a directory")
}

fn new_jobs(delay: Duration) -> Vec<Arc<Job>> {
    (0..BATCH).map(|_| Arc::new(job(delay))).collect()
}

/// What the scheduler makes of [`ours::spec`].
fn job(delay: Duration) -> Job {
    thread_local! {
        static LANE: Arc<Lane> =
            Arc::new(Lane { queue: "default".into(), starter: "noop".into(), destination: None });
    }
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemClock.now();
    // Ascends, as sendoff's own do.
    let millis = u128::from(now.as_micros().unsigned_abs() / 1_000);
    let mut guid = (millis << 80 | u128::from(COUNT.fetch_add(1, Ordering::Relaxed))).to_be_bytes();
    guid[6] = 0x70;
    Job {
        guid: Guid::from_bytes(guid),
        own_guid: true,
        idempotency_key: None,
        lane: LANE.with(Clone::clone),
        priority: 0,
        delivery: Delivery::AtLeastOnce,
        max_attempts: 5,
        queued_at: now,
        run_at: now.saturating_add(delay),
        expires_at: None,
        request: format!(r#"{{"start":{{"noop":{{}}}},"labels":{{"n":"{PADDING}"}}}}"#).into(),
        submitted_by: None,
        grant: None,
    }
}

/// Time and CPU time since the beginning.
struct Spent {
    began: Duration,
    cpu: Duration,
}

impl Spent {
    fn begin() -> Self {
        Self { began: SystemClock.elapsed(), cpu: cpu() }
    }

    /// Rate and CPU microseconds for each of so many jobs.
    fn end(self, jobs: usize) -> (f64, f64) {
        let took = SystemClock.elapsed() - self.began;
        (jobs as f64 / took.as_secs_f64(), (cpu() - self.cpu).as_secs_f64() * 1e6 / jobs as f64)
    }
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
