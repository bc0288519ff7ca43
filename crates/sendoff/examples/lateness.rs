//! How late due jobs begin: jobs due at random times, 200 a second, each a start that does
//! nothing; from `run_at` to `starting_at`. Beside it, in the same run, how late a bare timerfd
//! wakes a task for such times, and what one write and fdatasync of 12 KiB takes at that pace.
//!
//!     cargo run --release -p sendoff --example lateness -- memory|due|submit [SECONDS]
//!
//! `memory`: due jobs on the memory store. `due`: the same on SQLite. `submit`: jobs due at once on
//! SQLite, from the submit to the beginning.

use std::{
    future::poll_fn,
    io::{Seek, Write},
    sync::Arc,
    time::Duration,
};

use sendoff::{
    JobSpec, Scheduler, Timestamp,
    ports::{Filter, PageRequest, Store},
    starter::{Simulated, SimulatedStarter},
    store::{MemoryStore, SqliteOptions, SqliteStore},
    time::{Clock, SystemClock},
};

const PER_SECOND: u64 = 200;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let kind = args.next().unwrap_or_else(|| "memory".into());
    let seconds: u64 = args.next().map_or(10, |n| n.parse().expect("a number of seconds"));
    let directory = tempfile::tempdir().expect("a directory");
    let store: Arc<dyn Store> = match kind.as_str() {
        "memory" => Arc::new(MemoryStore::new()),
        "due" | "submit" => {
            let path = directory.path().join("lateness.db");
            Arc::new(SqliteStore::open(&path, SqliteOptions::default()).expect("a store"))
        }
        other => panic!("no such kind: {other}"),
    };

    // Pairs of neighbours: each kind meets the same noise of the machine.
    let due = due_times(seconds);
    print_quantiles("timerfd", timerfd(&due).await);
    if kind != "memory" {
        print_quantiles("write + fdatasync", syncs(directory.path(), seconds));
    }
    let scheduler =
        Scheduler::builder().store(store).starter(SimulatedStarter).start().await.expect("a scheduler");
    let late = if kind == "submit" {
        submitted(&scheduler, seconds).await
    } else {
        waits(&scheduler, seconds).await
    };
    print_quantiles(&format!("sendoff, {kind}"), late);
    scheduler.shutdown(Duration::from_secs(1)).await.expect("a clean end");
}

fn due_times(seconds: u64) -> Vec<Timestamp> {
    let begin = SystemClock.now().saturating_add(Duration::from_millis(300));
    let mut random = fastrand::Rng::with_seed(1);
    let micros = seconds * 1_000_000;
    let mut due: Vec<_> = (0..seconds * PER_SECOND)
        .map(|_| begin.saturating_add(Duration::from_micros(random.u64(..micros))))
        .collect();
    due.sort_unstable();
    due
}

async fn waits(scheduler: &Scheduler, seconds: u64) -> Vec<i64> {
    for at in due_times(seconds) {
        drop(scheduler.submit(JobSpec::new(&Simulated::new(Duration::ZERO)).run_at(at)).expect("room"));
    }
    scheduler.idle().await.expect("all started");
    recorded_waits(scheduler).await
}

async fn submitted(scheduler: &Scheduler, seconds: u64) -> Vec<i64> {
    let mut timer = SystemClock.timer().expect("a timer");
    for at in due_times(seconds) {
        timer.arm(Some(at));
        poll_fn(|cx| timer.poll_ring(cx)).await;
        drop(scheduler.submit(JobSpec::new(&Simulated::new(Duration::ZERO))).expect("room"));
    }
    scheduler.idle().await.expect("all started");
    recorded_waits(scheduler).await
}

async fn recorded_waits(scheduler: &Scheduler) -> Vec<i64> {
    let mut waits = Vec::new();
    let mut page = PageRequest { limit: 1_000, ..PageRequest::default() };
    loop {
        let found = scheduler.list(Filter::default(), page).await.expect("a page");
        waits.extend(found.records.iter().filter_map(|record| record.wait_us));
        match found.next {
            Some(next) => page.after = Some(next),
            None => return waits,
        }
    }
}

async fn timerfd(due: &[Timestamp]) -> Vec<i64> {
    let mut timer = SystemClock.timer().expect("a timer");
    let mut late = Vec::new();
    for at in due {
        timer.arm(Some(*at));
        poll_fn(|cx| timer.poll_ring(cx)).await;
        late.push(SystemClock.now().micros_since(*at));
    }
    late
}

fn syncs(directory: &std::path::Path, seconds: u64) -> Vec<i64> {
    let mut file = std::fs::File::create(directory.join("sync")).expect("a file");
    let pause = Duration::from_micros(1_000_000 / PER_SECOND);
    (0..seconds * PER_SECOND)
        .map(|_| {
            std::thread::sleep(pause);
            let begin = SystemClock.elapsed();
            file.rewind()
                .and_then(|()| file.write_all(&[1; 12_288]))
                .and_then(|()| file.sync_data())
                .expect("a sync");
            (SystemClock.elapsed() - begin).as_micros() as i64
        })
        .collect()
}

fn print_quantiles(name: &str, mut micros: Vec<i64>) {
    micros.sort_unstable();
    let at = |quantile: usize| micros[(micros.len() - 1) * quantile / 1000] as f64 / 1000.0;
    println!(
        "{name:20} p50 {:7.3} ms   p99 {:7.3} ms   p99.9 {:7.3} ms   n {}",
        at(500),
        at(990),
        at(999),
        micros.len()
    );
}
