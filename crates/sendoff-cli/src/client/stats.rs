//! `sendoff stats`.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{Cell, CellAlignment, Table, presets};
use sendoff::{State, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    http::{Call, Client, strange},
    output::{Output, about, instant},
    queue::lines,
};
use crate::{
    args::StatsArgs,
    failure::{Exit, Failure},
    out,
    run::{grouped, printable},
};

/// `GET /v1/stats`, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stats {
    counts: BTreeMap<String, u64>,
    queues: BTreeMap<String, BTreeMap<String, u64>>,
    in_flight: u64,
    next_due: Option<Timestamp>,
    oldest_overdue_seconds: f64,
    durability: String,
    version: String,
    uptime_seconds: f64,
}

pub(super) async fn run(client: &Client, output: Output, _: &StatsArgs) -> Result<Exit, Failure> {
    let (json, stats) = read(client).await?;
    match output {
        Output::Json => out::line(json.get())?,
        Output::People => out::bytes(stats.text().as_bytes())?,
        Output::Guids => {}
    }
    Ok(Exit::Ok)
}

pub(super) async fn read(client: &Client) -> Result<(Box<RawValue>, Stats), Failure> {
    let json: Box<RawValue> = client.call(&Call::get("/v1/stats")).await?.json()?;
    let stats = serde_json::from_str(json.get()).map_err(|err| strange(&err))?;
    Ok((json, stats))
}

impl Stats {
    /// A table of counts, and lines about the daemon.
    pub(super) fn text(&self) -> String {
        let mut text = self.table();
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<14} {value}\n"));
        line("in flight", grouped(self.in_flight));
        line("next due", self.next_due.map_or_else(|| "nothing".into(), instant));
        if self.oldest_overdue_seconds > 0.0 {
            line("overdue for", about(seconds(self.oldest_overdue_seconds)));
        }
        line("durability", printable(&self.durability));
        line(
            "daemon",
            format!("sendoff {}, up for {}", printable(&self.version), about(seconds(self.uptime_seconds))),
        );
        text
    }

    fn table(&self) -> String {
        let shown: Vec<&str> = State::ALL
            .iter()
            .map(|state| state.as_str())
            .filter(|state| {
                matches!(*state, "pending" | "starting" | "started")
                    || self.counts.get(*state).is_some_and(|&count| count > 0)
            })
            .collect();
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut head = vec![Cell::new("QUEUE")];
        head.extend(shown.iter().map(|state| right(state.to_uppercase())));
        table.set_header(head);
        let all = ("all".to_owned(), &self.counts);
        let rows = self.queues.iter().map(|(name, counts)| (printable(name), counts)).chain([all]);
        for (name, counts) in rows {
            let mut row = vec![Cell::new(name)];
            row.extend(shown.iter().map(|state| right(grouped(counts.get(*state).copied().unwrap_or(0)))));
            table.add_row(row);
        }
        lines(&table)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
