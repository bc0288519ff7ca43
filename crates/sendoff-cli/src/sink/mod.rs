//! `sendoff sink`: a loopback endpoint for trying things.

mod ledger;
mod server;

use std::process::ExitCode;

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
