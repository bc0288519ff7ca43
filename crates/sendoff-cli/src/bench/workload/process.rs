//! Starts of /bin/true, so many alive at once, beside a posix_spawn loop.

use std::path::Path;

use sendoff::{
    JobSpec, Scheduler,
    starter::{Process, ProcessEnv, ProcessOptions, ProcessStarter},
};
use serde::{Deserialize, Serialize};

use super::{Keep, Sizes, all_threads, failed, recorded, stop};
use crate::{
    bench::{
        case::{Case, Goal, Metric, Side},
        raw,
        sample::{Meter, Sample},
    },
    failure::Failure,
};

const ALIVE: usize = 16;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Part {
    Raw { jobs: u64, parent_mib: usize },
    Sendoff { jobs: u64, parent_mib: usize, keep: Keep },
}

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let jobs = sizes.jobs(3_000, 1_000);
    let case = |name: &str, more: &str, parent_mib| Case {
        workload: "process",
        name: name.into(),
        what: format!("{} starts of /bin/true, {ALIVE} alive at once{more}", crate::run::grouped(jobs)),
        times: "from before the start to after the exec",
        sides: vec![
            Side::raw("posix_spawn, two threads", Part::Raw { jobs, parent_mib }),
            Side::ours("sendoff, memory", Part::Sendoff { jobs, parent_mib, keep: Keep::Memory }),
            Side::ours("sendoff, SQLite", Part::Sendoff { jobs, parent_mib, keep: Keep::Sqlite }),
        ],
        goals: vec![
            Goal::rate("sendoff, memory", "posix_spawn, two threads", 0.95),
            Goal::rate("sendoff, SQLite", "posix_spawn, two threads", 0.86),
            Goal::at_most("sendoff, memory", Metric::Cpu, "posix_spawn, two threads", 1.5),
        ],
    };
    let mut cases = vec![case("true", "", 0)];
    if !sizes.quick {
        cases.push(case("from 1 GiB", ", from a process that uses 1 GiB", 1024));
    }
    cases
}

impl Part {
    pub(in crate::bench) fn run(self, dir: &Path) -> Result<Sample, Failure> {
        match self {
            Self::Raw { jobs, parent_mib } => {
                let _held = touched(parent_mib);
                raw::process::spawns(c"/bin/true", jobs, ALIVE).map_err(failed)
            }
            Self::Sendoff { jobs, parent_mib, keep } => {
                let _held = touched(parent_mib);
                all_threads(sendoff(jobs, keep, dir))
            }
        }
    }
}

/// So much memory, all of it in use.
fn touched(mebibytes: usize) -> Vec<u8> {
    vec![1; mebibytes << 20]
}

async fn sendoff(jobs: u64, keep: Keep, dir: &Path) -> Result<Sample, Failure> {
    let options = ProcessOptions::new().env(ProcessEnv::Inherit).max_running(ALIVE);
    let starter = ProcessStarter::with_options(options).map_err(failed)?;
    let scheduler =
        Scheduler::builder().store(keep.open(dir).await?).starter(starter).start().await.map_err(failed)?;
    let meter = Meter::start();
    super::submit_all(&scheduler, jobs, super::BATCH, || JobSpec::new(&Process::new("/bin/true"))).await?;
    scheduler.idle().await.map_err(failed)?;
    let sample = meter.stop(jobs);
    let took = recorded(&scheduler, |record| record.took_us).await?;
    super::all_started(&scheduler, jobs).await?;
    stop(scheduler).await?;
    Ok(sample.with_times(took))
}
