//! What a kill -9 leaves.

use super::{LATER, count, ended, submit};
use crate::harness::{Daemon, Place};

#[test]
fn a_paused_queue_stays_paused() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    daemon.ask("POST", "/v1/queues/mail:pause", "").status(200);
    daemon.ask("PUT", "/v1/queues/slow", r#"{"max_in_flight":1,"rate":{"starts":5,"per":"1m"}}"#).status(200);
    let limits = daemon.ask("GET", "/v1/queues/slow", "").status(200).json()["limits"].clone();
    daemon.kill();
    let daemon = Daemon::start(&place, &[]);
    assert_eq!(daemon.ask("GET", "/v1/queues/mail", "").status(200).json()["limits"]["paused"], true);
    assert_eq!(daemon.ask("GET", "/v1/queues/slow", "").status(200).json()["limits"], limits);
    let held = submit(&daemon, r#"{"start":{"simulated":{"delay":"1ms"}},"queue":"mail"}"#);
    let other = submit(&daemon, r#"{"start":{"simulated":{"delay":"1ms"}}}"#);
    assert_eq!(ended(&daemon, &other)["state"], "started");
    let record = daemon.ask("GET", &format!("/v1/jobs/{held}"), "").status(200).json();
    assert_eq!(record["state"], "pending");
    daemon.ask("POST", "/v1/queues/mail:resume", "").status(200);
    assert_eq!(ended(&daemon, &held)["state"], "started");
}

#[test]
fn a_submit_is_known_by_its_key_and_guid() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let key = ["Content-Type: application/json", "Idempotency-Key: order-17"];
    let by_key = |daemon: &Daemon, job: &str| daemon.unix().ask("POST", "/v1/jobs", &key, job);
    let guid = "6f1c2d3e-0000-4000-8000-000000000001";
    let named = format!("{{\"guid\":\"{guid}\",{}", &LATER[1..]);
    let first = by_key(&daemon, LATER).status(201).json();
    submit(&daemon, &named);
    daemon.kill();
    let daemon = Daemon::start(&place, &[]);
    let again = by_key(&daemon, LATER).status(200).json();
    assert_eq!((&again["guid"], &again["created"]), (&first["guid"], &false.into()));
    assert_eq!(daemon.ask("POST", "/v1/jobs", &named).status(200).json()["created"], false);
    let other = r#"{"start":{"simulated":{"delay":"2ms"}}}"#;
    by_key(&daemon, other).problem(409, "conflict");
    assert_eq!(count(&daemon, "pending"), 2);
}
