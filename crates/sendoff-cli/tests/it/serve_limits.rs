//! Peers that are slow, many or loud.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::harness::{Daemon, Place};

const TCP: &[&str] = &["--store", "memory", "--listen", "127.0.0.1:0"];

#[test]
fn a_head_that_drips_is_not_waited_for() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[TCP, &["--header-timeout", "300ms"]].concat());
    for begin in ["", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(daemon.address()).unwrap();
        stream.write_all(begin.as_bytes()).unwrap();
        let mut drip = stream.try_clone().unwrap();
        // It goes on until the daemon has closed the connection.
        let dripper = std::thread::spawn(move || {
            while !begin.is_empty() && drip.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{answer:?}");
        drop(stream);
        dripper.join().unwrap();
    }
}

#[test]
fn connections_that_idle_lock_nobody_out() {
    let place = Place::new();
    let flags = ["--connections", "50", "--header-timeout", "1h"];
    let daemon = Daemon::start(&place, &[TCP, &flags].concat());
    let idle: Vec<_> = (0..200).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    // Nobody gives up: those that have waited longest make room.
    daemon.tcp().ask("GET", "/v1/stats", &[], "").problem(401, "unauthorized");
    let mut first = &idle[0];
    assert_eq!(first.read(&mut [0]).unwrap_or(0), 0, "it was closed");
    let mut last = idle.last().unwrap();
    write!(last, "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    last.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let answer = daemon.ask("GET", "/v1/stats", "");
    assert!(![0, 401, 403].contains(&answer.status), "the unix socket has seats of its own: {answer:?}");
}

#[test]
fn a_head_has_an_end() {
    let place = Place::new();
    let daemon = Daemon::start(&place, TCP);
    let huge = format!("X-Huge: {}", "x".repeat(70_000));
    let many: Vec<_> = (0..120).map(|number| format!("X-{number}: x")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(daemon.tcp().ask("GET", "/", &[&huge], "").status, 431);
    assert_eq!(daemon.tcp().ask("GET", "/", &many, "").status, 431);
    let smuggled =
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!";
    assert_eq!(daemon.tcp().exchange(smuggled).status, 400);
}

#[test]
fn nothing_is_read_for_a_caller_that_nobody_knows() {
    let place = Place::new();
    let daemon = Daemon::start(&place, TCP);
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let huge = format!("{head}Content-Length: 1000000000\r\n\r\n{{");
    let mut wire = daemon.tcp().connect();
    wire.write_all(huge.as_bytes()).unwrap();
    let mut status = [0; 12];
    wire.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 401");
}
