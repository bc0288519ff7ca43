//! `sendoff queue`.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Table, presets};
use http::Method;
use sendoff::{QueueLimits, State};
use serde::{Deserialize, Serialize};
use serde_json::{Map, value::RawValue};

use super::{
    cancel,
    http::{Call, Client, path, strange},
    output::Output,
};
use crate::{
    args::{QueueCommand, QueueSetArgs},
    failure::{Exit, Failure},
    out,
    run::{grouped, printable},
};

/// A queue, as the daemon tells of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Queue {
    name: String,
    #[serde(default)]
    pub(super) limits: QueueLimits,
    #[serde(default)]
    counts: BTreeMap<String, u64>,
}

impl Queue {
    pub(super) fn count(&self, state: State) -> u64 {
        self.counts.get(state.as_str()).copied().unwrap_or(0)
    }
}

#[derive(Deserialize)]
struct Queues {
    queues: Vec<Box<RawValue>>,
}

pub(super) async fn run(client: &Client, output: Output, command: &QueueCommand) -> Result<Exit, Failure> {
    let (method, name, after) = match command {
        QueueCommand::List { .. } => {
            let Queues { queues } = client.call(&Call::get("/v1/queues")).await?.json()?;
            return print(output, queues);
        }
        QueueCommand::Set(args) => return set(client, output, args).await,
        QueueCommand::Purge(one) => {
            let path = path("/v1/queues/", &one.name, ":purge");
            return cancel::many(client, output, &path, Map::new()).await;
        }
        QueueCommand::Show(one) => (Method::GET, &one.name, ""),
        QueueCommand::Pause(one) => (Method::POST, &one.name, ":pause"),
        QueueCommand::Resume(one) => (Method::POST, &one.name, ":resume"),
        QueueCommand::Forget(one) => (Method::DELETE, &one.name, ""),
    };
    let answer = client.call(&Call::new(method, path("/v1/queues/", name, after))).await?;
    print(output, vec![answer.json()?])
}

async fn set(client: &Client, output: Output, args: &QueueSetArgs) -> Result<Exit, Failure> {
    let path = path("/v1/queues/", &args.name, "");
    let answer = client.call(&Call::get(&path)).await?;
    let mut limits = match answer.problem() {
        Some(problem) if problem.exit() == Exit::NotFound => QueueLimits::default(),
        _ => answer.json::<Queue>()?.limits,
    };
    if let Some(limit) = args.max_in_flight {
        limits.max_in_flight = limit.0;
    }
    if let Some(limit) = args.rate {
        limits.rate = limit.0;
    }
    let answer = client.call(&Call::new(Method::PUT, path).json(&limits)).await?;
    print(output, vec![answer.json()?])
}

fn print(output: Output, queues: Vec<Box<RawValue>>) -> Result<Exit, Failure> {
    let read = |json: &RawValue| serde_json::from_str::<Queue>(json.get()).map_err(|err| strange(&err));
    match output {
        Output::Json => queues.iter().try_for_each(|json| out::line(json.get()))?,
        Output::Guids => queues.iter().try_for_each(|json| out::line(&read(json)?.name))?,
        Output::People => {
            let queues = queues.iter().map(|json| read(json)).collect::<Result<Vec<_>, _>>()?;
            out::bytes(table(&queues).as_bytes())?;
        }
    }
    Ok(Exit::Ok)
}

fn table(queues: &[Queue]) -> String {
    let shown: Vec<State> = State::ALL
        .into_iter()
        .filter(|state| {
            matches!(state, State::Pending | State::Starting | State::Started)
                || queues.iter().any(|queue| queue.count(*state) > 0)
        })
        .collect();
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut head = vec![Cell::new("QUEUE"), Cell::new("LIMITS")];
    head.extend(shown.iter().map(|state| right(state.as_str().to_uppercase())));
    table.set_header(head);
    for queue in queues {
        let mut row = vec![Cell::new(printable(&queue.name)), Cell::new(limits(&queue.limits))];
        row.extend(shown.iter().map(|state| right(grouped(queue.count(*state)))));
        table.add_row(row);
    }
    lines(&table)
}

/// A table's lines without blanks around them.
pub(super) fn lines(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(&line).trim_end())).collect()
}

fn limits(limits: &QueueLimits) -> String {
    let mut words = Vec::new();
    if limits.paused {
        words.push("paused".to_owned());
    }
    if let Some(most) = limits.max_in_flight {
        words.push(format!("{} in flight", grouped(most as u64)));
    }
    if let Some(rate) = limits.rate {
        let burst = if rate.burst > 1 { format!(":{}", rate.burst) } else { String::new() };
        words.push(format!("{}/{}{burst}", rate.starts, rate.per));
    }
    if words.is_empty() { "none".into() } else { words.join(", ") }
}
