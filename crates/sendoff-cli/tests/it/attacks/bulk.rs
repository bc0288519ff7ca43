//! More than there is memory for.
//!
//! `SENDOFF_MEGABYTES=1000 cargo test --release -p sendoff-cli --test it attacks::bulk -- --nocapture`

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use super::{Attacked, TCP};
use crate::{
    harness::{Answer, Place},
    proof::figure,
};

/// What the daemon may need for a request, in KiB, whatever the request says.
const BOUND: usize = 64 * 1024;

/// Sends so many megabytes in chunks, then the end, while it reads the answer; how many were taken.
fn pour(attacked: &Attacked, path: &str, media: &str, megabytes: usize, piece: &[u8]) -> (Answer, usize) {
    let mut stream = TcpStream::connect(attacked.daemon.address()).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let answer = std::thread::spawn(move || Answer::read(&mut reader));
    let bearer = &attacked.bearer;
    let framing = format!("Content-Type: {media}\r\nTransfer-Encoding: chunked\r\nConnection: close");
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{framing}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let repeated = piece.repeat((1 << 20) / piece.len());
    let chunk = [format!("{:x}\r\n", repeated.len()).as_bytes(), &repeated, b"\r\n"].concat();
    let taken = (0..megabytes).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    let _ = stream.write_all(b"0\r\n\r\n");
    (answer.join().unwrap(), taken)
}

#[test]
fn a_body_that_says_it_is_a_gigabyte_is_refused_before_it_is_read() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    for (path, media) in [
        ("/v1/jobs", "application/json"),
        ("/v1/jobs:batch", "application/x-ndjson"),
        ("/v1/jobs:batch", "application/json"),
        ("/v1/jobs:batch?atomic=false", "application/json"),
    ] {
        let bearer = &attacked.bearer;
        let framing = format!("Content-Type: {media}\r\nContent-Length: 1000000000");
        // Nothing of the body is sent, so nothing was waited for.
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{framing}\r\n\r\n");
        attacked.daemon.tcp().exchange(head).problem(413, "too_large");
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n{framing}\r\nExpect: 100-continue\r\n\r\n"
        );
        attacked.daemon.tcp().exchange(head).problem(413, "too_large");
    }
}

#[test]
fn a_body_without_end_is_cut_at_the_limit() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let before = attacked.daemon.peak_memory();
    let megabytes = figure("SENDOFF_MEGABYTES", 100);
    for (path, media, limit) in [
        ("/v1/jobs", "application/json", 1),
        ("/v1/jobs:batch", "application/x-ndjson", 16),
        ("/v1/jobs:batch?atomic=false", "application/json", 16),
    ] {
        let (answer, taken) = pour(&attacked, path, media, megabytes, b" ");
        answer.problem(413, "too_large");
        // The kernels of both sides hold some more.
        assert!(taken < limit + 30, "{taken} MB of {path} were taken");
    }
    let grown = attacked.daemon.peak_memory() - before;
    println!("{megabytes} MB of body without end, three times: {grown} KiB more than before");
    assert!(grown < BOUND, "{grown} KiB");
}

#[test]
fn a_line_without_end_is_one_refusal() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let before = attacked.daemon.peak_memory();
    let megabytes = figure("SENDOFF_MEGABYTES", 200);
    let (answer, taken) =
        pour(&attacked, "/v1/jobs:batch?atomic=false", "application/x-ndjson", megabytes, b"x");
    assert_eq!(taken, megabytes);
    let lines: Vec<_> = answer.status(200).body.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("the job is longer than the"), "{lines:?}");
    assert!(lines[1].contains(r#""items":1,"refused":1"#), "{lines:?}");
    let grown = attacked.daemon.peak_memory() - before;
    println!("{megabytes} MB in one line: {grown} KiB more than before");
    assert!(grown < BOUND, "{grown} KiB");
}

/// What is refused costs an answer each, what is accepted a row; neither stays in memory.
#[test]
fn a_batch_without_end_takes_bounded_memory() {
    let place = Place::new();
    let attacked = Attacked::start(&place, &["--listen", "127.0.0.1:0"]);
    let megabytes = figure("SENDOFF_MEGABYTES", 20);
    let body = "x".repeat(8_000);
    let good = json!({"start": {"http": {"url": "http://sendoff.example/", "body": body}}, "delay": "1h"});
    for (name, line, tally) in
        [("bad", format!("{:1023}\n", "{}"), "refused"), ("good", padded(&good), "created")]
    {
        let before = attacked.daemon.peak_memory();
        let (answer, taken) = pour(
            &attacked,
            "/v1/jobs:batch?atomic=false",
            "application/x-ndjson",
            megabytes,
            line.as_bytes(),
        );
        assert_eq!(taken, megabytes);
        let last: Value = serde_json::from_str(answer.status(200).body.lines().last().unwrap()).unwrap();
        let items = (megabytes << 20) / line.len();
        assert_eq!((&last["items"], &last[tally]), (&items.into(), &items.into()), "{last}");
        let grown = attacked.daemon.peak_memory() - before;
        println!("{megabytes} MB of {items} {name} lines: {grown} KiB more than before");
        assert!(grown < BOUND, "{grown} KiB");
    }
}

/// A job as a line of 8 KiB.
fn padded(job: &Value) -> String {
    format!("{:8191}\n", job.to_string())
}

/// Nesting and repetition inside what may be read.
#[test]
fn json_that_explodes_is_refused() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let before = attacked.daemon.peak_memory();
    let deep = "[".repeat(500_000);
    let many = (0..50_000).map(|n| format!("\"l{n}\":\"x\"")).collect::<Vec<_>>().join(",");
    for body in [
        deep.clone(),
        format!(r#"{{"start":{{"http":{deep}"#),
        format!(r#"{{"start":{{"simulated":{{}}}},"labels":{{{many}}}}}"#),
        r#"{"start":{"simulated":{}},"priority":1e999}"#.to_owned(),
        r#"{"start":{"simulated":{}},"delay":"9999999999999999999d"}"#.to_owned(),
    ] {
        attacked.ask("POST", "/v1/jobs", &body).problem(400, "invalid_job");
    }
    let grown = attacked.daemon.peak_memory() - before;
    assert!(grown < BOUND, "{grown} KiB");
    let mut wire = attacked.daemon.tcp().connect();
    wire.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    assert!(wire.read(&mut [0; 64]).unwrap() > 0);
}
