//! Line breaks where none belong.

use serde_json::{Value, json};

use super::{Attacked, TCP, http, trap::Trap};
use crate::harness::{Daemon, Place};

const ALLOWED: &[&str] = &["--allow-networks", "127.0.0.0/8", "--allow-secrets", "env:*"];

#[test]
fn a_job_cannot_write_headers_that_it_does_not_name() {
    let place = Place::new();
    let attacked = Attacked::start(&place, &[TCP, ALLOWED].concat());
    let trap = Trap::on("127.0.0.1", "HTTP/1.1 204 No Content\r\n\r\n");
    let url = format!("http://{}/", trap.address);
    for broken in ["a\r\nInjected: 1", "a\nInjected: 1", "a\rInjected: 1", "a\0b", "a\u{7f}"] {
        let name = format!("x-a{broken}");
        for (field, payload) in [
            ("headers", json!({"url": url, "headers": {"x-a": broken}})),
            ("headers", json!({"url": url, "headers": {name: "x"}})),
            ("headers", json!({"url": url, "headers": {"x-a": {"secret": "env:HOME", "prefix": broken}}})),
            ("headers", json!({"url": url, "headers": {"x-a": {"secret": format!("env:{broken}")}}})),
            ("method", json!({"url": url, "method": format!("GET / HTTP/1.1\r\n{broken}")})),
        ] {
            let problem =
                attacked.submit(&json!({"start": {"http": payload}})).problem(400, "invalid_job").json();
            let named = problem["field"].as_str().unwrap_or_default();
            assert!(named.starts_with(&format!("start.http.{field}")), "{broken:?}: {problem}");
        }
        for (field, value) in
            [("queue", broken.into()), ("idempotency_key", broken.into()), ("labels", json!({broken: "x"}))]
        {
            let mut job = http(&url);
            job[field] = Value::clone(&value);
            attacked.submit(&job).problem(400, "invalid_job");
        }
        // An address has no line breaks either; what a reader of addresses leaves out is not sent.
        let answer = attacked.submit(&http(&format!("{url}{broken}")));
        if answer.status == 201 {
            attacked.until_final(&super::guid(&answer));
        }
    }
    for name in
        ["host", "content-length", "transfer-encoding", "connection", "x-sendoff-guid", "x a", "x:a", ""]
    {
        let payload = json!({"url": url, "headers": {name: "x"}});
        attacked.submit(&json!({"start": {"http": payload}})).problem(400, "invalid_job");
    }
    for head in trap.seen().1 {
        assert!(!head.lines().any(|line| line.starts_with("Injected")), "{head}");
    }
}

#[test]
fn a_secret_cannot_either() {
    let place = Place::new();
    let trap = Trap::on("127.0.0.1", "HTTP/1.1 204 No Content\r\n\r\n");
    place.write("secret", "hunter2\r\nInjected: 1\n");
    let mut command = Daemon::command(&place, &["--store", "memory"]);
    command.env("BROKEN", "hunter3\nInjected: 1");
    let daemon = Daemon::spawn(command);
    for secret in [format!("file:{}", place.text("secret")), "env:BROKEN".to_owned()] {
        let payload =
            json!({"url": format!("http://{}/", trap.address), "headers": {"x-a": {"secret": secret}}});
        let answer = daemon.ask("POST", "/v1/jobs", &json!({"start": {"http": payload}}).to_string());
        let guid = super::guid(&answer.status(201));
        let record = daemon.ask("GET", &format!("/v1/jobs/{guid}?wait=60s"), "").status(200).json();
        super::refused(&record, "");
        assert!(!record.to_string().contains("hunter"), "{record}");
    }
    assert!(trap.seen().1.is_empty());
}
