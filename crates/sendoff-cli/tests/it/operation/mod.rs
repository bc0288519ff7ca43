//! The daemon in its operator's hands: signals, retention, full and broken disks, crashes, upgrades,
//! and the commands that speak to it.

mod commands;
mod crash;
mod reload;
mod retention;
mod stopping;
mod terminal;
mod trouble;
pub(crate) mod upgrade;

use serde_json::Value;

use crate::harness::Daemon;

const LATER: &str = r#"{"start":{"simulated":{"delay":"1ms"}},"run_at":"2999-01-01T00:00:00Z"}"#;

/// Submits a job over the unix socket; its guid.
#[track_caller]
fn submit(daemon: &Daemon, job: &str) -> String {
    let record = daemon.ask("POST", "/v1/jobs", job).status(201).json();
    record["guid"].as_str().unwrap().to_owned()
}

/// The record once it is final, or as it is after a minute.
#[track_caller]
fn ended(daemon: &Daemon, guid: &str) -> Value {
    daemon.ask("GET", &format!("/v1/jobs/{guid}?wait=60s"), "").status(200).json()
}

/// How many jobs are in a state.
fn count(daemon: &Daemon, state: &str) -> u64 {
    daemon.ask("GET", "/v1/stats", "").status(200).json()["counts"][state].as_u64().unwrap_or(0)
}
