//! Whether the cost of a job grows with what is pending: many rows, many queues, a paused queue before
//! the others; all on SQLite, and beside the same with nothing pending.

use std::{future::poll_fn, path::Path, time::Duration};

use rustix::time::ClockId;
use sendoff::{
    Batch, JobSpec, QueueLimits, Scheduler, State,
    starter::SimulatedStarter,
    time::{Clock, SystemClock},
};
use serde::{Deserialize, Serialize};

use super::{BATCH, Keep, Sizes, all_threads, failed, lifecycle, no_op, stop};
use crate::{
    bench::{
        case::{Case, Goal, Metric, Side},
        sample::{Meter, Sample, Times, clock, now, resident},
    },
    failure::Failure,
    run::grouped,
};

const YEAR: u64 = 365 * 86_400;
/// Jobs whose waits are measured.
const WAITS: u64 = 200;
const PACE: Duration = Duration::from_millis(5);
/// What follows a start-up is over by then.
const SETTLED: Duration = Duration::from_secs(2);
/// How long idleness is watched.
const IDLE: Duration = Duration::from_secs(2);
const STUCK: &str = "stuck";

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::bench) enum Part {
    /// Makes so many rows that are due in some years.
    Fill { rows: u64, queues: u64 },
    /// Opens what is there, looks how idle it is, and measures lives and waits.
    Live { jobs: u64, queues: u64 },
    /// Makes so many due rows in a queue that stays paused.
    FillStuck { rows: u64 },
    /// Adds due rows in another queue and measures how fast they are started.
    Dispatch { jobs: u64 },
}

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let jobs = sizes.jobs(50_000, 10_000);
    let mut cases: Vec<Case> =
        sizes.rows.iter().map(|rows| pending((*rows).min(sizes.at_most), jobs)).collect();
    cases.push(stuck(sizes));
    cases.push(backlog(sizes));
    cases
}

fn pending(rows: u64, jobs: u64) -> Case {
    const NOTHING: &str = "nothing pending";
    let live = |queues| Part::Live { jobs, queues };
    let side = |queues: u64| {
        let words = if queues == 1 { "one queue".to_owned() } else { format!("{} queues", grouped(queues)) };
        Side::ours(format!("{} pending, {words}", grouped(rows)), live(queues))
            .prepared(Part::Fill { rows, queues })
    };
    let sides = vec![Side::ours(NOTHING, live(1)), side(1), side(10_000)];
    let goals = sides.iter().skip(1).flat_map(|side| {
        [
            Goal::rate(&side.name, NOTHING, 0.8),
            Goal::at_least(&side.name, Metric::More("random_per_second"), NOTHING, 0.8),
            Goal::below(&side.name, Metric::More("resident_mib"), 150.0),
            Goal::below(&side.name, Metric::More("open_ms"), 1_000.0),
            Goal::below(&side.name, Metric::More("idle_cpu_percent"), 0.5),
        ]
    });
    Case {
        workload: "scale",
        name: format!("{} rows", grouped(rows)),
        what: format!(
            "{} jobs that do nothing, submitted and started beside jobs that are due in years",
            grouped(jobs)
        ),
        times: "from when it was due to its beginning",
        goals: goals.collect(),
        sides,
    }
}

fn stuck(sizes: Sizes<'_>) -> Case {
    let (rows, jobs) = (sizes.jobs(900_000, 90_000), sizes.jobs(100_000, 10_000));
    let behind = format!("behind {} in a paused queue", grouped(rows));
    let alone = "alone";
    Case {
        workload: "scale",
        name: "a paused queue".into(),
        what: format!(
            "{} due jobs of one queue, alone and behind others that are due but paused",
            grouped(jobs)
        ),
        times: "",
        goals: vec![Goal::rate(&behind, alone, 0.9)],
        sides: vec![
            Side::ours(alone, Part::Dispatch { jobs }),
            Side::ours(behind, Part::Dispatch { jobs }).prepared(Part::FillStuck { rows }),
        ],
    }
}

fn backlog(sizes: Sizes<'_>) -> Case {
    let (few, many) = (sizes.jobs(10_000, 1_000), sizes.jobs(1_000_000, 50_000));
    let name = |jobs| format!("a backlog of {}", grouped(jobs));
    let side = |jobs| Side::ours(name(jobs), lifecycle::Part::Dispatch { jobs });
    Case {
        workload: "scale",
        name: "backlogs".into(),
        what: "due jobs on SQLite: claimed, started".into(),
        times: "",
        goals: vec![Goal::rate(&name(many), &name(few), 1.0)],
        sides: vec![side(few), side(many)],
    }
}

impl Part {
    pub(in crate::bench) fn run(self, dir: &Path) -> Result<Sample, Failure> {
        all_threads(async {
            match self {
                Self::Fill { rows, queues } => {
                    let scheduler = open(dir, &[]).await?;
                    let sample = fill(&scheduler, rows, queues).await?;
                    stop(scheduler).await?;
                    Ok(sample)
                }
                Self::Live { jobs, queues } => live(dir, jobs, queues).await,
                Self::FillStuck { rows } => {
                    let scheduler = open(dir, &[STUCK]).await?;
                    let meter = Meter::start();
                    super::submit_all(&scheduler, rows, BATCH, || no_op().queue(STUCK)).await?;
                    let sample = meter.stop(rows);
                    stop(scheduler).await?;
                    Ok(sample)
                }
                Self::Dispatch { jobs } => dispatch(dir, jobs).await,
            }
        })
    }
}

async fn open(dir: &Path, paused: &[&str]) -> Result<Scheduler, Failure> {
    let mut builder = Scheduler::builder().store(Keep::Sqlite.open(dir).await?).starter(SimulatedStarter);
    for queue in paused {
        builder = builder.queue_limits(queue, QueueLimits { paused: true, ..QueueLimits::default() });
    }
    builder.start().await.map_err(failed)
}

/// One queue after the other and in the order in which they are due, so that ten million take minutes.
async fn fill(scheduler: &Scheduler, rows: u64, queues: u64) -> Result<Sample, Failure> {
    let meter = Meter::start();
    let mut made = 0;
    while made < rows {
        let last = rows.min(made + 10 * BATCH);
        let specs: Vec<JobSpec> = (made..last)
            .map(|n| {
                let share = n as f64 / rows as f64;
                far((share * queues as f64) as u64, queues, share)
            })
            .collect();
        scheduler.submit_batch(Batch::itemised(specs)).await.map_err(failed)?;
        made = last;
    }
    Ok(meter.stop(rows))
}

/// A job that is due in some years.
fn far(n: u64, queues: u64, share: f64) -> JobSpec {
    in_queue(n, queues).delay(Duration::from_secs(YEAR).mul_f64(1.0 + 10.0 * share))
}

/// A job in the queue whose turn it is.
fn in_queue(n: u64, queues: u64) -> JobSpec {
    if queues == 1 { no_op() } else { no_op().queue(format!("q{}", n % queues)) }
}

async fn live(dir: &Path, jobs: u64, queues: u64) -> Result<Sample, Failure> {
    let began = now();
    let scheduler = open(dir, &[]).await?;
    scheduler.submit(no_op()).map_err(failed)?.started().await.map_err(failed)?;
    let opened = now() - began;
    tokio::time::sleep(SETTLED).await;
    let (cpu, began) = (clock(ClockId::ProcessCPUTime), now());
    tokio::time::sleep(IDLE).await;
    let idle = (clock(ClockId::ProcessCPUTime) - cpu).as_secs_f64() / (now() - began).as_secs_f64();
    let resident = resident();

    let before = started(&scheduler).await?;
    let meter = Meter::start();
    let mut made = 0;
    while made < jobs {
        let last = jobs.min(made + BATCH);
        let specs = (made..last).map(|n| in_queue(n, queues)).collect();
        scheduler.submit_batch(Batch::itemised(specs)).await.map_err(failed)?;
        made = last;
    }
    until_started(&scheduler, before + jobs).await?;
    let sample = meter.stop(jobs);
    let waits = waits(&scheduler, queues).await?;
    let random = random(&scheduler, jobs / 5, queues).await?;
    stop(scheduler).await?;
    let more = [
        ("open_ms", opened.as_secs_f64() * 1e3),
        ("resident_mib", resident / f64::from(1 << 20)),
        ("idle_cpu_percent", idle * 100.0),
        ("random_per_second", random),
    ];
    let more = more.map(|(name, figure)| (name.to_owned(), figure)).into();
    Ok(Sample { more, ..sample.with_times(waits) })
}

/// How many jobs a second can be submitted that are due anywhere among the others: each changes two pages
/// of indexes that no other job of its commit does.
async fn random(scheduler: &Scheduler, jobs: u64, queues: u64) -> Result<f64, Failure> {
    let mut random = fastrand::Rng::new();
    let specs = (0..jobs).map(|n| far(n, queues, random.f64())).collect();
    let began = now();
    scheduler.submit_batch(Batch::itemised(specs)).await.map_err(failed)?;
    Ok(jobs as f64 / (now() - began).as_secs_f64())
}

/// The waits of jobs that are due when they are submitted, at an even pace.
async fn waits(scheduler: &Scheduler, queues: u64) -> Result<Times, Failure> {
    let mut timer = SystemClock.timer().map_err(failed)?;
    let mut at = SystemClock.now();
    let mut submitted = Vec::new();
    for n in 0..WAITS {
        at = at.saturating_add(PACE);
        timer.arm(Some(at));
        poll_fn(|cx| timer.poll_ring(cx)).await;
        submitted.push(scheduler.submit(in_queue(n, queues)).map_err(failed)?);
    }
    let mut waits = Times::new();
    for submission in submitted {
        let record = submission.started().await.map_err(failed)?;
        waits.add_micros(record.wait_us.and_then(|wait| u64::try_from(wait).ok()).unwrap_or(0));
    }
    Ok(waits)
}

async fn dispatch(dir: &Path, jobs: u64) -> Result<Sample, Failure> {
    let paused = open(dir, &["default", STUCK]).await?;
    super::submit_all(&paused, jobs, BATCH, no_op).await?;
    let before = started(&paused).await?;
    stop(paused).await?;
    let meter = Meter::start();
    let scheduler = open(dir, &[STUCK]).await?;
    until_started(&scheduler, before + jobs).await?;
    let sample = meter.stop(jobs);
    stop(scheduler).await?;
    Ok(sample)
}

/// Waits for so many records of starts. Looks at the counts only in a lull: with many queues they are
/// long.
async fn until_started(scheduler: &Scheduler, jobs: u64) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if scheduler.in_flight() == 0 && started(scheduler).await? >= jobs {
            return Ok(());
        }
    }
}

async fn started(scheduler: &Scheduler) -> Result<u64, Failure> {
    Ok(scheduler.counts().await.map_err(failed)?.total(State::Started))
}
