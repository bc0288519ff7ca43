//! Simulated starts of 1 ms, all at once, in memory: what the engine itself costs.

use std::time::Duration;

use sendoff::{
    Grant, JobSpec, Scheduler,
    ports::{Attempt, Checked, Refusal, StartFuture, Starter, StarterDefaults},
    starter::{Simulated, SimulatedStarter},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Keep, Sizes, all_started, all_threads, failed, stop};
use crate::{
    bench::{
        case::{Case, Goal, Side},
        raw::tasks,
        sample::{Meter, Sample},
    },
    failure::Failure,
};

const DELAY: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Part {
    Tasks { jobs: u64 },
    OneByOne { jobs: u64 },
    Together { jobs: u64 },
}

const TASKS: &str = "tokio tasks that sleep";
const ONE_BY_ONE: &str = "sendoff, one by one";
const TOGETHER: &str = "sendoff, many at once";

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let jobs = sizes.jobs(1_000_000, 200_000);
    vec![Case {
        workload: "simulated",
        name: "at once".into(),
        what: format!("{} starts of 1 ms, all at once, in memory", crate::run::grouped(jobs)),
        times: "",
        sides: vec![
            Side::raw(TASKS, Part::Tasks { jobs }),
            Side::ours(ONE_BY_ONE, Part::OneByOne { jobs }),
            Side::ours(TOGETHER, Part::Together { jobs }),
        ],
        goals: vec![Goal::rate(ONE_BY_ONE, TASKS, 0.5), Goal::rate(TOGETHER, TASKS, 1.0)],
    }]
}

impl Part {
    pub(in crate::bench) fn run(self) -> Result<Sample, Failure> {
        match self {
            Self::Tasks { jobs } => all_threads(async { Ok(tasks::sleeps(jobs, DELAY).await) }),
            Self::OneByOne { jobs } => all_threads(sendoff(jobs, OneByOne)),
            Self::Together { jobs } => all_threads(sendoff(jobs, SimulatedStarter)),
        }
    }
}

async fn sendoff(jobs: u64, starter: impl Starter) -> Result<Sample, Failure> {
    let store = Keep::Memory.open("".as_ref()).await?;
    let in_flight = usize::try_from(jobs).unwrap_or(usize::MAX);
    let builder = Scheduler::builder().store(store).starter(starter).max_in_flight(in_flight);
    let scheduler = builder.start().await.map_err(failed)?;
    let specs = (0..jobs).map(|_| JobSpec::new(&Simulated::new(DELAY))).collect();
    let meter = Meter::start();
    scheduler.submit_batch(sendoff::Batch::itemised(specs)).await.map_err(failed)?;
    scheduler.idle().await.map_err(failed)?;
    let sample = meter.stop(jobs);
    all_started(&scheduler, jobs).await?;
    stop(scheduler).await?;
    Ok(sample)
}

/// The simulated starter as one that cannot start many in one call.
struct OneByOne;

impl Starter for OneByOne {
    fn name(&self) -> &str {
        SimulatedStarter.name()
    }

    fn defaults(&self) -> StarterDefaults {
        SimulatedStarter.defaults()
    }

    fn check(&self, payload: &RawValue, grant: Option<&Grant>) -> Result<Checked, Refusal> {
        SimulatedStarter.check(payload, grant)
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        SimulatedStarter.start(attempt)
    }
}
