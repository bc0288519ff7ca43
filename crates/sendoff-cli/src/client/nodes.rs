//! `sendoff nodes`.

use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets};
use sendoff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    http::{Call, Client, strange},
    output::{Output, about, instant},
    queue::lines,
};
use crate::{
    args::NodesArgs,
    failure::{Exit, Failure},
    out,
    run::{grouped, printable},
};

/// A node, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Node {
    node: String,
    address: String,
    version: String,
    state: String,
    started_at: Timestamp,
    behind_us: i64,
    in_flight: u64,
    queues: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Nodes {
    nodes: Vec<Box<RawValue>>,
}

pub(super) async fn run(client: &Client, output: Output, _: &NodesArgs) -> Result<Exit, Failure> {
    let Nodes { nodes } = client.call(&Call::get("/v1/nodes")).await?.json()?;
    let read = |json: &RawValue| serde_json::from_str::<Node>(json.get()).map_err(|err| strange(&err));
    match output {
        Output::Json => nodes.iter().try_for_each(|json| out::line(json.get()))?,
        Output::Guids => nodes.iter().try_for_each(|json| out::line(&printable(&read(json)?.node)))?,
        Output::People => {
            let nodes = nodes.iter().map(|json| read(json)).collect::<Result<Vec<_>, _>>()?;
            out::bytes(table(&nodes).as_bytes())?;
        }
    }
    Ok(Exit::Ok)
}

fn table(nodes: &[Node]) -> String {
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        Cell::new("NODE"),
        Cell::new("ADDRESS"),
        Cell::new("STATE"),
        right("IN FLIGHT".into()),
        right("BEHIND".into()),
        Cell::new("SINCE"),
        Cell::new("VERSION"),
        Cell::new("QUEUES"),
    ]);
    for node in nodes {
        let queues = node.queues.as_ref().map_or_else(|| "all".to_owned(), |queues| queues.join(", "));
        table.add_row([
            Cell::new(printable(&node.node)),
            Cell::new(printable(&node.address)),
            Cell::new(printable(&node.state)),
            right(grouped(node.in_flight)),
            right(about(Duration::from_micros(node.behind_us.max(0).unsigned_abs()))),
            Cell::new(instant(node.started_at)),
            Cell::new(printable(&node.version)),
            Cell::new(printable(&queues)),
        ]);
    }
    lines(&table)
}
