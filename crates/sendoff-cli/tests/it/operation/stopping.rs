//! The end, in order or at once.

use std::io::{BufRead, BufReader, Read, Write};

use rustix::process::Signal;

use super::{ended, submit};
use crate::{
    endpoint::Endpoint,
    harness::{Answer, Daemon, Place, http},
};

#[test]
fn a_start_under_way_ends_first_and_nobody_else_is_waited_for() {
    let mut endpoint = Endpoint::answering(0);
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--grace", "1h"]);
    let guid = submit(&daemon, http(endpoint.address, 1, "").trim());
    endpoint.wait_for(1);
    let waiter = std::thread::spawn({
        let (door, path) = (daemon.unix(), format!("/v1/jobs/{guid}?wait=5m"));
        move || door.ask("GET", &path, &[], "")
    });
    let mut listener = daemon.unix().connect();
    listener.write_all(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut listener = BufReader::new(listener);
    let mut line = String::new();
    while line != ":\n" {
        line.clear();
        listener.read_line(&mut line).unwrap();
    }
    // A connection that was there before can ask still.
    let mut before = daemon.unix().connect();

    daemon.signal(Signal::TERM);
    daemon.until_log("stopping: starts under way may end first");
    let waited = waiter.join().unwrap();
    assert!([0, 200].contains(&waited.status), "{waited:?}");
    if waited.status == 200 {
        assert_eq!(waited.json()["state"], "starting");
    }
    let mut rest = String::new();
    listener.read_to_string(&mut rest).unwrap();
    let job = r#"{"start":{"simulated":{"delay":"1ms"}}}"#;
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{job}",
        job.len()
    );
    before.write_all(request.as_bytes()).unwrap();
    let refused = Answer::read(before).problem(503, "stopping");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    daemon.ask("POST", "/v1/jobs", job).problem(503, "stopping");
    daemon.ask("GET", "/readyz", "").status(503);
    daemon.ask("GET", &format!("/v1/jobs/{guid}"), "").status(200);

    endpoint.open();
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(0), "{log}");
    let daemon = Daemon::start(&place, &[]);
    let record = ended(&daemon, &guid);
    assert_eq!((&record["state"], &record["attempt"]), (&"started".into(), &1.into()), "{record}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut endpoint = Endpoint::answering(0);
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--grace", "1h"]);
    let once = submit(&daemon, http(endpoint.address, 1, r#","delivery":"at_most_once""#).trim());
    let again = submit(&daemon, http(endpoint.address, 1, "").trim());
    endpoint.wait_for(2);
    daemon.signal(Signal::TERM);
    daemon.until_log("a second signal ends at once");
    daemon.signal(Signal::TERM);
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(1), "{log}");
    assert!(log.contains("ended at once, with starts under way"), "{log}");

    endpoint.open();
    let daemon = Daemon::start(&place, &[]);
    let record = ended(&daemon, &once);
    assert_eq!(
        (&record["state"], &record["possible_duplicate"]),
        (&"unknown".into(), &true.into()),
        "{record}"
    );
    let record = ended(&daemon, &again);
    assert_eq!(
        (&record["state"], &record["possible_duplicate"]),
        (&"started".into(), &true.into()),
        "{record}"
    );
}

#[test]
fn grace_runs_out() {
    let mut endpoint = Endpoint::answering(0);
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--grace", "0s"]);
    let guid = submit(&daemon, http(endpoint.address, 1, "").trim());
    endpoint.wait_for(1);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    endpoint.open();
    let daemon = Daemon::start(&place, &[]);
    assert_eq!(ended(&daemon, &guid)["state"], "started");
}
