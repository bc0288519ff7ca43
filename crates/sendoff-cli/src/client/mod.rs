//! The commands that speak to a daemon.

use std::process::ExitCode;

use crate::{args::ClientCommand, failure::Failure};

/// Runs one.
pub(crate) async fn run(command: ClientCommand) -> Result<ExitCode, Failure> {
    let ClientCommand::Stats(args) = command;
    let _ = args.output;
    Ok(ExitCode::SUCCESS)
}
