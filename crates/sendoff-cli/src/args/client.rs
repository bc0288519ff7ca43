//! The grammar of the commands that speak to a daemon.

mod batch;
mod connect;
mod help;
mod jobs;
mod queue;
mod submit;

use clap::Subcommand;

pub(crate) use self::{batch::*, connect::*, jobs::*, queue::*, submit::*};
use super::Output;

/// What is asked of a daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    #[command(subcommand)]
    Submit(Box<SubmitCommand>),
    Batch(BatchArgs),
    List(ListArgs),
    Show(ShowArgs),
    Wait(WaitArgs),
    Cancel(CancelArgs),
    Reschedule(RescheduleArgs),
    StartNow(StartNowArgs),
    Resolve(ResolveArgs),
    Stats(StatsArgs),
    Nodes(NodesArgs),
    Watch(WatchArgs),
    #[command(subcommand)]
    Queue(QueueCommand),
}

impl ClientCommand {
    /// Where the daemon is.
    pub(crate) fn connect(&self) -> &Connect {
        &self.common().connect
    }

    /// How to speak.
    pub(crate) fn output(&self) -> Output {
        self.common().output
    }

    fn common(&self) -> &Common {
        match self {
            Self::Submit(command) => &command.options().common,
            Self::Batch(args) => &args.common,
            Self::List(args) => &args.common,
            Self::Show(args) => &args.common,
            Self::Wait(args) => &args.common,
            Self::Cancel(args) => &args.common,
            Self::Reschedule(args) => &args.common,
            Self::StartNow(args) => &args.common,
            Self::Resolve(args) => &args.common,
            Self::Stats(args) => &args.common,
            Self::Nodes(args) => &args.common,
            Self::Watch(args) => &args.common,
            Self::Queue(command) => command.common(),
        }
    }
}
