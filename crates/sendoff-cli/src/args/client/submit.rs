//! The grammar of `submit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, builder::BoolishValueParser};
use sendoff::{Guid, Timestamp, time::Span};

use super::{Common, help};

/// Submit one job to a daemon
///
/// The job is durable when the command has printed its guid; a lost answer is asked for again and
/// submits nothing twice.
#[derive(Debug, Subcommand)]
#[command(after_help = help::SUBMIT)]
pub(crate) enum SubmitCommand {
    Http(SubmitHttpArgs),
    Process(SubmitProcessArgs),
    Simulated(SubmitSimulatedArgs),
    Job(SubmitJobArgs),
}

impl SubmitCommand {
    pub(crate) fn options(&self) -> &JobOptions {
        match self {
            Self::Http(args) => &args.options,
            Self::Process(args) => &args.options,
            Self::Simulated(args) => &args.options,
            Self::Job(args) => &args.options,
        }
    }
}

/// Send a request; the job has started when the target answers 2xx
#[derive(Debug, Args)]
#[command(after_help = help::SUBMIT_HTTP)]
pub(crate) struct SubmitHttpArgs {
    /// Where to
    #[arg(id = "target", value_name = "URL")]
    pub(crate) url: String,

    /// The method
    #[arg(short = 'X', long, value_name = "METHOD", env = "SENDOFF_SUBMIT_METHOD", default_value = "POST")]
    pub(crate) method: String,

    /// A header; may be given again
    #[arg(short = 'H', long, value_name = "NAME: VALUE", env = "SENDOFF_SUBMIT_HEADER", hide_env_values = true, value_delimiter = '\n', value_parser = header)]
    pub(crate) header: Vec<(String, String)>,

    /// A header whose value the daemon looks up when the job starts, in its own environment
    /// (env:VARIABLE) or in a file (file:/PATH), and keeps nowhere; may be given again
    #[arg(long, value_name = "NAME=env:VARIABLE", env = "SENDOFF_SUBMIT_HEADER_SECRET", value_delimiter = '\n', value_parser = pair)]
    pub(crate) header_secret: Vec<(String, String)>,

    /// The body as text
    #[arg(
        short,
        long,
        value_name = "TEXT",
        env = "SENDOFF_SUBMIT_DATA",
        hide_env_values = true,
        group = "body"
    )]
    pub(crate) data: Option<String>,

    /// The body as JSON, sent with Content-Type: application/json
    #[arg(
        long,
        value_name = "JSON",
        env = "SENDOFF_SUBMIT_DATA_JSON",
        hide_env_values = true,
        group = "body"
    )]
    pub(crate) data_json: Option<String>,

    /// The body from a file (- for stdin), byte for byte
    #[arg(long, value_name = "FILE", env = "SENDOFF_SUBMIT_DATA_FILE", group = "body")]
    pub(crate) data_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) options: JobOptions,
}

/// Start a program; the job has started when its exec succeeded
///
/// CMD is looked up in PATH here and now, and starts in the daemon's working directory unless --cwd
/// says otherwise; never a shell.
#[derive(Debug, Args)]
#[command(after_help = help::SUBMIT_PROCESS)]
pub(crate) struct SubmitProcessArgs {
    /// The program and its arguments
    #[arg(value_name = "CMD", last = true, required = true)]
    pub(crate) command: Vec<String>,

    /// A variable of its environment; may be given again
    #[arg(long, value_name = "NAME=VALUE", env = "SENDOFF_SUBMIT_ENV", hide_env_values = true, value_delimiter = '\n', value_parser = pair)]
    pub(crate) env: Vec<(String, String)>,

    /// Its working directory
    #[arg(long, value_name = "DIR", env = "SENDOFF_SUBMIT_CWD")]
    pub(crate) cwd: Option<String>,

    /// A file to append its output to [default: /dev/null]
    #[arg(long, value_name = "FILE", env = "SENDOFF_SUBMIT_STDOUT")]
    pub(crate) stdout: Option<String>,

    /// A file to append its error output to; may be the same [default: /dev/null]
    #[arg(long, value_name = "FILE", env = "SENDOFF_SUBMIT_STDERR")]
    pub(crate) stderr: Option<String>,

    #[command(flatten)]
    pub(crate) options: JobOptions,
}

/// Start nothing, which takes this long; for trying things
#[derive(Debug, Args)]
#[command(after_help = help::SUBMIT_SIMULATED)]
pub(crate) struct SubmitSimulatedArgs {
    /// How long the start takes
    #[arg(value_name = "TIME")]
    pub(crate) takes: Span,

    #[command(flatten)]
    pub(crate) options: JobOptions,
}

/// Submit one job in its JSON form
#[derive(Debug, Args)]
#[command(after_help = help::SUBMIT_JOB)]
pub(crate) struct SubmitJobArgs {
    /// A file with one JSON object, or - for standard input
    pub(crate) file: PathBuf,

    #[command(flatten)]
    pub(crate) options: JobOptions,
}

/// When to start, and how careful to be.
// Not SENDOFF_QUEUE and SENDOFF_GUID: a process that a daemon started has those, of its own job.
#[derive(Debug, Args)]
pub(crate) struct JobOptions {
    /// Start not before this long from now
    #[arg(long = "in", value_name = "TIME", env = "SENDOFF_SUBMIT_IN", conflicts_with = "at")]
    pub(crate) delay: Option<Span>,

    /// Start not before this instant, like 2027-01-01T09:00:00Z or 2027-01-01T09:00[Europe/Paris]
    #[arg(long, value_name = "INSTANT", env = "SENDOFF_SUBMIT_AT")]
    pub(crate) at: Option<Timestamp>,

    /// The queue, whose limits apply [default: default]
    #[arg(short = 'Q', long, value_name = "NAME", env = "SENDOFF_SUBMIT_QUEUE")]
    pub(crate) queue: Option<String>,

    /// 0 to 9, higher first among the due jobs of a queue [default: 0]
    #[arg(long, value_name = "N", env = "SENDOFF_SUBMIT_PRIORITY", value_parser = clap::value_parser!(u8).range(..10))]
    pub(crate) priority: Option<u8>,

    /// Free text to find the job by; may be given again
    #[arg(short, long, value_name = "NAME=VALUE", env = "SENDOFF_SUBMIT_LABEL", value_delimiter = '\n', value_parser = pair)]
    pub(crate) label: Vec<(String, String)>,

    /// Try again at most so often if a start did not happen [default: 4 for http, 2 for a process]
    #[arg(long, value_name = "N", env = "SENDOFF_SUBMIT_RETRIES", value_parser = clap::value_parser!(u32).range(..1_000_000))]
    pub(crate) retries: Option<u32>,

    /// Never start it twice: after a crash or an ambiguous outcome it is `unknown`
    #[arg(long, env = "SENDOFF_SUBMIT_AT_MOST_ONCE", conflicts_with = "at_least_once", value_parser = BoolishValueParser::new())]
    pub(crate) at_most_once: bool,

    /// Start it again when it may not have started
    #[arg(long, env = "SENDOFF_SUBMIT_AT_LEAST_ONCE", value_parser = BoolishValueParser::new())]
    pub(crate) at_least_once: bool,

    /// Start it within this long after it is due, or not at all
    #[arg(long, value_name = "TIME", env = "SENDOFF_SUBMIT_EXPIRES_IN", conflicts_with = "expires_at")]
    pub(crate) expires_in: Option<Span>,

    /// Start it before this instant, or not at all
    #[arg(long, value_name = "INSTANT", env = "SENDOFF_SUBMIT_EXPIRES_AT")]
    pub(crate) expires_at: Option<Timestamp>,

    /// How long one attempt may take [default: 30s]
    #[arg(long, value_name = "TIME", env = "SENDOFF_SUBMIT_START_TIMEOUT")]
    pub(crate) start_timeout: Option<Span>,

    /// An idempotency key: the same submit again gets the first job
    #[arg(long, value_name = "KEY", env = "SENDOFF_SUBMIT_KEY")]
    pub(crate) key: Option<String>,

    /// The job's guid, a UUID of any version [default: a new one of version 7]
    #[arg(long, value_name = "GUID", env = "SENDOFF_SUBMIT_GUID")]
    pub(crate) guid: Option<Guid>,

    /// Wait until it has started or will not, at most so long if TIME is given (exit 0 if it
    /// started, 1 if not, 124 if the time ran out)
    #[arg(long, value_name = "TIME", env = "SENDOFF_SUBMIT_WAIT", num_args = 0..=1, require_equals = true, default_missing_value = "forever", value_parser = patience)]
    pub(crate) wait: Option<Patience>,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Forever,
    For(Span),
}

fn patience(text: &str) -> Result<Patience, String> {
    match text {
        "forever" => Ok(Patience::Forever),
        text => text.parse().map(Patience::For).map_err(|err: sendoff::time::SpanError| err.to_string()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as \"NAME: VALUE\"")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
