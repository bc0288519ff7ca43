//! Peers that are slow to send or do not read, and those that only are there.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use rustix::{
    net::sockopt::set_socket_recv_buffer_size,
    process::{Resource, getrlimit, setrlimit},
};

use super::{Attacked, TCP};
use crate::{
    harness::{Answer, Place, simulated},
    proof::figure,
};

#[test]
fn a_body_that_stands_still_is_given_up() {
    let place = Place::new();
    let attacked = Attacked::start(&place, &[TCP, &["--body-timeout", "200ms"]].concat());
    let bearer = &attacked.bearer;
    for framing in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        for path in ["/v1/jobs", "/v1/jobs:batch"] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{framing}\r\n\r\n");
            let mut stream = TcpStream::connect(attacked.daemon.address()).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            Answer::read(&mut stream).problem(408, "body_timeout");
        }
    }
    // The answer of an itemised batch has begun already: its last line says it.
    let framing = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked";
    let head = format!(
        "POST /v1/jobs:batch?atomic=false HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{framing}\r\n\r\n"
    );
    let mut stream = TcpStream::connect(attacked.daemon.address()).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let answer = Answer::read(&mut stream).status(200);
    assert!(answer.body.contains("/problems/body_timeout"), "{answer:?}");
}

/// It is not read from either, so that what it would have to be told does not pile up.
#[test]
fn a_batch_whose_answers_nobody_reads_waits() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let before = attacked.daemon.peak_memory();
    let mut stream = TcpStream::connect(attacked.daemon.address()).unwrap();
    let framing = "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked";
    let bearer = &attacked.bearer;
    let head = format!(
        "POST /v1/jobs:batch?atomic=false HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{framing}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Each line of two bytes costs an answer of a few hundred.
    let lines = "1\n".repeat(1 << 19);
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut stuck = false;
    for _ in 0..64 {
        if let Err(err) = stream.write_all(chunk.as_bytes()) {
            assert!(matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{err}");
            stuck = true;
            break;
        }
    }
    assert!(stuck, "64 MB were read for a peer that reads nothing");
    attacked.ask("GET", "/v1/stats", "").status(200);
    attacked.daemon.ask("GET", "/v1/stats", "").status(200);
    let grown = attacked.daemon.peak_memory() - before;
    println!("a batch whose answers nobody reads: {grown} KiB more than before");
    assert!(grown < 64 * 1024, "{grown} KiB");
}

#[test]
fn listeners_that_do_not_listen_hold_nobody_up() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let before = attacked.daemon.peak_memory();
    let open = format!("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", attacked.bearer);
    let deaf: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = TcpStream::connect(attacked.daemon.address()).unwrap();
            stream.write_all(open.as_bytes()).unwrap();
            stream
        })
        .collect();
    // A unix socket holds less than TCP would: this one falls behind for sure.
    let mut late = attacked.daemon.unix().connect();
    late.write_all(open.as_bytes()).unwrap();
    let mut late = BufReader::new(late);
    let mut line = String::new();
    while line != ":\n" {
        line.clear();
        late.read_line(&mut line).unwrap();
    }
    for _ in 0..2 {
        let batch = simulated(5_000);
        let ndjson = ["Content-Type: application/x-ndjson"];
        attacked.daemon.unix().ask("POST", "/v1/jobs:batch", &ndjson, &batch).status(200);
        attacked.ask("GET", "/v1/stats", "").status(200);
    }
    let mut started = 0;
    while started < 10_000 {
        started =
            attacked.ask("GET", "/v1/stats", "").status(200).json()["counts"]["started"].as_u64().unwrap();
    }
    let grown = attacked.daemon.peak_memory() - before;
    println!("51 listeners that do not listen to 10,000 jobs: {grown} KiB more than before");
    assert!(grown < 128 * 1024, "{grown} KiB");
    while !line.contains("event: lagged") {
        line.clear();
        assert_ne!(late.read_line(&mut line).unwrap(), 0);
    }
    drop(deaf);
    assert_eq!(attacked.daemon.stop().0, Some(0));
}

/// It would be busy for ever: the kernel gives it up for the daemon.
#[test]
fn a_listener_that_takes_nothing_loses_its_seat() {
    let place = Place::new();
    let attacked =
        Attacked::start(&place, &[TCP, &["--connections", "1", "--body-timeout", "500ms"]].concat());
    let mut deaf = TcpStream::connect(attacked.daemon.address()).unwrap();
    set_socket_recv_buffer_size(&deaf, 4096).unwrap();
    let open = format!("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", attacked.bearer);
    deaf.write_all(open.as_bytes()).unwrap();
    assert!(deaf.read(&mut [0; 12]).unwrap() > 0, "it has the only seat");
    std::thread::scope(|scope| {
        let next = scope.spawn(|| attacked.ask("GET", "/v1/stats", ""));
        while !next.is_finished() {
            let ndjson = ["Content-Type: application/x-ndjson"];
            attacked.daemon.unix().ask("POST", "/v1/jobs:batch", &ndjson, &simulated(5_000)).status(200);
        }
        next.join().unwrap().status(200);
    });
}

/// With nothing but a token that may read: those who wait for a job are answered sooner.
#[test]
fn waits_lock_nobody_out() {
    let place = Place::new();
    let attacked = Attacked::start(&place, &[TCP, &["--connections", "5"]].concat());
    let job = r#"{"start":{"simulated":{"delay":"1ms"}},"delay":"1h"}"#;
    let guid = super::guid(&attacked.ask("POST", "/v1/jobs", job).status(201));
    let wait =
        format!("GET /v1/jobs/{guid}?wait=5m HTTP/1.1\r\nHost: localhost\r\n{}\r\n\r\n", attacked.bearer);
    let waiting: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = TcpStream::connect(attacked.daemon.address()).unwrap();
            // Again and again, without a pause.
            stream.write_all(wait.repeat(20).as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..5 {
        attacked.ask("GET", "/v1/stats", "").status(200);
    }
    drop(waiting);
}

/// Without any token: a connection that is never found idle gives way when it has had its turn.
#[test]
fn requests_without_a_pause_lock_nobody_out() {
    let place = Place::new();
    let attacked = Attacked::start(&place, &[TCP, &["--connections", "3"]].concat());
    let requests = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(50);
    let hogs = [(); 3].map(|()| TcpStream::connect(attacked.daemon.address()).unwrap());
    std::thread::scope(|scope| {
        for mut hog in &hogs {
            let requests = &requests;
            scope.spawn(move || {
                let mut answers = [0; 1 << 16];
                while hog.write_all(requests.as_bytes()).is_ok()
                    && hog.read(&mut answers).is_ok_and(|read| read > 0)
                {}
            });
        }
        for _ in 0..3 {
            attacked.ask("GET", "/v1/stats", "").status(200);
        }
        for hog in &hogs {
            let _ = hog.shutdown(std::net::Shutdown::Both);
        }
    });
}

#[test]
fn ten_thousand_idle_connections_lock_nobody_out() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    let wanted = figure("SENDOFF_IDLE", 10_000);
    // The other tests need some too.
    let spare = 1_000;
    let allowed =
        limit.maximum.map_or(wanted, |most| usize::try_from(most).unwrap_or(wanted).saturating_sub(spare));
    let count = wanted.min(allowed);
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let idle: Vec<_> = (0..count).map(|_| TcpStream::connect(attacked.daemon.address()).unwrap()).collect();
    attacked.ask("GET", "/v1/stats", "").status(200);
    attacked.daemon.ask("GET", "/v1/stats", "").status(200);
    println!("{count} idle connections of {wanted}: {} KiB in all", attacked.daemon.peak_memory());
    assert!(attacked.daemon.peak_memory() < 256 * 1024);
    // The first ones made room.
    assert_eq!((&idle[0]).read(&mut [0]).unwrap_or(0), 0);
}
