//! Many jobs due years ahead on SQLite: how fast they are submitted, how much memory the process
//! takes with them, how long the next start-up takes, what the process does while it waits.
//!
//!     cargo run --release -p sendoff --example far_future -- 1000000 [DIRECTORY]

use std::{path::Path, sync::Arc, time::Duration};

use sendoff::{
    Batch, JobSpec, Scheduler,
    starter::{Simulated, SimulatedStarter},
    store::{SqliteOptions, SqliteStore},
    time::{Clock, SystemClock},
};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn main() {
    let jobs: u64 = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().expect("a number of jobs"));
    if let Some(store) = std::env::var_os("FAR_FUTURE_REOPEN") {
        return run(reopen(Path::new(&store)));
    }
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = std::env::args().nth(2).map_or(temporary.path().to_owned(), Into::into);
    let path = directory.join("far.db");
    run(fill(&path, jobs));
    // A process of its own, so that its memory is the start-up's alone.
    let this = std::env::current_exe().expect("this program");
    let status = std::process::Command::new(this).env("FAR_FUTURE_REOPEN", &path).status().expect("a child");
    assert!(status.success());
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(work);
}

async fn open(path: &Path) -> Scheduler {
    let store = SqliteStore::open(path, SqliteOptions::default()).expect("a store");
    Scheduler::builder().store(Arc::new(store)).starter(SimulatedStarter).start().await.expect("a scheduler")
}

async fn fill(path: &Path, jobs: u64) {
    let scheduler = open(path).await;
    let begin = SystemClock.elapsed();
    let mut random = fastrand::Rng::with_seed(1);
    for first in (0..jobs).step_by(10_000) {
        let specs = (first..jobs.min(first + 10_000)).map(|_| {
            let delay = YEAR + Duration::from_secs(random.u64(..10 * YEAR.as_secs()));
            JobSpec::new(&Simulated::new(Duration::ZERO)).delay(delay)
        });
        scheduler.submit_batch(Batch::itemised(specs.collect())).await.expect("all accepted");
    }
    let took = (SystemClock.elapsed() - begin).as_secs_f64();
    println!("submitted {jobs} jobs in {took:.2} s ({:.0}/s); {}", jobs as f64 / took, memory());
    scheduler.shutdown(Duration::ZERO).await.expect("a clean end");
}

async fn reopen(path: &Path) {
    let begin = SystemClock.elapsed();
    let scheduler = open(path).await;
    let passed = || (SystemClock.elapsed() - begin).as_secs_f64();
    println!("opened after {:.3} s", passed());
    let first = scheduler.submit(JobSpec::new(&Simulated::new(Duration::ZERO))).expect("room");
    first.started().await.expect("it starts");
    println!("the first job started after {:.3} s; {}", passed(), memory());
    println!("pending: {}", scheduler.counts().await.expect("counts").unfinished());
    println!("counted after {:.3} s", passed());
    let (cpu, begin) = (cpu_seconds(), SystemClock.elapsed());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let share = (cpu_seconds() - cpu) / (SystemClock.elapsed() - begin).as_secs_f64();
    println!("idle for 10 s: {:.2} % of a CPU; {}", share * 100.0, memory());
    scheduler.shutdown(Duration::ZERO).await.expect("a clean end");
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line =
        |name| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    format!("resident {}, at most {}", line("VmRSS:"), line("VmHWM:"))
}

/// User and system time of this process, from /proc/self/stat (clock ticks of 10 ms).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
