//! How late starts begin, 200 a second at random times: beside a bare timerfd, and beside what one
//! write takes to reach the disk.

use std::{future::poll_fn, path::Path, time::Duration};

use rustix::time::ClockId;
use sendoff::{
    JobSpec, Scheduler, Timestamp,
    starter::{Simulated, SimulatedStarter},
    time::{Clock, SystemClock},
};
use serde::{Deserialize, Serialize};

use super::{Keep, Sizes, all_threads, failed, recorded, stop};
use crate::{
    bench::{
        case::{Case, Goal, Metric, Side},
        raw::timing,
        sample::{Sample, clock},
    },
    failure::Failure,
};

const PER_SECOND: u64 = 200;
/// What a commit of one job writes: three pages.
const WRITTEN: usize = 12_288;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::bench) struct Part {
    side: Kind,
    jobs: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Timerfd,
    Sync,
    /// Due at some time after the submit.
    Due(Keep),
    /// Due at once.
    Submit(Keep),
}

const TIMERFD: &str = "a bare timerfd";
const SYNC: &str = "write of 12 KiB + fdatasync";

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let jobs = sizes.jobs(500, 100);
    let part = |side| Part { side, jobs };
    let ours = "sendoff";
    vec![
        Case {
            workload: "lateness",
            name: "memory".into(),
            what: format!("{jobs} jobs at random times, {PER_SECOND} a second, in memory"),
            times: "from when it was due to its beginning",
            sides: vec![
                Side::raw(TIMERFD, part(Kind::Timerfd)),
                Side::ours(ours, part(Kind::Due(Keep::Memory))),
            ],
            goals: vec![Goal::below(ours, Metric::P50, 200.0), Goal::below(ours, Metric::P99, 400.0)],
        },
        Case {
            workload: "lateness",
            name: "SQLite".into(),
            what: format!("{jobs} jobs at random times, {PER_SECOND} a second, durable before they begin"),
            times: "from when it was submitted, or due, to its beginning",
            sides: vec![
                Side::raw(SYNC, part(Kind::Sync)),
                Side::ours("sendoff, due when submitted", part(Kind::Submit(Keep::Sqlite))),
                Side::ours("sendoff, due later", part(Kind::Due(Keep::Sqlite))),
            ],
            goals: vec![
                Goal::at_most("sendoff, due when submitted", Metric::P50, SYNC, 2.0),
                Goal::at_most("sendoff, due when submitted", Metric::P99, SYNC, 3.0),
                Goal::at_most("sendoff, due later", Metric::P50, SYNC, 3.0),
            ],
        },
    ]
}

impl Part {
    pub(in crate::bench) fn run(self, dir: &Path) -> Result<Sample, Failure> {
        let jobs = self.jobs;
        let times = match self.side {
            Kind::Timerfd => timing::alarms(&due(jobs)).map_err(failed)?,
            Kind::Sync => timing::syncs(dir, WRITTEN, jobs, Duration::from_micros(1_000_000 / PER_SECOND))
                .map_err(failed)?,
            Kind::Due(keep) => return all_threads(late(keep, dir, jobs, false)),
            Kind::Submit(keep) => return all_threads(late(keep, dir, jobs, true)),
        };
        Ok(Sample::default().with_times(times))
    }
}

/// Random instants of the wall clock, the same distances in each run.
fn due(jobs: u64) -> Vec<Duration> {
    let begin = clock(ClockId::Realtime) + Duration::from_millis(300);
    let mut random = fastrand::Rng::with_seed(1);
    let micros = jobs.max(1) * 1_000_000 / PER_SECOND;
    let mut due: Vec<_> = (0..jobs).map(|_| begin + Duration::from_micros(random.u64(..micros))).collect();
    due.sort_unstable();
    due
}

pub(super) async fn late(keep: Keep, dir: &Path, jobs: u64, at_once: bool) -> Result<Sample, Failure> {
    let builder = Scheduler::builder().store(keep.open(dir).await?).starter(SimulatedStarter);
    let scheduler = builder.start().await.map_err(failed)?;
    let mut timer = SystemClock.timer().map_err(failed)?;
    let job = || JobSpec::new(&Simulated::new(Duration::ZERO));
    for due in due(jobs) {
        let due = i64::try_from(due.as_micros()).ok().and_then(Timestamp::from_micros);
        let due = due.ok_or_else(|| failed("the clock is far from now"))?;
        if at_once {
            timer.arm(Some(due));
            poll_fn(|cx| timer.poll_ring(cx)).await;
            drop(scheduler.submit(job()).map_err(failed)?);
        } else {
            drop(scheduler.submit(job().run_at(due)).map_err(failed)?);
        }
    }
    scheduler.idle().await.map_err(failed)?;
    let waits = recorded(&scheduler, |record| record.wait_us).await?;
    super::all_started(&scheduler, jobs).await?;
    stop(scheduler).await?;
    Ok(Sample::default().with_times(waits))
}
