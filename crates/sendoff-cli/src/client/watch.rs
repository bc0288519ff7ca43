//! `sendoff watch`: events as lines, or a live view on a terminal.

mod live;

use std::io::IsTerminal;

use super::{
    events::{Change, Event, Events},
    http::{Client, query},
    output::Output,
    select,
};
use crate::{
    args::WatchArgs,
    failure::{Exit, Failure},
    out,
    run::{counted, printable},
};

pub(super) async fn run(client: &Client, output: Output, args: &WatchArgs) -> Result<Exit, Failure> {
    let guid = match &args.job {
        Some(selector) => Some(select::resolve(client, selector).await?.to_string()),
        None => None,
    };
    let state = args.state.map(|state| state.to_string());
    let path = query("/v1/events", &[("queue", args.queue.clone()), ("state", state), ("guid", guid)]);
    let events = Events::of(client, path);
    if output == Output::People && !args.plain && std::io::stdout().is_terminal() {
        return live::run(client, events).await;
    }
    lines(output, events).await
}

async fn lines(output: Output, mut events: Events<'_>) -> Result<Exit, Failure> {
    loop {
        let read = match (events.next().await?, output) {
            (Event::Job(_, json), Output::Json) => out::is_read(format!("{json}\n").as_bytes())?,
            (Event::Job(change, _), Output::Guids) => out::is_read(format!("{}\n", change.guid).as_bytes())?,
            (Event::Job(change, _), Output::People) => {
                out::is_read(format!("{}\n", line(&change)).as_bytes())?
            }
            (Event::Lagged(missed), _) => {
                output.note(&lagged(missed));
                true
            }
        };
        // Nobody looks any more.
        if !read {
            return Ok(Exit::Ok);
        }
    }
}

fn line(change: &Change) -> String {
    let Change { guid, queue, state, attempt, at } = change;
    let attempt = if *attempt > 1 { format!("  attempt {attempt}") } else { String::new() };
    format!("{at}  {guid}  {:<9}  {}{attempt}", state.as_str(), printable(queue))
}

fn lagged(missed: Option<u64>) -> String {
    match missed {
        Some(missed) => format!("{} missed: more happened than could be told", counted(missed, "event")),
        None => "events were missed".into(),
    }
}
