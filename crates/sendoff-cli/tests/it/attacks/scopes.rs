//! Each token does what it is for, over the network.

use super::{JSON, TCP, bearer};
use crate::harness::{Daemon, Place};

#[test]
fn a_token_without_the_scope_is_refused_and_told_which() {
    let place = Place::new();
    let scopes = ["read", "submit", "cancel", "admin"];
    let bearers: Vec<_> = scopes.iter().map(|scope| bearer(&place, scope, scope)).collect();
    let daemon = Daemon::start(&place, TCP);
    let nobody = "019a0000-0000-7000-8000-000000000000";
    let job = r#"{"start":{"simulated":{"delay":"1ms"}},"delay":"1h"}"#;
    for (method, path, body, needed) in [
        ("GET", "/v1/stats", "", "read"),
        ("GET", "/v1/jobs", "", "read"),
        ("GET", "/metrics", "", "read"),
        ("GET", &format!("/v1/jobs/{nobody}"), "", "read"),
        ("POST", "/v1/jobs", job, "submit"),
        ("POST", "/v1/jobs:batch", &format!("[{job}]"), "submit"),
        ("POST", &format!("/v1/jobs/{nobody}:cancel"), "", "cancel"),
        ("POST", &format!("/v1/jobs/{nobody}:start-now"), "", "cancel"),
        ("POST", &format!("/v1/jobs/{nobody}:reschedule"), r#"{"delay":"1s"}"#, "cancel"),
        ("POST", &format!("/v1/jobs/{nobody}:resolve"), r#"{"to":"failed"}"#, "admin"),
        ("POST", "/v1/jobs:cancel", r#"{"all":true}"#, "admin"),
        ("PUT", "/v1/queues/mail", r#"{"max_in_flight":1}"#, "admin"),
        ("POST", "/v1/queues/mail:pause", "", "admin"),
        ("POST", "/v1/queues/mail:purge", "", "admin"),
        ("DELETE", "/v1/queues/mail", "", "admin"),
    ] {
        for (scope, bearer) in scopes.iter().zip(&bearers) {
            let answer = daemon.tcp().ask(method, path, &[bearer, JSON], body);
            if *scope == needed || *scope == "admin" {
                assert!(![401, 403].contains(&answer.status), "{method} {path} as {scope}: {answer:?}");
            } else {
                let refusal = answer.problem(403, "forbidden").json();
                assert_eq!(refusal["scope"], needed, "{method} {path} as {scope}");
            }
        }
    }
}
