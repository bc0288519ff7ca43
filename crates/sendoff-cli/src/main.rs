//! The command `sendoff`.

mod access;
mod api;
mod args;
mod backup;
mod client;
mod failure;
mod generate;
mod out;
mod run;
mod serve;
mod signals;
mod sink;
mod socket;

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use args::{Cli, Command};
use clap::Parser;
use failure::Failure;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = match &cli.command {
        Command::Run(args) => args.output.json,
        Command::Sink(args) => args.output.json,
        Command::Backup(args) => args.output.json,
        Command::Serve(args) => args.output.json,
        Command::Client(command) => command.output().json,
        Command::Completions { .. } | Command::Man { .. } => false,
    };
    execute(cli).unwrap_or_else(|failure| {
        if json {
            let error = serde_json::json!({ "error": failure.message, "exit_code": failure.exit as u8 });
            out::note(&error.to_string());
        } else {
            out::note(&format!("sendoff: {failure}"));
        }
        failure.exit.into()
    })
}

fn execute(cli: Cli) -> Result<ExitCode, Failure> {
    let filter = EnvFilter::try_new(&cli.log)
        .map_err(|err| Failure::usage(format!("--log {:?} is no filter: {err}", cli.log)))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match cli.command {
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(dir.as_deref()),
        Command::Sink(args) => on_runtime(sink::run(args)),
        Command::Run(args) => on_runtime(run::run(args)),
        Command::Backup(args) => backup::run(&args),
        Command::Serve(args) => on_runtime(serve::run(args)),
        Command::Client(command) => on_runtime(client::run(command)),
    }
}

/// Runs a command on a runtime of its own, and leaves behind what is still running when it ends: a
/// command that has given its answer waits for nothing.
fn on_runtime(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|err| Failure::not_all(format!("cannot start threads: {err}")))?;
    let ended = runtime.block_on(command);
    runtime.shutdown_background();
    ended
}
