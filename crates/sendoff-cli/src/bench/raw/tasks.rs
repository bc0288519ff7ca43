//! A tokio task for each job, which sleeps.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::bench::sample::{Meter, Sample, resident};

/// Tasks that sleep, all at once.
pub(in crate::bench) async fn sleeps(jobs: u64, delay: Duration) -> Sample {
    let meter = Meter::start();
    // Bare handles: a set of tasks would cost more.
    let runtime = tokio::runtime::Handle::current();
    let tasks: Vec<_> = (0..jobs).map(|_| runtime.spawn(tokio::time::sleep(delay))).collect();
    for task in tasks {
        // A sleep does not panic.
        let _ = task.await;
    }
    meter.stop(jobs)
}

/// Tasks that sleep for long: the bytes for each, and how fast they are aborted and gone.
pub(in crate::bench) async fn pending(jobs: u64, delay: Duration) -> Sample {
    let before = resident();
    let mut tasks = JoinSet::new();
    let handles: Vec<_> = (0..jobs).map(|_| tasks.spawn(tokio::time::sleep(delay))).collect();
    // All have run as far as to their sleep when this one, the last, has.
    tasks.spawn(std::future::ready(()));
    tasks.join_next().await;
    let bytes = (resident() - before) / jobs.max(1) as f64;
    let meter = Meter::start();
    for handle in &handles {
        handle.abort();
    }
    while tasks.join_next().await.is_some() {}
    Sample { bytes: Some(bytes), ..meter.stop(jobs) }
}
