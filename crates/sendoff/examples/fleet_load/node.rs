//! One node: does what its standard input says, line by line, and answers each line with one.

use std::{io::BufRead, sync::Arc, time::Duration};

use sendoff::{
    Batch, JobSpec, Scheduler,
    starter::{Simulated, SimulatedStarter},
    store::{PostgresOptions, PostgresStore},
    time::{Clock, SystemClock},
};
use tokio::task::JoinSet;

use crate::{BATCH, PADDING};

const IN_FLIGHT: usize = 4_096;

/// What to submit.
#[derive(Clone, Copy)]
struct Order {
    jobs: usize,
    due: Duration,
    callers: usize,
    delay: Duration,
}

impl Order {
    fn job(&self) -> JobSpec {
        JobSpec::new(&Simulated::new(self.delay)).delay(self.due).label("n", PADDING)
    }
}

pub(crate) fn run(url: &str, queues: &str) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let queues = (queues != "all").then(|| vec!["of-nobody".to_owned()]);
    let options = PostgresOptions { queues, ..PostgresOptions::default() };
    let store = Arc::new(runtime.block_on(PostgresStore::connect(url, options)).expect("it connects"));
    println!("connected");
    let mut lines = std::io::stdin().lock().lines().map(|line| line.expect("text"));
    assert_eq!(lines.next().as_deref(), Some("start"));
    let builder = Scheduler::builder().store(store).starter(SimulatedStarter).max_in_flight(IN_FLIGHT);
    let scheduler = runtime.block_on(builder.start()).expect("it starts");
    println!("started");
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |place: usize| words[place].parse::<u64>().expect("a number");
        let delay = Duration::from_millis(number(4));
        let order = |jobs: u64, due, callers: u64| Order {
            jobs: jobs as usize,
            due: Duration::from_secs(due),
            callers: callers as usize,
            delay,
        };
        let began = SystemClock.elapsed();
        match words[0] {
            "batches" => runtime.block_on(batches(&scheduler, order(number(1), number(2), number(3)))),
            "singles" => runtime.block_on(singles(&scheduler, order(number(1), number(2), number(3)))),
            "pace" => {
                println!("{}", runtime.block_on(pace(&scheduler, number(1), order(number(2), 0, 1))));
                continue;
            }
            other => panic!("{other} is no order"),
        }
        println!("{}", (SystemClock.elapsed() - began).as_micros());
    }
    runtime.block_on(scheduler.shutdown(Duration::from_secs(5))).expect("it stops");
}

async fn batches(scheduler: &Scheduler, order: Order) {
    let mut callers = JoinSet::new();
    let batches = order.jobs / BATCH;
    for caller in 0..order.callers {
        let scheduler = scheduler.clone();
        let mine = batches / order.callers + usize::from(caller < batches % order.callers);
        let rest = if caller == 0 { order.jobs % BATCH } else { 0 };
        callers.spawn(async move {
            for jobs in std::iter::repeat_n(BATCH, mine).chain((rest > 0).then_some(rest)) {
                let batch = Batch::itemised((0..jobs).map(|_| order.job()).collect());
                scheduler.submit_batch(batch).await.expect("it is stored");
            }
        });
    }
    callers.join_all().await;
}

async fn singles(scheduler: &Scheduler, order: Order) {
    let mut callers = JoinSet::new();
    for caller in 0..order.callers {
        let scheduler = scheduler.clone();
        let mine = order.jobs / order.callers + usize::from(caller < order.jobs % order.callers);
        callers.spawn(async move {
            for _ in 0..mine {
                scheduler.submit(order.job()).expect("a good job").await.expect("it is stored");
            }
        });
    }
    callers.join_all().await;
}

/// Submits `rate` jobs a second and gives how long each waited, and when its submitter was told.
async fn pace(scheduler: &Scheduler, rate: u64, order: Order) -> String {
    let mut submits = JoinSet::new();
    let mut next = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).expect("small"));
    for _ in 0..order.jobs {
        next.tick().await;
        let scheduler = scheduler.clone();
        submits.spawn(async move {
            let called = SystemClock.elapsed();
            let submission = scheduler.submit(order.job()).expect("a good job");
            let record = submission.started().await.expect("it starts");
            let told = (SystemClock.elapsed() - called).as_micros();
            (record.wait_us.expect("it began"), told)
        });
    }
    let (waits, told): (Vec<_>, Vec<_>) =
        submits.join_all().await.into_iter().map(|(wait, told)| (wait.to_string(), told.to_string())).unzip();
    format!("{};{}", waits.join(" "), told.join(" "))
}
