//! The daemon.

use std::process::ExitCode;

use crate::{args::ServeArgs, failure::Failure};

/// Serves until it is told to stop.
pub(crate) async fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let _ = args.output;
    Ok(ExitCode::SUCCESS)
}
