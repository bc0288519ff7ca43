//! `sendoff sink`, and the one that comes along with a run.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Ended, Place, Running, http, next_line};

/// A sink and where it listens.
fn sink(place: &Place, args: &[&str]) -> (Running, BufReader<std::process::ChildStdout>, SocketAddr) {
    let args = ["sink", "-q", "--listen", "127.0.0.1:0"].iter().chain(args);
    let mut running = place.spawn(place.command(args));
    let mut stdout = running.stdout();
    let url = next_line(&mut stdout);
    let address = url.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
    (running, stdout, address)
}

fn ask(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn it_counts_and_keeps_a_ledger_of_every_request() {
    let place = Place::new();
    let (running, _stdout, address) = sink(&place, &["--ledger", "ledger"]);
    place.write("jobs", http(address, 500, ""));
    place.run(["run", "jobs", "--records", "records"]).code(0);
    running.signal(Signal::INT);
    running.end().code(0);
    let guids = |file: &str| {
        let text = place.read(file);
        let mut guids: Vec<_> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .inspect(|entry| assert_eq!(entry["attempt"], 1, "{entry}"))
            .map(|entry| entry["guid"].as_str().unwrap().to_owned())
            .collect();
        guids.sort();
        guids
    };
    assert_eq!(guids("ledger").len(), 500);
    assert_eq!(guids("ledger"), guids("records"));
}

#[test]
fn totals_tell_repeats_and_requests_without_a_guid() {
    let place = Place::new();
    let mut running =
        place.spawn(place.command(["sink", "--json", "--listen", "127.0.0.1:0", "--status", "503"]));
    let mut stdout = running.stdout();
    let listening: Value = serde_json::from_str(&next_line(&mut stdout)).unwrap();
    let address =
        listening["listening"].as_str().unwrap().trim_start_matches("http://").trim_end_matches('/');
    let address = address.parse().unwrap();
    let guid = "X-Sendoff-Guid: 018f2b1e-0000-7000-8000-00000000000a\r\n";
    for head in [guid, guid, "Idempotency-Key: other\r\n", "", "Content-Length: 0\r\n"] {
        assert_eq!(ask(address, head), "HTTP/1.1 503 Service Unavailable");
    }
    running.signal(Signal::TERM);
    let totals: Value = serde_json::from_str(&next_line(&mut stdout)).unwrap();
    assert_eq!(totals, serde_json::json!({"requests": 5, "guids": 2, "repeats": 1, "without_guid": 2}));
    running.end().code(0);
}

#[test]
fn it_serves_this_machine_only_and_says_when_the_port_is_taken() {
    let place = Place::new();
    place.run(["sink", "--listen", "0.0.0.0:0"]).code(2).stderr_has("is not a loopback address");
    let (_running, _stdout, address) = sink(&place, &[]);
    let address = address.to_string();
    place.run(["sink", "--listen", &address]).code(2).stderr_has(&format!("cannot listen on {address}"));
    place.write("jobs", http("127.0.0.1:1".parse().unwrap(), 1, ""));
    let flag = format!("--sink={address}");
    place.run(["run", &flag, "jobs"]).code(2).stderr_has("cannot listen on");
    let missing: Ended = place.run(["sink", "--listen", "127.0.0.1:0", "--ledger", "missing/ledger"]);
    missing.code(2).stderr_has("the ledger cannot be written");
}

#[test]
fn the_sink_of_a_run_lasts_as_long_as_the_run() {
    let place = Place::new();
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    place.write("jobs", http(address, 100, ""));
    let flag = format!("--sink={address}");
    let summary = place.run(["run", &flag, "--json", "jobs"]).code(0).json();
    assert_eq!(summary["sink"]["requests"], 100);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn a_connection_serves_many_requests_with_bodies() {
    let place = Place::new();
    let (_running, _stdout, address) = sink(&place, &["--delay", "1ms"]);
    let stream = TcpStream::connect(address).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..3 {
        write!(&stream, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "HTTP/1.1 204 No Content\r\n");
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
    }
}
