//! The same as `submit`, `lifecycle` and `lateness` on PostgreSQL, one node, beside one connection
//! with prepared statements.

use std::{path::Path, time::Duration};

use sendoff::{
    State,
    ports::{NodeState, Store},
    store::{PostgresOptions, PostgresStore},
};
use serde::{Deserialize, Serialize};

use super::{BATCH, Keep, LATER, Sizes, all_threads, failed, lateness, lifecycle, no_op_request, submit};
use crate::{
    bench::{
        case::{Case, Goal, Metric, Side},
        raw::postgres::{self, Raw},
        sample::Sample,
    },
    failure::Failure,
};

/// Where a process finds the database's URL: a command line can be seen by others.
pub(in crate::bench) const URL: &str = "SENDOFF_BENCH_STORE";

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::bench) struct Part {
    raw: bool,
    work: Work,
    jobs: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Work {
    Lives,
    Dispatch,
    Batches,
    Calls { callers: u64 },
    Begin,
}

const BARE: &str = "bare PostgreSQL";
const PAUSE: Duration = Duration::from_millis(5);

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let case = |name: &str, what: &str, times, work, jobs, goals| Case {
        workload: "postgres",
        name: name.into(),
        what: format!("{} {what}", crate::run::grouped(jobs)),
        times,
        sides: vec![
            Side::raw(BARE, Part { raw: true, work, jobs }),
            Side::ours("sendoff", Part { raw: false, work, jobs }),
        ],
        goals,
    };
    let rate = |part| vec![Goal::rate("sendoff", BARE, part)];
    let call = "from the call to durable";
    vec![
        case("lives", "jobs that do nothing", "", Work::Lives, sizes.jobs(100_000, 20_000), rate(0.7)),
        case(
            "dispatch",
            "due jobs: claimed, started",
            "",
            Work::Dispatch,
            sizes.jobs(100_000, 20_000),
            rate(0.7),
        ),
        case("batches", "submits in batches", "", Work::Batches, sizes.jobs(100_000, 20_000), rate(0.8)),
        case(
            "64 callers",
            "submits by 64 callers",
            call,
            Work::Calls { callers: 64 },
            sizes.jobs(50_000, 10_000),
            rate(0.7),
        ),
        case(
            "submit to start",
            "jobs due when submitted, 200 a second; raw: inserts at that pace",
            "from the submit to its beginning",
            Work::Begin,
            sizes.jobs(500, 100),
            vec![Goal::below("sendoff", Metric::P50, 1_500.0)],
        ),
    ]
}

impl Part {
    pub(in crate::bench) fn run(self, dir: &Path) -> Result<Sample, Failure> {
        let url = std::env::var(URL).map_err(failed)?;
        all_threads(async {
            check(&url).await?;
            let sample = if self.raw { self.bare(&url).await } else { self.ours(dir).await }?;
            postgres::clean(&url).await.map_err(failed)?;
            Ok(sample)
        })
    }

    async fn bare(&self, url: &str) -> Result<Sample, Failure> {
        let raw = Raw::connect(url, &no_op_request()?).await.map_err(failed)?;
        let jobs = self.jobs;
        match self.work {
            Work::Lives => raw.lives(jobs, BATCH).await,
            Work::Dispatch => match raw.fill(jobs, BATCH, Duration::ZERO).await {
                Ok(_) => raw.dispatch(jobs, BATCH).await,
                Err(err) => Err(err),
            },
            Work::Batches => raw.fill(jobs, BATCH, LATER).await,
            Work::Calls { callers } => raw.calls(jobs, callers, BATCH, LATER).await,
            Work::Begin => raw.paced(jobs, PAUSE).await.map(|times| Sample::default().with_times(times)),
        }
        .map_err(failed)
    }

    async fn ours(&self, dir: &Path) -> Result<Sample, Failure> {
        let keep = Keep::Postgres;
        match self.work {
            Work::Lives => lifecycle::lives(keep, dir, self.jobs).await,
            Work::Dispatch => lifecycle::dispatch(keep, dir, self.jobs).await,
            Work::Batches => submit::sendoff(keep, dir, self.jobs, None).await,
            Work::Calls { callers } => submit::sendoff(keep, dir, self.jobs, Some(callers)).await,
            Work::Begin => lateness::late(keep, dir, self.jobs, true).await,
        }
    }
}

pub(super) async fn open() -> Result<PostgresStore, Failure> {
    let url = std::env::var(URL).map_err(failed)?;
    PostgresStore::connect(&url, PostgresOptions::default()).await.map_err(failed)
}

/// Makes the tables, and refuses a database that others use: its jobs will be deleted.
pub(in crate::bench) async fn check(url: &str) -> Result<(), Failure> {
    let unusable = |err: sendoff::Error| Failure::store(format!("--store: {err}"));
    let store = PostgresStore::connect(url, PostgresOptions::default()).await.map_err(unusable)?;
    let counts = store.counts().await.map_err(unusable)?;
    let nodes = match store.fleet() {
        Some(fleet) => fleet.nodes().await.map_err(unusable)?,
        None => Vec::new(),
    };
    store.close().await.map_err(unusable)?;
    let refuse = |why: String| {
        Err(Failure::usage(format!(
            "--store: {why}, and bench deletes all jobs of the database; give it one of its own"
        )))
    };
    if let Some(other) = nodes.iter().find(|node| !node.this && node.state != NodeState::Dead) {
        return refuse(format!("the node {} works on it", other.address));
    }
    let jobs: u64 = State::ALL.into_iter().map(|state| counts.total(state)).sum();
    match jobs {
        0 => Ok(()),
        jobs => refuse(format!("it holds {}", crate::run::counted(jobs, "job"))),
    }
}
