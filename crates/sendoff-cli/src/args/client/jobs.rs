//! The grammar of the commands about jobs that were submitted.

use clap::{Args, ValueEnum, builder::BoolishValueParser};
use sendoff::{State, Timestamp, time::Span};

use super::{Common, help, submit::pair};

/// Which jobs. These have no variables: what a command is about stands in the command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filter {
    /// Those of this queue
    #[arg(short = 'Q', long, value_name = "NAME")]
    pub(crate) queue: Option<String>,

    /// Those with this label
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) label: Option<(String, String)>,

    /// Those that are due at this instant or later
    #[arg(long, value_name = "INSTANT")]
    pub(crate) from: Option<Timestamp>,

    /// Those that are due before this instant
    #[arg(long, value_name = "INSTANT")]
    pub(crate) to: Option<Timestamp>,

    /// Those of this submitter, as records name it
    #[arg(long, value_name = "NAME")]
    pub(crate) submitted_by: Option<String>,
}

/// List jobs, the newest first
#[derive(Debug, Args)]
#[command(after_help = help::LIST)]
pub(crate) struct ListArgs {
    /// Those in this state
    #[arg(short, long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<State>,

    #[command(flatten)]
    pub(crate) filter: Filter,

    /// The oldest first
    #[arg(long, env = "SENDOFF_LIST_OLDEST", value_parser = BoolishValueParser::new())]
    pub(crate) oldest: bool,

    /// At most so many
    #[arg(short = 'n', long, value_name = "N", env = "SENDOFF_LIST_LIMIT", default_value = "50", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: u64,

    /// All of them
    #[arg(long, env = "SENDOFF_LIST_ALL", value_parser = BoolishValueParser::new())]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Show what became of jobs, and why one has not started
#[derive(Debug, Args)]
#[command(after_help = help::SHOW)]
pub(crate) struct ShowArgs {
    /// A guid, the last 6 or more characters of one, or - for guids on standard input
    #[arg(value_name = "SELECTOR", required = true)]
    pub(crate) jobs: Vec<String>,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Wait until jobs have started or will not
#[derive(Debug, Args)]
#[command(after_help = help::WAIT)]
pub(crate) struct WaitArgs {
    /// A guid, the last 6 or more characters of one, or - for guids on standard input
    #[arg(value_name = "SELECTOR", required = true)]
    pub(crate) jobs: Vec<String>,

    /// Wait at most so long for all of them
    #[arg(short, long, value_name = "TIME", env = "SENDOFF_WAIT_TIMEOUT")]
    pub(crate) timeout: Option<Span>,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Cancel jobs: no start begins after a job is `cancelled`
#[derive(Debug, Args)]
#[command(after_help = help::CANCEL)]
pub(crate) struct CancelArgs {
    /// A guid, the last 6 or more characters of one, or - for guids on standard input
    #[arg(
        value_name = "SELECTOR",
        conflicts_with_all = ["queue", "label", "from", "to", "submitted_by", "all"],
        required_unless_present_any = ["queue", "label", "from", "to", "submitted_by", "all"]
    )]
    pub(crate) jobs: Vec<String>,

    #[command(flatten)]
    pub(crate) filter: Filter,

    /// Everything that has not started
    #[arg(long, conflicts_with_all = ["queue", "label", "from", "to", "submitted_by"])]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Change when a pending job is to start
#[derive(Debug, Args)]
#[command(after_help = help::RESCHEDULE)]
pub(crate) struct RescheduleArgs {
    /// A guid, or the last 6 or more characters of one
    #[arg(value_name = "SELECTOR")]
    pub(crate) job: String,

    /// Not before this long from now
    #[arg(
        long = "in",
        value_name = "TIME",
        env = "SENDOFF_RESCHEDULE_IN",
        conflicts_with = "at",
        required_unless_present = "at"
    )]
    pub(crate) delay: Option<Span>,

    /// Not before this instant
    #[arg(long, value_name = "INSTANT", env = "SENDOFF_RESCHEDULE_AT")]
    pub(crate) at: Option<Timestamp>,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Start pending jobs now
#[derive(Debug, Args)]
#[command(after_help = help::START_NOW)]
pub(crate) struct StartNowArgs {
    /// A guid, the last 6 or more characters of one, or - for guids on standard input
    #[arg(value_name = "SELECTOR", required = true)]
    pub(crate) jobs: Vec<String>,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Decide about a job of which nobody knows whether it started
#[derive(Debug, Args)]
#[command(after_help = help::RESOLVE)]
pub(crate) struct ResolveArgs {
    /// A guid, or the last 6 or more characters of one
    #[arg(value_name = "SELECTOR")]
    pub(crate) job: String,

    /// What it is
    #[arg(value_name = "WHAT")]
    pub(crate) to: Decision,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// What an operator decides.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Decision {
    /// It had started
    Started,
    /// It had not, and shall not
    Failed,
    /// Start it again
    Pending,
}

/// Show how many jobs are in which state
#[derive(Debug, Args)]
#[command(after_help = help::STATS)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Show the nodes that share the daemon's store
///
/// Who is alive, how far behind its heartbeat is, and what it had in flight then. A store that is
/// not shared has one node, the daemon itself.
#[derive(Debug, Args)]
#[command(after_help = help::NODES)]
pub(crate) struct NodesArgs {
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Follow what happens to jobs
///
/// On a terminal it is a live view of counts, rates and the last events; elsewhere one line for each
/// event.
#[derive(Debug, Args)]
#[command(after_help = help::WATCH)]
pub(crate) struct WatchArgs {
    /// Those of this queue
    #[arg(short = 'Q', long, value_name = "NAME")]
    pub(crate) queue: Option<String>,

    /// Those that reach this state
    #[arg(short, long, value_name = "STATE", value_parser = state)]
    pub(crate) state: Option<State>,

    /// Those of one job: its guid, or the last 6 or more characters of it
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) job: Option<String>,

    /// One line for each event on a terminal, too
    #[arg(long, env = "SENDOFF_WATCH_PLAIN", value_parser = BoolishValueParser::new())]
    pub(crate) plain: bool,

    #[command(flatten)]
    pub(crate) common: Common,
}

fn state(text: &str) -> Result<State, String> {
    State::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let names: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("there is no such state; it is one of {}", names.join(", "))
    })
}
