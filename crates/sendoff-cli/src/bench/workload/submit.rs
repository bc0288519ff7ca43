//! Submits of jobs that are due in an hour, durable on SQLite: by callers that wait for each, and in
//! batches; in one process, and to a daemon.

use std::path::Path;

use sendoff::{Scheduler, starter::SimulatedStarter};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{BATCH, Keep, LATER, Sizes, all_threads, daemon, failed, no_op, no_op_request, stop, tables};
use crate::{
    bench::{
        case::{Case, Goal, Metric, Side},
        raw::sqlite::Raw,
        sample::{Meter, Sample, Times, now},
    },
    failure::Failure,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::bench) struct Part {
    side: Kind,
    jobs: u64,
    /// Callers that submit one job after the other; none: batches.
    callers: Option<u64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Raw,
    Sendoff,
    /// To a daemon.
    Tcp,
    Unix,
}

const COMMITS: &str = "bare group commits";
const TCP: &str = "sendoff over TCP";
const UNIX: &str = "sendoff over a unix socket";
/// Single submits a second over HTTP.
const OVER_HTTP: f64 = 25_000.0;

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let case = |name: &str, callers: Option<u64>, jobs: u64, part: f64| {
        let number = crate::run::grouped(jobs);
        let (what, times) = match callers {
            Some(1) => {
                (format!("{number} submits on SQLite, one after the other"), "from the call to durable")
            }
            Some(callers) => {
                let callers = crate::run::grouped(callers);
                (format!("{number} submits on SQLite by {callers} callers"), "from the call to durable")
            }
            None => (format!("{number} submits on SQLite in batches of {}", crate::run::grouped(BATCH)), ""),
        };
        let mut goals = vec![Goal::rate("sendoff", COMMITS, part)];
        if callers == Some(1) {
            goals.push(Goal::below("sendoff", Metric::P50, 200.0));
        }
        let side = |side| Part { side, jobs, callers };
        let mut sides = vec![Side::raw(COMMITS, side(Kind::Raw)), Side::ours("sendoff", side(Kind::Sendoff))];
        match callers {
            Some(64) => {
                sides.extend([Side::ours(TCP, side(Kind::Tcp)), Side::ours(UNIX, side(Kind::Unix))]);
                goals.push(Goal::above(TCP, OVER_HTTP));
            }
            None => sides.push(Side::ours(TCP, side(Kind::Tcp))),
            _ => {}
        }
        Case { workload: "submit", name: name.into(), what, times, sides, goals }
    };
    vec![
        case("1 caller", Some(1), sizes.jobs(5_000, 1_000), 0.9),
        case("64 callers", Some(64), sizes.jobs(100_000, 20_000), 0.7),
        case("1,024 callers", Some(1_024), sizes.jobs(200_000, 40_000), 0.7),
        case("batches", None, sizes.jobs(200_000, 50_000), 0.8),
    ]
}

impl Part {
    pub(in crate::bench) fn run(self, dir: &Path) -> Result<Sample, Failure> {
        let Self { side, jobs, callers } = self;
        all_threads(async {
            match (side, callers) {
                (Kind::Raw, Some(callers)) => {
                    raw(dir).await?.calls(jobs, callers, LATER).await.map_err(failed)
                }
                (Kind::Raw, None) => raw(dir).await?.fill(jobs, BATCH, LATER).map_err(failed),
                (Kind::Sendoff, _) => sendoff(Keep::Sqlite, dir, jobs, callers).await,
                (Kind::Tcp, Some(callers)) => daemon::singles(dir, jobs, callers, true).await,
                (Kind::Unix, Some(callers)) => daemon::singles(dir, jobs, callers, false).await,
                (Kind::Tcp | Kind::Unix, None) => daemon::batch(dir, jobs).await,
            }
        })
    }
}

async fn raw(dir: &Path) -> Result<Raw, Failure> {
    Raw::open(&tables(dir).await?, &no_op_request()?).map_err(failed)
}

pub(super) async fn sendoff(
    keep: Keep,
    dir: &Path,
    jobs: u64,
    callers: Option<u64>,
) -> Result<Sample, Failure> {
    let builder = Scheduler::builder().store(keep.open(dir).await?).starter(SimulatedStarter);
    let scheduler = builder.start().await.map_err(failed)?;
    let sample = match callers {
        Some(callers) => singles(&scheduler, jobs, callers).await?,
        None => {
            let meter = Meter::start();
            super::submit_all(&scheduler, jobs, BATCH, || no_op().delay(LATER)).await?;
            meter.stop(jobs)
        }
    };
    stop(scheduler).await?;
    Ok(sample)
}

async fn singles(scheduler: &Scheduler, jobs: u64, callers: u64) -> Result<Sample, Failure> {
    let each = (jobs / callers).max(1);
    let mut tasks = JoinSet::new();
    let meter = Meter::start();
    for _ in 0..callers {
        let scheduler = scheduler.clone();
        tasks.spawn(async move {
            let mut times = Times::new();
            for _ in 0..each {
                let began = now();
                scheduler.submit(no_op().delay(LATER))?.await?;
                times.add(now() - began);
            }
            Ok::<_, sendoff::Error>(times)
        });
    }
    let all = tasks.join_all().await;
    let sample = meter.stop(each * callers);
    let mut times = Times::new();
    for caller in all {
        times.merge(&caller.map_err(failed)?);
    }
    Ok(sample.with_times(times))
}
