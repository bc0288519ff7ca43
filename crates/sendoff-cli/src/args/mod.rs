//! The command line's grammar: what `--help`, the man pages and the completions are made of.

mod bench;
mod client;
mod migrate;
mod serve;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::{Args, Parser, Subcommand, builder::BoolishValueParser};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sendoff::time::Span;

pub(crate) use bench::*;
pub(crate) use client::*;
pub(crate) use migrate::*;
pub(crate) use serve::*;

/// Starts jobs and forgets them, with an honest record of each start
#[derive(Debug, Parser)]
#[command(name = "sendoff", version, after_help = MAIN_HELP)]
pub(crate) struct Cli {
    /// What to log to stderr: error, warn, info, debug, trace, or a filter like sendoff=debug
    /// [default: warn, for serve info]
    #[arg(long, global = true, display_order = 100, env = "SENDOFF_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(RunArgs),
    Sink(SinkArgs),
    Backup(BackupArgs),
    Migrate(MigrateArgs),
    Bench(BenchArgs),
    Serve(ServeArgs),
    Config(ConfigArgs),
    Token(TokenArgs),
    #[command(flatten)]
    Client(ClientCommand),
    /// Write a completion script for a shell to stdout
    #[command(after_help = COMPLETIONS_HELP)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    ///
    /// Without DIR the page of sendoff itself goes to stdout.
    #[command(after_help = MAN_HELP)]
    Man {
        /// Write sendoff.1 and one page for each command into this directory
        dir: Option<PathBuf>,
    },
}

/// Start everything in a file of jobs, one JSON object a line
///
/// The file is checked whole before anything starts. Then its jobs start concurrently, each when it
/// is due, on an embedded durable store. The same command again continues where the run was
/// stopped or killed, and starts the lines that were appended since. Standard input (-) is started
/// as it arrives.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(crate) struct RunArgs {
    /// The file of jobs, or - for standard input
    #[arg(value_name = "FILE", required_unless_present = "each_line", conflicts_with = "each_line")]
    pub(crate) file: Option<PathBuf>,

    /// Start CMD once for each line of FILE (- for stdin), which replaces {} in CMD's arguments;
    /// without {} it is appended; never a shell; blank lines are skipped
    #[arg(long, value_name = "FILE", env = "SENDOFF_EACH_LINE", requires = "command")]
    pub(crate) each_line: Option<PathBuf>,

    /// With --each-line: the command and its arguments
    #[arg(value_name = "CMD", last = true, requires = "each_line")]
    pub(crate) command: Vec<String>,

    /// The run's name, under which it is resumed [default: the file's path; stdin has none]
    #[arg(long = "run", value_name = "NAME", env = "SENDOFF_RUN", value_parser = name)]
    pub(crate) name: Option<String>,

    /// Start a run over: its records are deleted, what is still pending of it is cancelled
    #[arg(long, env = "SENDOFF_AGAIN", value_parser = BoolishValueParser::new())]
    pub(crate) again: bool,

    /// Start the good lines although there are bad ones, and report each bad one
    #[arg(long, env = "SENDOFF_SKIP_INVALID", value_parser = BoolishValueParser::new())]
    pub(crate) skip_invalid: bool,

    /// The store: a path, or memory; what other runs left pending there is started too [default: one
    /// SQLite file for each run in $XDG_STATE_HOME/sendoff/runs]
    #[arg(long, value_name = "PATH|memory", env = "SENDOFF_STORE", hide_env_values = true)]
    pub(crate) store: Option<PathBuf>,

    /// Accept no more jobs while less than this many MiB are free beside the store, so that what is
    /// under way can still be written down [default: 256, or 2 % of the file system if that is less]
    #[arg(long, value_name = "MIB", env = "SENDOFF_KEEP_FREE", value_parser = clap::value_parser!(u64).range(..1 << 40))]
    pub(crate) keep_free: Option<u64>,

    /// Starts under way at once
    #[arg(long, value_name = "N", env = "SENDOFF_MAX_IN_FLIGHT", default_value = "1024", value_parser = at_least_1)]
    pub(crate) max_in_flight: usize,

    /// Processes alive at once [default: 1024, with --each-line the number of CPUs]
    #[arg(short = 'P', long, value_name = "N", env = "SENDOFF_MAX_RUNNING", value_parser = at_least_1)]
    pub(crate) max_running: Option<usize>,

    /// Requests under way to one host and port at once [default: 64]
    #[arg(long, value_name = "N", env = "SENDOFF_MAX_PER_DESTINATION", value_parser = at_least_1)]
    pub(crate) max_per_destination: Option<usize>,

    /// Networks that are neither public nor this machine and that HTTP jobs may call all the same, like
    /// 10.0.0.0/8; any allows all; in the variable separated by commas
    #[arg(long, value_name = "CIDR|any", env = "SENDOFF_ALLOW_NETWORK", value_delimiter = ',', value_parser = networks)]
    pub(crate) allow_network: Vec<Networks>,

    /// Start processes with nothing of this command's environment but PATH, HOME, LANG and TZ
    #[arg(long, env = "SENDOFF_CLEAN_ENV", value_parser = BoolishValueParser::new())]
    pub(crate) clean_env: bool,

    /// How long starts under way may take to end after Ctrl-C or SIGTERM
    #[arg(long, value_name = "TIME", env = "SENDOFF_GRACE", default_value = "35s")]
    pub(crate) grace: Span,

    /// Serve an endpoint for trying things while the run lasts, as `sendoff sink` does [default
    /// address: 127.0.0.1:8333]
    #[arg(
        long,
        value_name = "ADDR",
        env = "SENDOFF_SINK",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = DEFAULT_SINK
    )]
    pub(crate) sink: Option<SocketAddr>,

    /// Write the record of each job of the run to this file at the end, one JSON object a line
    #[arg(long, value_name = "FILE", env = "SENDOFF_RECORDS")]
    pub(crate) records: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// How to speak.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print the result as JSON, and errors too
    #[arg(long, env = "SENDOFF_JSON", value_parser = BoolishValueParser::new())]
    pub(crate) json: bool,

    /// Print only what a script needs: guids, names, addresses or a token, one a line, or nothing
    #[arg(short, long, env = "SENDOFF_QUIET", conflicts_with = "json", value_parser = BoolishValueParser::new())]
    pub(crate) quiet: bool,
}

/// Serve a loopback endpoint for trying things: it answers 204 and counts
#[derive(Debug, Args)]
#[command(after_help = SINK_HELP)]
pub(crate) struct SinkArgs {
    /// The loopback address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", env = "SENDOFF_SINK_LISTEN", default_value = DEFAULT_SINK)]
    pub(crate) listen: SocketAddr,

    /// The status of the answers, 200 to 599
    #[arg(long, value_name = "CODE", env = "SENDOFF_SINK_STATUS", default_value = "204", value_parser = clap::value_parser!(u16).range(200..600))]
    pub(crate) status: u16,

    /// Answer after this long
    #[arg(long, value_name = "TIME", env = "SENDOFF_SINK_DELAY", default_value = "0s")]
    pub(crate) delay: Span,

    /// Append one JSON line for each request to this file: guid, attempt, time
    #[arg(long, value_name = "FILE", env = "SENDOFF_SINK_LEDGER")]
    pub(crate) ledger: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Copy a store to a new file while it is in use
#[derive(Debug, Args)]
#[command(after_help = BACKUP_HELP)]
pub(crate) struct BackupArgs {
    /// The store to copy
    #[arg(
        long,
        value_name = "PATH",
        env = "SENDOFF_STORE",
        hide_env_values = true,
        required_unless_present = "name"
    )]
    pub(crate) store: Option<PathBuf>,

    /// Without --store: the run whose store to copy, by the name given with --run or the file's path
    #[arg(long = "run", value_name = "NAME", env = "SENDOFF_RUN", value_parser = name)]
    pub(crate) name: Option<String>,

    /// Where to; must not exist
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Where the sink listens unless told otherwise.
pub(crate) const DEFAULT_SINK: &str = "127.0.0.1:8333";

fn at_least_1(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(number) if number > 1_000_000 => Err("must be at most 1000000".into()),
        Ok(number) => Ok(number),
        Err(_) => Err("must be a whole number, at least 1".into()),
    }
}

/// One value of `--allow-network`.
#[derive(Debug, Clone)]
pub(crate) struct Networks(pub(crate) Vec<IpNet>);

fn networks(text: &str) -> Result<Networks, String> {
    if text == "any" {
        return Ok(Networks([Ipv4Net::default().into(), Ipv6Net::default().into()].into()));
    }
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or("is no network; write one like 10.0.0.0/8 or fd00::/8, or any")?;
    Ok(Networks(vec![network]))
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a run's name must not be empty".into());
    }
    if text.len() > 4_096 || text.contains('\0') {
        return Err("a run's name has at most 4096 bytes and no NUL".into());
    }
    Ok(text.to_owned())
}

const MAIN_HELP: &str = "\
Examples:
  sendoff run --sink examples/first.ndjson   start a file of jobs, with an endpoint for them
  sendoff run jobs.ndjson                    start them; after a crash the same command continues
  sendoff run --each-line hosts.txt -- ping -c1 {}
  sendoff submit http http://127.0.0.1:8333/ --in 3h     leave a job with a daemon

Exit codes:
  0    everything started, or was done
  1    some job did not start, or it was too late for what was asked
  2    wrong usage or bad input; nothing was started from a file that was checked
  3    there is no such job or queue
  4    the store is broken, locked, too new or cannot be reached; the daemon, too, or it refuses you
  124  what was waited for did not happen in time

Each flag can be given by the environment variable that its help names.";

const RUN_HELP: &str = "\
A job, one a line (everything but `start` is optional):
  {\"start\": {\"http\": {\"url\": \"http://127.0.0.1:8333/\", \"json\": {\"a\": 1}}}, \"delay\": \"90s\"}
  {\"start\": {\"process\": {\"program\": \"touch\", \"args\": [\"/tmp/x\"]}}, \"run_at\": \"2027-01-01T09:00:00Z\"}
  {\"start\": {\"simulated\": {\"delay\": \"1ms\"}}, \"guid\": \"018f2b1e-0000-7000-8000-000000000001\"}

Examples:
  sendoff run jobs.ndjson                            run, or resume, or start appended lines
  sendoff run jobs.ndjson --records done.ndjson      and write what became of each job
  generate | sendoff run --run nightly -             stream; resumable because it has a name
  sendoff run --each-line hosts.txt -P 8 -- ssh {} uptime
  sendoff run --sink examples/first.ndjson           with an endpoint of its own
  sendoff run jobs.ndjson --again                    start over

A job is started when its target took over: a 2xx answer, a successful exec. What the target does
then is its own affair. Processes get no input, and their output goes to null or to the files that
their job names. HTTP jobs may call public addresses and this machine, others with
--allow-network. A value in `headers` may name a secret instead,
{\"secret\": \"env:TOKEN\", \"prefix\": \"Bearer \"} or {\"secret\": \"file:/PATH\"}: it is looked up at
each attempt and never stored.

A run that finished says so and prints its summary again. Jobs that a crash left `unknown` may have
started; they are listed and never restarted by themselves. Ctrl-C lets starts under way end and
says how to resume; a second Ctrl-C ends at once.

Exit codes:
  0  everything started
  1  some job did not start, a line was skipped, or jobs remain after Ctrl-C
  2  wrong usage or bad input; of a file that was checked nothing was started
  4  the store is broken, locked, too new or cannot be reached";

const SINK_HELP: &str = "\
Examples:
  sendoff sink                                      answer 204 on 127.0.0.1:8333
  sendoff sink --status 503                         be out of order
  sendoff sink --delay 50ms --ledger seen.ndjson    be slow, and write down every request

It prints its address when it listens, and its totals on Ctrl-C: requests, distinct guids, and
repeats (requests whose guid was seen before). It serves this machine only.";

const BACKUP_HELP: &str = "\
Examples:
  sendoff backup --run jobs.ndjson copy.db      the store of a run
  sendoff backup --store jobs.db copy.db        a store given by --store

The copy is consistent and is taken while the store's owner goes on. Jobs that the copy holds as
pending may have started since: a copy that is put back in use starts them again.";

const COMPLETIONS_HELP: &str = "\
Examples:
  sendoff completions bash > ~/.local/share/bash-completion/completions/sendoff
  sendoff completions zsh > ~/.zfunc/_sendoff
  sendoff completions fish > ~/.config/fish/completions/sendoff.fish";

const MAN_HELP: &str = "\
Examples:
  sendoff man | man -l -
  sendoff man ~/.local/share/man/man1";
