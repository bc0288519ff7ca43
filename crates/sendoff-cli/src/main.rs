//! The command `sendoff`.

mod access;
mod api;
mod args;
mod backup;
mod bench;
mod client;
mod config;
mod failure;
#[cfg(test)]
mod fuzz;
mod generate;
mod log;
mod migrate;
mod out;
mod run;
mod serve;
mod signals;
mod sink;

use std::process::ExitCode;

use args::{Cli, Command, ConfigCommand};
use clap::Parser;
use failure::Failure;

/// A start makes and frees some twenty small objects, on one thread and another; SQLite, in C, more.
/// With this allocator starts in memory are half as many again (docs/performance.md, "What changed it").
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = match &cli.command {
        Command::Run(args) => args.output.json,
        Command::Sink(args) => args.output.json,
        Command::Backup(args) => args.output.json,
        Command::Migrate(args) => args.output.json,
        Command::Bench(args) => args.output.json,
        Command::Serve(args) => args.output.json,
        Command::Config(args) => match &args.command {
            ConfigCommand::Check(args) => args.output.json,
            ConfigCommand::Show(args) => args.output.json,
        },
        Command::Token(args) => args.output().json,
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
    // The daemon's log is a matter of its configuration.
    if !matches!(cli.command, Command::Serve(_)) {
        log::plain(cli.log.as_deref().unwrap_or("warn"))?;
    }
    match cli.command {
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(dir.as_deref()),
        Command::Sink(args) => on_runtime(sink::run(args)),
        Command::Run(args) => on_runtime(run::run(args)),
        Command::Backup(args) => backup::run(&args),
        Command::Migrate(args) => on_runtime(migrate::run(args)),
        Command::Bench(args) => match &args.part {
            Some(order) => bench::run_part(order),
            None => on_runtime(bench::run(args)),
        },
        Command::Serve(args) => serve::check_resources().and_then(|()| on_runtime(serve::run(args))),
        Command::Config(args) => match &args.command {
            ConfigCommand::Check(args) => config::check(args),
            ConfigCommand::Show(args) => config::show(args),
        },
        Command::Token(args) => access::command(&args.command),
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
