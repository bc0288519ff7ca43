//! Whole lives of starts that do nothing, durable on SQLite, and the dispatch of a backlog.

use std::{path::Path, time::Duration};

use sendoff::{QueueLimits, Scheduler, starter::SimulatedStarter};
use serde::{Deserialize, Serialize};

use super::{BATCH, Keep, Sizes, all_started, all_threads, failed, no_op, no_op_request, stop, tables};
use crate::{
    bench::{
        case::{Case, Goal, Side},
        raw::sqlite::Raw,
        sample::{Meter, Sample},
    },
    failure::Failure,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Part {
    RawLives { jobs: u64 },
    Lives { jobs: u64 },
    RawDispatch { jobs: u64 },
    Dispatch { jobs: u64 },
}

const BARE: &str = "bare SQLite";

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let jobs = sizes.jobs(200_000, 50_000);
    let number = crate::run::grouped(jobs);
    let case = |name: &str, what, raw, ours, part| Case {
        workload: "lifecycle",
        name: name.into(),
        what,
        times: "",
        sides: vec![Side::raw(BARE, raw), Side::ours("sendoff", ours)],
        goals: vec![Goal::rate("sendoff", BARE, part)],
    };
    vec![
        case(
            "lives",
            format!("{number} jobs that do nothing on SQLite: inserted, claimed, started"),
            Part::RawLives { jobs },
            Part::Lives { jobs },
            0.6,
        ),
        case(
            "dispatch",
            format!("a backlog of {number} due jobs on SQLite: claimed, started"),
            Part::RawDispatch { jobs },
            Part::Dispatch { jobs },
            0.5,
        ),
    ]
}

impl Part {
    pub(in crate::bench) fn run(self, dir: &Path) -> Result<Sample, Failure> {
        all_threads(async {
            match self {
                Self::RawLives { jobs } => raw(dir).await?.lives(jobs, BATCH).map_err(failed),
                Self::RawDispatch { jobs } => {
                    let mut raw = raw(dir).await?;
                    raw.fill(jobs, BATCH, Duration::ZERO).map_err(failed)?;
                    raw.dispatch(jobs, BATCH).map_err(failed)
                }
                Self::Lives { jobs } => lives(Keep::Sqlite, dir, jobs).await,
                Self::Dispatch { jobs } => dispatch(Keep::Sqlite, dir, jobs).await,
            }
        })
    }
}

async fn raw(dir: &Path) -> Result<Raw, Failure> {
    Raw::open(&tables(dir).await?, &no_op_request()?).map_err(failed)
}

pub(super) async fn lives(keep: Keep, dir: &Path, jobs: u64) -> Result<Sample, Failure> {
    let scheduler = open(keep, dir, false).await?;
    let meter = Meter::start();
    super::submit_all(&scheduler, jobs, BATCH, no_op).await?;
    scheduler.idle().await.map_err(failed)?;
    let sample = meter.stop(jobs);
    all_started(&scheduler, jobs).await?;
    stop(scheduler).await?;
    Ok(sample)
}

pub(super) async fn dispatch(keep: Keep, dir: &Path, jobs: u64) -> Result<Sample, Failure> {
    let paused = open(keep, dir, true).await?;
    super::submit_all(&paused, jobs, BATCH, no_op).await?;
    stop(paused).await?;
    let meter = Meter::start();
    let scheduler = open(keep, dir, false).await?;
    scheduler.idle().await.map_err(failed)?;
    let sample = meter.stop(jobs);
    all_started(&scheduler, jobs).await?;
    stop(scheduler).await?;
    Ok(sample)
}

async fn open(keep: Keep, dir: &Path, paused: bool) -> Result<Scheduler, Failure> {
    let limits = QueueLimits { paused, ..QueueLimits::default() };
    let builder = Scheduler::builder().store(keep.open(dir).await?).starter(SimulatedStarter);
    builder.queue_limits("default", limits).start().await.map_err(failed)
}
