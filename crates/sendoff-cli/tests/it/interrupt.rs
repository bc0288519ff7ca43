//! Ctrl-C and SIGTERM.

use std::{io::Write, process::Stdio};

use rustix::process::Signal;

use crate::{
    endpoint::Endpoint,
    harness::{Place, http, simulated},
};

#[test]
fn a_signal_lets_starts_under_way_end_and_says_how_to_resume() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = Place::new();
        let mut endpoint = Endpoint::answering(0);
        place.write("the jobs", http(endpoint.address, 10, ""));
        let args = ["run", "the jobs", "--max-in-flight", "2"];
        let mut running = place.spawn(place.command(args));
        endpoint.wait_for(2);
        running.signal(signal);
        running.until_stderr("2 starts under way may end first");
        endpoint.open();
        running
            .end()
            .code(1)
            .stdout_has("not finished")
            .stderr_has("8 jobs not started yet; this goes on:")
            .stderr_has("run 'the jobs' --max-in-flight 2");
        endpoint.drain();
        assert_eq!(endpoint.counts.len(), 2, "something was started after the signal");

        place.run(args).code(0);
        endpoint.drain();
        assert_eq!(endpoint.counts.len(), 10);
        assert!(endpoint.counts.values().all(|&count| count == 1), "a clean stop doubles nothing");
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let mut endpoint = Endpoint::answering(0);
    place.write("jobs", http(endpoint.address, 3, ""));
    let mut running = place.spawn(place.command(["run", "jobs"]));
    endpoint.wait_for(3);
    running.signal(Signal::INT);
    running.until_stderr("Ctrl-C again ends at once");
    running.signal(Signal::INT);
    running.end().code(1).stderr_has("ended at once, with starts under way").stderr_has("run jobs");
    endpoint.open();
    place.run(["run", "jobs"]).code(0);
}

#[test]
fn starts_that_outlast_the_grace_count_as_ambiguous() {
    let place = Place::new();
    let mut endpoint = Endpoint::answering(0);
    place.write("jobs", http(endpoint.address, 1, r#","delivery":"at_most_once""#));
    let running = place.spawn(place.command(["run", "jobs", "--grace", "0s", "--json"]));
    endpoint.wait_for(1);
    running.signal(Signal::INT);
    assert_eq!(running.end().code(1).json()["counts"]["unknown"], 1);
}

#[test]
fn a_stream_without_a_name_cancels_what_has_not_started() {
    let place = Place::new();
    let mut command = place.command(["run", "-", "--json"]);
    command.stdin(Stdio::piped());
    let mut endpoint = Endpoint::answering(usize::MAX);
    let mut running = place.spawn(command);
    let mut stdin = running.stdin();
    stdin.write_all(simulated(2).replace("}\n", ",\"delay\":\"100d\"}\n").as_bytes()).unwrap();
    stdin.write_all(http(endpoint.address, 1, "").as_bytes()).unwrap();
    endpoint.wait_for(1);
    running.signal(Signal::INT);
    // The input stays open: nobody waits for it.
    let ended = running.end().code(1).stderr_has("2 jobs cancelled: a run of stdin without --run NAME");
    assert_eq!(ended.json()["counts"]["cancelled"], 2);
    drop(stdin);
}

#[test]
fn under_nohup_a_terminal_that_goes_away_stops_nothing() {
    let place = Place::new();
    let mut endpoint = Endpoint::answering(1);
    place.write("jobs", http(endpoint.address, 2, ""));
    let mut command = std::process::Command::new("nohup");
    let plain = place.command(["run", "jobs", "--max-in-flight", "1", "--json"]);
    command.arg(plain.get_program()).args(plain.get_args()).current_dir(place.path("."));
    command.env("XDG_STATE_HOME", place.path("state"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = place.spawn(command);
    endpoint.wait_for(2);
    running.signal(Signal::HUP);
    endpoint.open();
    assert_eq!(running.end().code(0).json()["counts"]["started"], 2);
}
