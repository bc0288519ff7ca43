//! Jobs that wait, in memory: the bytes for each, and how fast they are cancelled by their guids.

use sendoff::{
    Batch, Guid, JobSpec, Scheduler, Verdict,
    starter::{Simulated, SimulatedStarter},
};
use serde::{Deserialize, Serialize};

use super::{Keep, LATER, Sizes, all_threads, failed, stop};
use crate::{
    bench::{
        case::{Case, Goal, Metric, Side},
        raw::{heap, tasks},
        sample::{Meter, Sample, resident},
    },
    failure::Failure,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Part {
    Tasks { jobs: u64 },
    Heap { jobs: u64 },
    Sendoff { jobs: u64 },
}

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let jobs = sizes.jobs(1_000_000, 200_000);
    vec![Case {
        workload: "pending",
        name: "cancel".into(),
        what: format!(
            "{} jobs due in an hour, in memory; then all are cancelled by guid",
            crate::run::grouped(jobs)
        ),
        times: "",
        sides: vec![
            Side::raw("tokio tasks that sleep", Part::Tasks { jobs }),
            Side::raw("a heap and a map", Part::Heap { jobs }),
            Side::ours("sendoff", Part::Sendoff { jobs }),
        ],
        goals: vec![
            Goal::rate("sendoff", "tokio tasks that sleep", 1.0),
            Goal::below("sendoff", Metric::Bytes, 232.0),
        ],
    }]
}

impl Part {
    pub(in crate::bench) fn run(self) -> Result<Sample, Failure> {
        match self {
            Self::Tasks { jobs } => all_threads(async { Ok(tasks::pending(jobs, LATER).await) }),
            Self::Heap { jobs } => Ok(heap::pending(jobs)),
            Self::Sendoff { jobs } => all_threads(sendoff(jobs)),
        }
    }
}

async fn sendoff(jobs: u64) -> Result<Sample, Failure> {
    let store = Keep::Memory.open("".as_ref()).await?;
    let scheduler =
        Scheduler::builder().store(store).starter(SimulatedStarter).start().await.map_err(failed)?;
    // Resident before the jobs are: they are the caller's.
    let mut guids = vec![Guid::from_bytes([1; 16]); usize::try_from(jobs).unwrap_or(0)];
    guids.clear();
    let before = resident();
    while (guids.len() as u64) < jobs {
        let left = jobs - guids.len() as u64;
        let later = JobSpec::new(&Simulated::new(std::time::Duration::ZERO)).delay(LATER);
        let specs = (0..left.min(super::BATCH)).map(|_| later.clone()).collect();
        let verdicts = scheduler.submit_batch(Batch::itemised(specs)).await.map_err(failed)?;
        guids.extend(verdicts.iter().filter_map(Verdict::guid));
    }
    let bytes = (resident() - before) / jobs.max(1) as f64;
    let meter = Meter::start();
    let verdicts = scheduler.cancel_many(guids).await.map_err(failed)?;
    let sample = Sample { bytes: Some(bytes), ..meter.stop(jobs) };
    drop(verdicts);
    stop(scheduler).await?;
    Ok(sample)
}
