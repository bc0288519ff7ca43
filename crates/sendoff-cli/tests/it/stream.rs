//! Input that arrives bit by bit.

use std::{io::Write, process::Stdio};

use crate::{
    endpoint::Endpoint,
    harness::{Place, http, next_line, simulated},
};

#[test]
fn a_line_starts_before_the_input_ends_and_a_bad_one_ends_the_reading() {
    let place = Place::new();
    let mut endpoint = Endpoint::answering(usize::MAX);
    let mut command = place.command(["run", "-q", "-"]);
    command.stdin(Stdio::piped());
    let mut running = place.spawn(command);
    let (mut stdin, mut stdout) = (running.stdin(), running.stdout());
    let line = http(endpoint.address, 1, "");
    for _ in 0..3 {
        stdin.write_all(line.as_bytes()).unwrap();
        // Started, and its guid told, while the input is open.
        endpoint.wait_for(1);
        let guid = next_line(&mut stdout);
        assert_eq!(endpoint.counts.remove(&guid), Some(1), "{guid}");
    }
    stdin.write_all(b"\nbad\n").unwrap();
    stdin.write_all(line.as_bytes()).unwrap();
    drop(stdin);
    running.end().code(2).stderr_has("stdin:5: ").stderr_has("what was accepted before was started");
    endpoint.drain();
    assert!(endpoint.counts.is_empty(), "a line after the bad one was started");
}

#[test]
fn a_pipe_is_a_stream_too_and_leaves_nothing_behind() {
    let place = Place::new();
    let pipe = place.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let running = place.spawn(place.command(["run", "pipe", "--json"]));
    std::fs::write(&pipe, simulated(2_500)).unwrap();
    let summary = running.end().code(0).json();
    assert_eq!(summary["counts"]["started"], 2_500);
    assert!(place.stores().is_empty(), "{:?}", place.stores());
}

#[test]
fn a_stream_whose_jobs_did_not_all_start_keeps_its_records() {
    let place = Place::new();
    place.write("data", "no program");
    let job = r#"{"start":{"process":{"program":"./data"}}}"#;
    place.run_with(job, ["run", "-"]).code(1).stderr_has("the records of this run are kept in ");
    assert_eq!(place.stores().len(), 1);
}
