//! Requests that two readers would read differently, and other protocols.

use super::{Attacked, TCP};
use crate::harness::Place;

/// What follows is to be taken for a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn requests_with_two_readings_are_refused_and_the_connection_ends() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    for head in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 6",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length: 99999999999999999999",
        "Content-Length:",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding : chunked",
        "Content-Length : 5",
        "X: a\r\n folded",
        "X: a\rContent-Length: 5",
        "X: a\0b",
        "X y: z",
        ": empty",
        "no colon",
        "\u{1b}: x",
    ] {
        let request = format!("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n{SMUGGLED}");
        let answer = attacked.daemon.tcp().exchange(request);
        assert_eq!(answer.status, 400, "{head:?}: {answer:?}");
        assert!(!answer.body.contains("HTTP/1.1"), "{head:?}: a second answer: {answer:?}");
    }
    for line in [
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked",
        "GET  / HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET / HTTP/9.9",
    ] {
        let answer = attacked.daemon.tcp().exchange(format!("{line}\r\nHost: localhost\r\n\r\n{SMUGGLED}"));
        assert!(
            [0, 400, 505].contains(&answer.status) && !answer.body.contains("HTTP/1.1"),
            "{line:?}: {answer:?}"
        );
    }
}

/// HTTP lets a server take the one framing that is safe, if it closes the connection then.
#[test]
fn of_two_framings_the_chunks_count_and_nothing_is_read_behind_them() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let bearer = &attacked.bearer;
    let job = r#"{"start":{"simulated":{"delay":"1ms"}}}"#;
    for framing in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Transfer-Encoding: chunked\r\nContent-Length: nonsense",
    ] {
        let head = format!("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{framing}\r\n\r\n");
        let request = format!("{head}{:x}\r\n{job}\r\n0\r\n\r\n{SMUGGLED}", job.len());
        let answer = attacked.daemon.tcp().exchange(request);
        assert!([201, 400].contains(&answer.status), "{framing}: {answer:?}");
        assert!(!answer.body.contains("HTTP/1.1"), "{framing}: a second answer: {answer:?}");
    }
    // What is no chunk ends the body, and the connection.
    for chunk in
        ["zz\r\n{}", "-1\r\n{}", "fffffffffffffffff\r\n{}", "2\r\n{}}}", "2;\n{}\r\n0\r\n\r\n", "\r\n\r\n"]
    {
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let answer = attacked.daemon.tcp().exchange(format!("{head}{chunk}\r\n{SMUGGLED}"));
        assert!([0, 400].contains(&answer.status), "{chunk:?}: {answer:?}");
        assert!(!answer.body.contains("HTTP/1.1"), "{chunk:?}: a second answer: {answer:?}");
    }
}

/// What was refused unread is not read as requests.
#[test]
fn a_body_that_nobody_reads_is_no_request() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let bearer = &attacked.bearer;
    for head in [
        "POST /nowhere",
        "POST /v1/jobs/nonsense:cancel",
        "GET /healthz",
        "DELETE /v1/stats",
        "POST /v1/jobs",
    ] {
        let length = SMUGGLED.len() + 1_000_000_000;
        let request = format!(
            "{head} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\nContent-Length: {length}\r\n\r\n{SMUGGLED}{SMUGGLED}"
        );
        let answer = attacked.daemon.tcp().exchange(request);
        assert_ne!(answer.status, 0, "{head}");
        assert!(!answer.body.contains("HTTP/1.1"), "{head}: a second answer: {answer:?}");
    }
}

#[test]
fn other_protocols_do_no_harm() {
    let place = Place::new();
    let attacked = Attacked::start(&place, &[TCP, &["--header-timeout", "2s"]].concat());
    // Some of these are no whole head, for which it waits.
    // The beginning of a TLS handshake, as a browser sends it.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\xaa\xbb\xcc\r\n\r\n".as_slice();
    for (name, bytes) in [
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".as_slice()),
        ("TLS", hello),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n"),
        ("SMTP", b"EHLO example.com\r\nMAIL FROM:<a@example.com>\r\n"),
        ("Redis", b"*1\r\n$4\r\nPING\r\n"),
        ("SOCKS", b"\x05\x01\x00\r\n\r\n"),
        ("zeroes", &[0; 100_000]),
        ("HTTP/0.9", b"GET /\r\n\r\n"),
        ("proxying", b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n"),
    ] {
        let answer = attacked.daemon.tcp().exchange(bytes);
        assert!(answer.status == 0 || (400..500).contains(&answer.status), "{name}: {answer:?}");
        attacked.ask("GET", "/v1/stats", "").status(200);
    }
    let upgrade = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    attacked.daemon.tcp().ask("GET", "/healthz", &upgrade, "").status(200);
}
