//! The grammar of `bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, builder::BoolishValueParser};

use super::Output;
use crate::config::DatabaseUrl;

/// Measure what sendoff adds to each kind of start on this machine, beside the raw limit
///
/// Each workload runs without sendoff and with it, in turns and in processes of their own, and so
/// meets the same noise of the machine. Printed are medians and ranges, the ratio of the medians,
/// and whether it reaches its goal. Nothing leaves this machine.
#[derive(Debug, Args)]
#[command(after_help = BENCH_HELP)]
pub(crate) struct BenchArgs {
    /// What to measure [default: all but postgres and scale; with
    /// --store postgres too]
    #[arg(value_enum, value_name = "WORKLOAD")]
    pub(crate) workloads: Vec<Workload>,

    /// How often each side runs [default: 5, with --quick 3]
    #[arg(long, value_name = "N", env = "SENDOFF_BENCH_RUNS", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) runs: Option<u32>,

    /// Do less of everything: half a minute in all, and less exact
    #[arg(long, env = "SENDOFF_BENCH_QUICK", value_parser = BoolishValueParser::new())]
    pub(crate) quick: bool,

    /// The folder in which to make files, on the disk to measure; they are deleted at the end
    /// [default: the system's folder for temporary files]
    #[arg(long, value_name = "DIR", env = "SENDOFF_BENCH_DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Draw the figures into this file
    #[arg(long, value_name = "FILE.svg", env = "SENDOFF_BENCH_PLOT")]
    pub(crate) plot: Option<PathBuf>,

    /// For postgres: the URL of a database of its own, which holds no jobs
    #[arg(long, value_name = "postgres://…", env = "SENDOFF_BENCH_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,

    /// For scale: the numbers of pending rows, separated by commas
    #[arg(long, value_name = "N,…", env = "SENDOFF_BENCH_ROWS", value_delimiter = ',', default_value = "10000,1000000,10000000", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) rows: Vec<u64>,

    /// No more jobs than this in any case
    #[arg(long, value_name = "N", hide = true, env = "SENDOFF_BENCH_JOBS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) jobs: Option<u64>,

    /// What one process of a run is to do
    #[arg(long, value_name = "JSON", hide = true)]
    pub(crate) part: Option<String>,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Starts of 1 ms, all at once, in memory; beside tokio tasks that sleep
    Simulated,
    /// Memory for each pending job, and cancels; beside tokio tasks, and a heap with a map
    Pending,
    /// Starts of /bin/true; beside a posix_spawn loop
    Process,
    /// POSTs to an endpoint on loopback; beside bytes over sockets, and bare hyper
    Http,
    /// Durable submits on SQLite; beside bare group commits
    Submit,
    /// Lives of jobs that do nothing, and a backlog, on SQLite; beside bare SQLite
    Lifecycle,
    /// How late jobs begin, 200 a second; beside a timerfd, and a write with fdatasync
    Lateness,
    /// The same on PostgreSQL, with --store; beside one bare connection
    Postgres,
    /// Millions pending, thousands of queues, a paused one in the way; some ten minutes
    Scale,
}

impl BenchArgs {
    /// The workloads to measure.
    pub(crate) fn wanted(&self) -> Vec<String> {
        let all = Workload::value_variants().iter().copied();
        let of_itself = |workload: &Workload| match workload {
            Workload::Postgres => {
                self.store.as_deref().is_some_and(|store| DatabaseUrl::given(store).is_some())
            }
            Workload::Scale => false,
            _ => true,
        };
        let named = self.workloads.iter().copied();
        if self.workloads.is_empty() {
            all.filter(of_itself).map(Workload::name).collect()
        } else {
            named.map(Workload::name).collect()
        }
    }
}

impl Workload {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

const BENCH_HELP: &str = "\
Examples:
  sendoff bench                                 all of it, some five minutes
  sendoff bench --quick --plot bench.svg        half a minute, with a picture
  sendoff bench submit lateness --dir /var/lib  what this disk gives
  sendoff bench http --runs 11 --json > http.json
  sendoff bench postgres --store postgres://db1/bench
  sendoff bench scale --rows 10000,1000000

A range is that of the runs. CPU is this process's time for each job, in microseconds; that of the
kernel on its behalf is in it, that of children and of the endpoint is not. The raw side does
without records, cancels, limits and retries, and is what no scheduler can beat; docs/performance.md
says what each is. On a machine that does other work, believe the ratios and not the rates.

Exit codes:
  0  it has measured, whether goals are met or not
  1  something could not be measured
  2  wrong usage";
