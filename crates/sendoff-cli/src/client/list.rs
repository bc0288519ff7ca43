//! `sendoff list`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    http::{Call, Client, query},
    output::{Output, Record, head, row},
};
use crate::{
    args::{Filter, ListArgs},
    failure::{Exit, Failure},
    out,
    run::grouped,
};

/// The longest page that the daemon gives.
const PAGE: u64 = 1_000;

/// A page of `GET /v1/jobs`.
#[derive(Deserialize)]
struct Page {
    jobs: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

pub(super) async fn run(client: &Client, output: Output, args: &ListArgs) -> Result<Exit, Failure> {
    let mut left = if args.all { u64::MAX } else { args.limit };
    let mut cursor = None;
    let mut shown = 0;
    loop {
        let mut parameters = filter(&args.filter);
        let order = if args.oldest { "oldest" } else { "newest" };
        parameters.extend([
            ("state", args.state.map(|state| state.to_string())),
            ("order", Some(order.to_owned())),
            ("limit", Some(left.min(PAGE).to_string())),
            ("cursor", cursor),
        ]);
        let page: Page = client.call(&Call::get(query("/v1/jobs", &parameters))).await?.json()?;
        if shown == 0 && output == Output::People && !page.jobs.is_empty() {
            out::line(&head())?;
        }
        for json in page.jobs {
            output.job(&Record::read(json)?, row)?;
            shown += 1;
            left -= 1;
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
        if left == 0 {
            output.note(&format!("these are {}; there may be more: --limit N or --all", grouped(shown)));
            break;
        }
    }
    if shown == 0 {
        output.note("no such job");
    }
    Ok(Exit::Ok)
}

/// A filter as query parameters.
pub(super) fn filter(filter: &Filter) -> Vec<(&'static str, Option<String>)> {
    vec![
        ("queue", filter.queue.clone()),
        ("label", filter.label.as_ref().map(|(name, value)| format!("{name}={value}"))),
        ("from", filter.from.map(|at| at.to_string())),
        ("to", filter.to.map(|at| at.to_string())),
        ("submitted_by", filter.submitted_by.clone()),
    ]
}
