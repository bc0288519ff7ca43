//! What a job was granted is held against what is allowed when it starts, and the other way round.

use rustix::process::Signal;
use serde_json::Value;

use super::{Attacked, guid, http, refused, trap::Trap};
use crate::harness::{Daemon, Place};

const FLAGS: &[&str] = &["--listen", "127.0.0.1:0", "--config", "conf"];
const NOTHING: &str = "[allow]\n";
const LOOPBACK: &str = "[allow]\nnetworks = ['127.0.0.0/8']\n";
const ANY: &str = "[allow]\nnetworks = ['0.0.0.0/0', '::/0']\n";

fn reload(place: &Place, daemon: &Daemon, config: &str) {
    place.write("conf", config);
    daemon.signal(Signal::HUP);
}

/// A job to the trap that is not due for an hour.
fn later(trap: &Trap) -> Value {
    let mut job = http(&format!("http://localhost:{}/", trap.address.port()));
    job["delay"] = "1h".into();
    job
}

fn start_now(daemon: &Daemon, guid: &str) -> Value {
    daemon.ask("POST", &format!("/v1/jobs/{guid}:start-now"), "").status(200);
    daemon.ask("GET", &format!("/v1/jobs/{guid}?wait=60s"), "").status(200).json()
}

#[test]
fn a_job_that_was_allowed_is_refused_once_that_is_taken_back() {
    let place = Place::new();
    place.write("conf", LOOPBACK);
    let trap = Trap::on("127.0.0.1", "HTTP/1.1 204 No Content\r\n\r\n");
    let attacked = Attacked::start(&place, FLAGS);
    let guids: Vec<_> = (0..3).map(|_| guid(&attacked.submit(&later(&trap)).status(201))).collect();
    assert_eq!(start_now(&attacked.daemon, &guids[0])["state"], "started");

    reload(&place, &attacked.daemon, NOTHING);
    attacked.daemon.until_log("the configuration was read again");
    refused(&start_now(&attacked.daemon, &guids[1]), "no allowed network holds it");

    attacked.daemon.kill();
    let daemon = Daemon::start(&place, FLAGS);
    refused(&start_now(&daemon, &guids[2]), "no allowed network holds it");
    assert_eq!(trap.seen().1.len(), 1);
}

#[test]
fn a_job_is_not_granted_more_than_when_it_was_submitted() {
    let place = Place::new();
    place.write("conf", NOTHING);
    let trap = Trap::on("127.0.0.1", "HTTP/1.1 204 No Content\r\n\r\n");
    let attacked = Attacked::start(&place, FLAGS);
    let guids: Vec<_> = (0..2).map(|_| guid(&attacked.submit(&later(&trap)).status(201))).collect();

    reload(&place, &attacked.daemon, ANY);
    attacked.daemon.until_log("the configuration was read again");
    refused(&start_now(&attacked.daemon, &guids[0]), "no allowed network holds it");
    // New jobs get what is allowed now.
    let new = guid(&attacked.submit(&later(&trap)).status(201));
    attacked.daemon.kill();

    let daemon = Daemon::start(&place, FLAGS);
    refused(&start_now(&daemon, &guids[1]), "no allowed network holds it");
    assert_eq!(start_now(&daemon, &new)["state"], "started");
    assert_eq!(trap.seen().1.len(), 1);
}
