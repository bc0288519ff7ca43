//! N simulated starts of 1 ms, all at once, in memory, records kept; beside raw tokio tasks that
//! sleep 1 ms. Prints both rates, their ratio and the peak memory.
//!
//!     cargo run --release -p sendoff --example simulated_starts -- 1000000

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sendoff::{
    Batch, JobSpec, Scheduler, State,
    starter::{Simulated, SimulatedStarter},
    store::MemoryStore,
};

const DELAY: Duration = Duration::from_millis(1);

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and spawns raw tasks")]
async fn main() {
    let jobs: usize = std::env::args().nth(1).map_or(100_000, |n| n.parse().expect("a number of jobs"));

    let store = Arc::new(MemoryStore::new());
    let builder = Scheduler::builder().store(store).starter(SimulatedStarter).max_in_flight(jobs);
    let scheduler = builder.start().await.expect("a scheduler");
    let specs = (0..jobs).map(|_| JobSpec::new(&Simulated::new(DELAY))).collect();
    let begin = Instant::now();
    scheduler.submit_batch(Batch::itemised(specs)).await.expect("all accepted");
    let submitted = begin.elapsed();
    scheduler.idle().await.expect("all started");
    let ours = jobs as f64 / begin.elapsed().as_secs_f64();
    let counts = scheduler.counts().await.expect("counts");
    assert_eq!(counts.total(State::Started), jobs as u64);
    println!(
        "sendoff            {ours:>12.0} starts/s   (submitted in {submitted:.2?})   peak {}",
        peak_memory()
    );
    drop(scheduler);

    let begin = Instant::now();
    let tasks: Vec<_> = (0..jobs).map(|_| tokio::spawn(tokio::time::sleep(DELAY))).collect();
    for task in tasks {
        task.await.expect("it slept");
    }
    let raw = jobs as f64 / begin.elapsed().as_secs_f64();
    println!("raw tokio sleeps   {raw:>12.0} starts/s");
    println!("ratio              {:>12.2}", ours / raw);
}

/// The largest resident size so far, from /proc.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |line| line.trim().to_owned())
}
