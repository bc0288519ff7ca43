//! `sendoff sink`: a loopback endpoint for trying things.

mod ledger;
mod server;

use std::process::ExitCode;

use rustix::process::{Resource, getrlimit, setrlimit};

use ledger::Ledger;
pub(crate) use ledger::Totals;
pub(crate) use server::Sink;

use crate::{
    args::SinkArgs,
    failure::{Exit, Failure},
    out,
    signals::Signals,
};

/// Serves until Ctrl-C or SIGTERM.
pub(crate) async fn run(args: SinkArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    allow_descriptors();
    let ledger = Ledger::new(args.ledger.as_deref())?;
    let sink = Sink::listen(args.listen, args.status, args.delay.duration(), ledger).await?;
    let address = sink.address();
    if args.output.json {
        out::json(&serde_json::json!({ "listening": format!("http://{address}/") }))?;
    } else if args.output.quiet {
        out::line(&format!("http://{address}/"))?;
    } else {
        out::line(&format!("listening on http://{address}/ (Ctrl-C ends it and prints the totals)"))?;
    }
    signals.next().await;
    let totals = sink.stop().await?;
    if args.output.json {
        out::json(&totals)?;
    } else if !args.output.quiet {
        out::line(&totals.to_string())?;
    }
    Ok(Exit::Ok.into())
}

/// Each connection takes a descriptor: as many as the system lets this process have. It starts no
/// other process that could be surprised by them.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer, connections wait for their turn.
    let _ = setrlimit(Resource::Nofile, limit);
}
