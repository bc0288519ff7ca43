//! The grammar of `batch`.

use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};

use super::{Common, help};

/// Submit a file of jobs to a daemon, one JSON object a line
///
/// Jobs are accepted as the file is read, whatever its length; each bad line is reported and
/// hinders no other. A lost answer is asked for again and submits nothing twice.
#[derive(Debug, Args)]
#[command(after_help = help::BATCH)]
pub(crate) struct BatchArgs {
    /// The file of jobs, or - for standard input
    pub(crate) file: PathBuf,

    /// Submit all or none, at most 10,000 jobs and 16 MiB
    #[arg(long, env = "SENDOFF_BATCH_ATOMIC", value_parser = BoolishValueParser::new())]
    pub(crate) atomic: bool,

    #[command(flatten)]
    pub(crate) common: Common,
}
