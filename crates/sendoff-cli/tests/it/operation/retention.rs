//! Records go in time, and only those that ended.

use super::{LATER, count, submit};
use crate::harness::{Daemon, Place, simulated};

/// A store with this many started jobs, a pending one of the far future, and one that is due and paused.
fn filled(place: &Place, started: u64) -> [String; 2] {
    let daemon = Daemon::start(place, &[]);
    daemon.ask("POST", "/v1/queues/held:pause", "").status(200);
    let paused = submit(&daemon, r#"{"start":{"simulated":{"delay":"1ms"}},"queue":"held"}"#);
    let pending = [submit(&daemon, LATER), paused];
    let jobs = simulated(usize::try_from(started).unwrap());
    let ndjson = ["Content-Type: application/x-ndjson"];
    daemon.unix().ask("POST", "/v1/jobs:batch", &ndjson, &jobs).status(200);
    while count(&daemon, "started") < started {}
    assert_eq!(daemon.stop().0, Some(0));
    pending
}

#[test]
fn what_ended_long_enough_ago_goes_from_the_first_second_on() {
    let place = Place::new();
    let pending = filled(&place, 2_500);
    let daemon = Daemon::start(&place, &["--retention-final", "0s"]);
    while count(&daemon, "started") > 0 {}
    for guid in pending {
        let record = daemon.ask("GET", &format!("/v1/jobs/{guid}"), "").status(200).json();
        assert_eq!(record["state"], "pending");
    }
}

#[test]
fn of_too_many_the_oldest_go() {
    let place = Place::new();
    let pending = filled(&place, 50);
    let daemon = Daemon::start(&place, &["--retention-max-final-rows", "7"]);
    while count(&daemon, "started") > 7 {}
    assert_eq!(count(&daemon, "started"), 7);
    assert_eq!(count(&daemon, "pending"), pending.len() as u64);
    let listed = daemon.ask("GET", "/v1/jobs?state=started&order=oldest", "").status(200).json();
    let kept: Vec<_> = listed["jobs"].as_array().unwrap().iter().map(|job| job["guid"].clone()).collect();
    assert_eq!(kept.len(), 7);
    let newest = daemon.ask("GET", "/v1/jobs?state=started&order=newest&limit=1", "").status(200).json();
    assert_eq!(kept.last(), Some(&newest["jobs"][0]["guid"]));
}

#[test]
fn by_default_nothing_goes_for_a_week() {
    let place = Place::new();
    filled(&place, 5);
    let daemon = Daemon::start(&place, &[]);
    // By now the first look has been, or is before this in the engine's order.
    let guid = submit(&daemon, r#"{"start":{"simulated":{"delay":"1ms"}}}"#);
    super::ended(&daemon, &guid);
    assert_eq!(count(&daemon, "started"), 6);
}
