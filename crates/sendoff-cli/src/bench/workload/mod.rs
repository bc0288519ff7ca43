//! The kinds of work, each with its cases and the parts that its processes run.

mod daemon;
pub(super) mod http;
pub(super) mod lateness;
pub(super) mod lifecycle;
pub(super) mod pending;
pub(super) mod postgres;
pub(super) mod process;
pub(super) mod scale;
pub(super) mod simulated;
pub(super) mod submit;

use std::{fmt::Display, path::Path, sync::Arc, time::Duration};

use sendoff::{
    Batch, JobSpec, Scheduler, State,
    ports::{Filter, PageRequest, Store},
    starter::Simulated,
    store::{MemoryStore, SqliteOptions, SqliteStore},
};
use serde::{Deserialize, Serialize};

use super::{case::Case, sample::Times};
use crate::failure::Failure;

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes<'a> {
    pub(super) quick: bool,
    /// No case has more jobs.
    pub(super) at_most: u64,
    /// Pending rows of the cases of `scale`.
    pub(super) rows: &'a [u64],
}

impl Sizes<'_> {
    pub(super) fn jobs(self, whole: u64, quick: u64) -> u64 {
        if self.quick { quick } else { whole }.min(self.at_most)
    }
}

/// All cases, in the order in which they are measured.
pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    [
        simulated::cases(sizes),
        pending::cases(sizes),
        process::cases(sizes),
        http::cases(sizes),
        submit::cases(sizes),
        lifecycle::cases(sizes),
        lateness::cases(sizes),
        postgres::cases(sizes),
        scale::cases(sizes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Where sendoff keeps its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Keep {
    Memory,
    Sqlite,
    /// At the URL that the process was given.
    Postgres,
}

impl Keep {
    /// Opens it, in this folder if it is a file.
    async fn open(self, dir: &Path) -> Result<Arc<dyn Store>, Failure> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryStore::new()),
            Self::Sqlite => Arc::new(sqlite(&dir.join(FILE))?),
            Self::Postgres => Arc::new(postgres::open().await?),
        })
    }
}

/// The store's file in a part's folder.
const FILE: &str = "bench.db";
/// Jobs that go to the engine, or into one transaction, at once.
const BATCH: u64 = 1_000;
/// Longer than any measurement.
const LATER: Duration = Duration::from_secs(3_600);

fn sqlite(file: &Path) -> Result<SqliteStore, Failure> {
    SqliteStore::open(file, SqliteOptions::default()).map_err(failed)
}

/// Makes a store's file with its tables and without a job, for those who write rows themselves.
async fn tables(dir: &Path) -> Result<std::path::PathBuf, Failure> {
    let file = dir.join(FILE);
    sqlite(&file)?.close().await.map_err(failed)?;
    Ok(file)
}

/// A start that does nothing, with a request of 200 bytes.
fn no_op() -> JobSpec {
    JobSpec::new(&Simulated::new(Duration::ZERO)).label("n", "x".repeat(146))
}

/// The JSON of [`no_op`], for rows that are written without sendoff.
fn no_op_request() -> Result<String, Failure> {
    serde_json::to_string(&no_op()).map_err(failed)
}

/// Submits so many jobs, in batches.
async fn submit_all(
    scheduler: &Scheduler,
    jobs: u64,
    batch: u64,
    spec: impl Fn() -> JobSpec,
) -> Result<(), Failure> {
    let mut left = jobs;
    while left > 0 {
        let size = batch.min(left);
        left -= size;
        let specs = (0..size).map(|_| spec()).collect();
        scheduler.submit_batch(Batch::itemised(specs)).await.map_err(failed)?;
    }
    Ok(())
}

/// A time of each record, in microseconds.
async fn recorded(
    scheduler: &Scheduler,
    time: impl Fn(&sendoff::JobRecord) -> Option<i64>,
) -> Result<Times, Failure> {
    let mut times = Times::new();
    let mut page = PageRequest { limit: 1_000, ..PageRequest::default() };
    loop {
        let found = scheduler.list(Filter::default(), page).await.map_err(failed)?;
        for micros in found.records.iter().filter_map(&time) {
            times.add_micros(u64::try_from(micros).unwrap_or(0));
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(times),
        }
    }
}

/// A measurement in which something did not start measures something else.
async fn all_started(scheduler: &Scheduler, jobs: u64) -> Result<(), Failure> {
    let started = scheduler.counts().await.map_err(failed)?.total(State::Started);
    if started == jobs { Ok(()) } else { Err(failed(format!("only {started} of {jobs} jobs started"))) }
}

async fn stop(scheduler: Scheduler) -> Result<(), Failure> {
    scheduler.shutdown(Duration::ZERO).await.map(drop).map_err(failed)
}

/// What went wrong in a process that measures.
pub(super) fn failed(err: impl Display) -> Failure {
    Failure::not_all(err.to_string())
}

pub(super) fn one_thread<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?.block_on(work)
}

fn all_threads<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?.block_on(work)
}
