//! The grammar of `queue`.

use clap::{Args, Subcommand};
use sendoff::Rate;

use super::{Common, help};

/// Look at queues, and hold them to limits
#[derive(Debug, Subcommand)]
#[command(after_help = help::QUEUE)]
pub(crate) enum QueueCommand {
    /// List the queues that have limits or jobs
    #[command(after_help = help::QUEUE_LIST)]
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Show one queue
    #[command(after_help = help::QUEUE_SHOW)]
    Show(OneQueue),
    Set(QueueSetArgs),
    /// Start nothing of a queue until it is resumed
    #[command(after_help = help::QUEUE_PAUSE)]
    Pause(OneQueue),
    /// Go on starting
    #[command(after_help = help::QUEUE_RESUME)]
    Resume(OneQueue),
    /// Cancel everything of a queue that has not started
    #[command(after_help = help::QUEUE_PURGE)]
    Purge(OneQueue),
    /// Forget a queue's limits, a pause too
    #[command(after_help = help::QUEUE_FORGET)]
    Forget(OneQueue),
}

impl QueueCommand {
    pub(super) fn common(&self) -> &Common {
        match self {
            Self::List { common } => common,
            Self::Set(args) => &args.common,
            Self::Show(one) | Self::Pause(one) | Self::Resume(one) | Self::Purge(one) | Self::Forget(one) => {
                &one.common
            }
        }
    }
}

/// A queue by its name.
#[derive(Debug, Args)]
pub(crate) struct OneQueue {
    /// The queue
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// Set limits of a queue; those not named stay as they are
#[derive(Debug, Args)]
#[command(after_help = help::QUEUE_SET)]
pub(crate) struct QueueSetArgs {
    /// The queue
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Starts in flight at once, or none for no limit
    #[arg(long, value_name = "N|none", env = "SENDOFF_QUEUE_MAX_IN_FLIGHT", value_parser = max_in_flight, required_unless_present = "rate")]
    pub(crate) max_in_flight: Option<Limit<usize>>,

    /// Starts in a time, like 100/1s or 5/1m, with bursts of up to B as in 100/1s:B, or none for no
    /// limit
    #[arg(long, value_name = "N/TIME|none", env = "SENDOFF_QUEUE_RATE", value_parser = rate)]
    pub(crate) rate: Option<Limit<Rate>>,

    #[command(flatten)]
    pub(crate) common: Common,
}

/// A limit, or that there is to be none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit<T>(pub(crate) Option<T>);

fn max_in_flight(text: &str) -> Result<Limit<usize>, String> {
    if text == "none" { Ok(Limit(None)) } else { super::super::at_least_1(text).map(|n| Limit(Some(n))) }
}

fn rate(text: &str) -> Result<Limit<Rate>, String> {
    if text == "none" {
        return Ok(Limit(None));
    }
    let (starts, per) = text.split_once('/').ok_or("write it like 100/1s, or none")?;
    let (per, burst) = per.split_once(':').map_or((per, "1"), |(per, burst)| (per, burst));
    let number = |text: &str| match text.parse::<u32>() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{text:?} is not a whole number of at least 1")),
    };
    let per = per.parse().map_err(|err: sendoff::time::SpanError| err.to_string())?;
    Ok(Limit(Some(Rate { starts: number(starts)?, per, burst: number(burst)? })))
}
