//! Records, a page at a time.

use std::sync::Arc;

use http::StatusCode;
use schemars::JsonSchema;
use sendoff::{
    JobId, JobRecord, State, Timestamp,
    ports::{Filter, PageRequest},
};
use serde::Serialize;

use super::{Answered, Api, Call, cursor, json, problem::Problem, read::Query};

pub(crate) const DEFAULT_LIMIT: usize = 100;
pub(crate) const MAX_LIMIT: usize = 1_000;

/// A page of records.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Jobs {
    jobs: Vec<JobRecord>,
    /// Where the next page begins; null after the last. A page may be short, or empty, and still have one.
    next_cursor: Option<String>,
}

pub(crate) async fn list(api: Arc<Api>, call: Call) -> Answered {
    let query = &call.query;
    let filter = filter(query)?;
    let newest_first = query.read("order", order)?.unwrap_or(false);
    let limit = query.read("limit", page_limit)?.unwrap_or(DEFAULT_LIMIT);
    let request = format!("list {newest_first} {filter:?}");
    let after = match query.get("cursor") {
        Some(text) => Some(JobId(cursor::read::<1>(text, &request)?[0])),
        None => None,
    };
    let page = PageRequest { after, newest_first, limit, ..PageRequest::default() };
    let page = api.scheduler.list(filter, page).await?;
    let next_cursor = page.next.map(|JobId(last)| cursor::write(&[last], &request));
    json(StatusCode::OK, &Jobs { jobs: page.records, next_cursor })
}

fn filter(query: &Query) -> Result<Filter, Problem> {
    let text = |name: &str| query.get(name).map(str::to_owned);
    Ok(Filter {
        state: query.read("state", state)?,
        unfinished: false,
        queue: text("queue"),
        label: query.read("label", label)?,
        submitted_by: text("submitted_by"),
        delivery: None,
        guid_suffix: query.read("guid_suffix", guid_suffix)?,
        from: query.read("from", |text| text.parse::<Timestamp>())?,
        to: query.read("to", |text| text.parse::<Timestamp>())?,
    })
}

pub(crate) fn state(text: &str) -> Result<State, String> {
    State::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        format!("{text:?} is no state; there are: {}", State::ALL.map(State::as_str).join(", "))
    })
}

/// A label as `NAME=VALUE`.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

fn guid_suffix(text: &str) -> Result<String, &'static str> {
    let digits = text.replace('-', "").to_ascii_lowercase();
    if (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(digits)
    } else {
        Err("it is 1 to 32 hexadecimal digits, the last ones of a guid")
    }
}

fn order(text: &str) -> Result<bool, &'static str> {
    match text {
        "oldest" => Ok(false),
        "newest" => Ok(true),
        _ => Err("it is oldest or newest"),
    }
}

fn page_limit(text: &str) -> Result<usize, String> {
    let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
    limit.ok_or_else(|| format!("it is a whole number from 1 to {MAX_LIMIT}"))
}
