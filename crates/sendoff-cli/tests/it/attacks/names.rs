//! Names that are paths, verbs or commands to a terminal.

use serde_json::json;

use super::{Attacked, TCP, bearer};
use crate::harness::{Daemon, Place};

#[test]
fn a_queue_or_a_guid_that_is_a_path_leads_nowhere() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--store", "memory"]);
    let long = "q".repeat(10_000);
    let names = [
        "../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e%2f%2e%2e%2fjobs",
        "%252e%252e%252f",
        "..",
        "%2e%2e",
        ".",
        "a/b",
        "a%2Fb",
        "//",
        "/",
        "",
        "%00",
        "mail%00.x",
        "%0d%0aInjected:%201",
        "%1b[31m",
        "%ff%fe",
        "%",
        "%zz",
        "%c3%a9",
        "%E2%80%AE",
        "a b",
        "a+b%20c",
        ":",
        ":pause:purge",
        "mail:purge:pause",
        "mail%3apurge",
        "mail:nonsense",
        "'; DROP TABLE job; --",
        "mail;x=y",
        "*",
        &long,
    ];
    for name in names {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            let body = if method == "PUT" { r#"{"max_in_flight":1}"# } else { "" };
            for path in ["/v1/queues/NAME", "/v1/queues/NAME:pause", "/v1/jobs/NAME", "/v1/jobs/NAME:cancel"]
            {
                let path = path.replace("NAME", name);
                let answer = daemon.ask(method, &path, body);
                assert!((400..500).contains(&answer.status) || answer.status == 200, "{path}: {answer:?}");
                assert!(answer.header("injected").is_none(), "{path}: {answer:?}");
                // A colon is a letter of a queue's name; nothing else became one.
                if answer.status == 200 && path.contains("/queues/") {
                    let made = answer.json()["name"].as_str().unwrap_or_default().to_owned();
                    let plain = |c: char| c.is_ascii_alphanumeric() || ":_-.".contains(c);
                    assert!(!made.starts_with('.') && made.chars().all(plain), "{path}: {answer:?}");
                }
            }
        }
    }
    let far = format!("/v1/queues/{}", "q".repeat(70_000));
    assert!([414, 431].contains(&daemon.ask("GET", &far, "").status));
    daemon.ask("GET", "/v1/queues/mail", "").problem(404, "no_queue");
}

/// In both formats, with everything that can be logged.
#[test]
fn nothing_raw_reaches_the_log() {
    for format in ["text", "json"] {
        let place = Place::new();
        let flags = ["--log", "trace", "--log-format", format, "--allow-programs", "/bin"];
        let attacked = Attacked::start(&place, &[TCP, &flags].concat());
        let evil = "\u{1b}]0;owned\u{7}\u{9b}31m\u{7f}\r\nFORGED line\u{202e}";
        for job in [
            json!({"start": {"simulated": {"delay": "1ms"}}, "labels": {"x": evil}}),
            json!({"start": {"simulated": {"delay": "1ms"}}, "queue": evil}),
            json!({"start": {"simulated": {"delay": "1ms"}}, "idempotency_key": evil}),
            json!({"start": {"simulated": {evil: "1ms"}}}),
            json!({"start": {evil: {}}}),
            json!({"start": {"http": {"url": format!("http://sendoff.example/{evil}")}}, "delay": "1h"}),
            json!({"start": {"process": {"program": format!("/bin/{evil}")}}}),
            json!({"start": {"process": {"program": format!("/bin/nobody\u{9b}31m\u{1b}[0m")}}}),
            json!({evil: 1}),
        ] {
            let answer = attacked.submit(&job);
            if answer.status == 201 && job["delay"].is_null() {
                attacked.until_final(&super::guid(&answer));
            }
        }
        let admin = bearer(&place, "root", "admin");
        let raw = |header: &[u8]| {
            let head =
                format!("POST /v1/queues/%1b%5b31m%c2%9b:pause HTTP/1.1\r\nHost: localhost\r\n{admin}\r\n");
            let bytes = [head.as_bytes(), header, b"\r\nConnection: close\r\n\r\n"].concat();
            assert!((400..500).contains(&attacked.daemon.tcp().exchange(bytes).status), "{header:?}");
        };
        raw("User-Agent: \u{9b}31m\u{202e}".as_bytes());
        raw("Origin: http://\u{9b}31m".as_bytes());
        raw("X: \u{1b}[31m".as_bytes());
        raw("Idempotency-Key: \u{9b}31m".as_bytes());
        attacked
            .daemon
            .tcp()
            .ask("GET", "/%1b%5b31m?%1b=%9b", &["Host: \u{9b}31m"], "")
            .problem(403, "host_not_allowed");
        let (code, log) = attacked.daemon.stop();
        assert_eq!(code, Some(0));
        let raw: Vec<_> = log.chars().filter(|&c| c.is_control() && c != '\n').collect();
        assert!(raw.is_empty(), "{raw:?} in the {format} log: {log:?}");
        assert!(!log.lines().any(|line| line.starts_with("FORGED")), "{log}");
    }
}
