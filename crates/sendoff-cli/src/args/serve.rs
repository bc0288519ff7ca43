//! The grammar of the daemon and what belongs to it: `serve`, `config`, `token`.

use clap::Args;

use super::Output;

/// Run the daemon: the engine and its HTTP API
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) output: Output,
}
