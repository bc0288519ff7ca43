//! The commands that speak to a daemon.

mod batch;
mod cancel;
mod connect;
mod each;
mod events;
mod http;
mod jobs;
mod list;
mod nodes;
mod output;
mod problem;
mod queue;
mod select;
mod show;
mod stats;
mod submit;
mod wait;
mod watch;

#[cfg(test)]
pub(crate) use events::fuzz as events_fuzz;

use std::process::ExitCode;

use self::{http::Client, output::Output};
use crate::{args::ClientCommand, failure::Failure};

/// Runs one.
pub(crate) async fn run(command: ClientCommand) -> Result<ExitCode, Failure> {
    let client = Client::of(command.connect())?;
    let output = Output::of(command.output());
    let exit = match &command {
        ClientCommand::Submit(command) => submit::run(&client, output, command).await,
        ClientCommand::Batch(args) => batch::run(client, output, args).await,
        ClientCommand::List(args) => list::run(&client, output, args).await,
        ClientCommand::Show(args) => show::run(&client, output, args).await,
        ClientCommand::Wait(args) => wait::run(&client, output, args).await,
        ClientCommand::Cancel(args) => cancel::run(&client, output, args).await,
        ClientCommand::Reschedule(args) => jobs::reschedule(&client, output, args).await,
        ClientCommand::StartNow(args) => jobs::start_now(&client, output, args).await,
        ClientCommand::Resolve(args) => jobs::resolve(&client, output, args).await,
        ClientCommand::Stats(args) => stats::run(&client, output, args).await,
        ClientCommand::Nodes(args) => nodes::run(&client, output, args).await,
        ClientCommand::Watch(args) => watch::run(&client, output, args).await,
        ClientCommand::Queue(command) => queue::run(&client, output, command).await,
    };
    exit.map(Into::into)
}
