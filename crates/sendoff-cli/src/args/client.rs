//! The grammar of the commands that speak to a daemon.

use clap::{Args, Subcommand};

use super::Output;

/// What is asked of a daemon.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    Stats(StatsArgs),
}

/// Show how many jobs are in which state
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    pub(crate) output: Output,
}
