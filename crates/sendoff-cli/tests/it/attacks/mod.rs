//! What an attacker tries over the network, each with its refusal.
//!
//! | tried | refused in |
//! |---|---|
//! | no token, a wrong or expired one, two of them | `serve_access::tcp_callers_need_a_token_that_is_good` |
//! | a token without the scope | `scopes` |
//! | another user on the unix socket | `serve_access::the_unix_socket_is_for_its_own_user` |
//! | a foreign Host, a foreign Origin | `serve_access::names_that_are_not_ours_are_refused`, `pages_of_other_origins_may_send_nothing` |
//! | a start that reaches loopback, private or metadata addresses: by literal in every spelling, by name, by redirect, over a kept connection | `targets` |
//! | a name that leads elsewhere the second time | the library's `http_starter::policy::a_name_that_leads_elsewhere_the_second_time_is_looked_up_once_and_dialled_as_found` |
//! | a job that was granted more, or less, than the configuration allows now, also after a restart | `grants` |
//! | a program outside, `..`, links, relative names, other directories, `LD_PRELOAD` | `programs` |
//! | headers, methods and addresses with line breaks in them, from a job or a secret | `injected` |
//! | secrets and tokens looked for in files, logs and answers | `secrets` |
//! | queues and guids that are paths | `names` |
//! | control characters for whoever reads the log | `names::nothing_raw_reaches_the_log` |
//! | two lengths, two framings, folded lines, other protocols | `wire`, `serve_limits::a_head_has_an_end` |
//! | bodies without end, lines without end | `bulk` |
//! | slow heads, slow bodies, readers that do not read | `serve_limits::a_head_that_drips_is_not_waited_for`, `slow` |
//! | connections that wait, or ask without a pause, to keep others out | `slow::waits_lock_nobody_out`, `slow::requests_without_a_pause_lock_nobody_out` |
//! | thousands of idle connections | `slow::ten_thousand_idle_connections_lock_nobody_out`, `serve_limits::connections_that_idle_lock_nobody_out` |

mod bulk;
mod grants;
mod injected;
mod names;
mod programs;
mod scopes;
mod secrets;
mod slow;
mod targets;
mod trap;
mod wire;

use serde_json::{Value, json};

use crate::harness::{Answer, Daemon, Place};

const TCP: &[&str] = &["--store", "memory", "--listen", "127.0.0.1:0"];
const JSON: &str = "Content-Type: application/json";

/// A daemon that listens by TCP too, and somebody who may submit and read there.
struct Attacked {
    daemon: Daemon,
    /// The header that names them.
    bearer: String,
}

impl Attacked {
    fn start(place: &Place, flags: &[&str]) -> Self {
        let bearer = bearer(place, "eve", "submit,read");
        Self { daemon: Daemon::start(place, flags), bearer }
    }

    /// One request over TCP.
    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [self.bearer.as_str(), JSON];
        self.daemon.tcp().ask(method, path, &headers[..if body.is_empty() { 1 } else { 2 }], body)
    }

    fn submit(&self, job: &Value) -> Answer {
        self.ask("POST", "/v1/jobs", &job.to_string())
    }

    /// Submits a job that is accepted, and waits until it is final.
    #[track_caller]
    fn ended(&self, job: &Value) -> Value {
        let guid = guid(&self.submit(job).status(201));
        self.until_final(&guid)
    }

    fn until_final(&self, guid: &str) -> Value {
        self.ask("GET", &format!("/v1/jobs/{guid}?wait=60s"), "").status(200).json()
    }
}

/// A token of these scopes, as a header.
fn bearer(place: &Place, name: &str, scopes: &str) -> String {
    let made = place.run(["token", "create", name, "--scope", scopes]).code(0);
    format!("Authorization: Bearer {}", made.stdout.trim())
}

fn guid(answer: &Answer) -> String {
    answer.json()["guid"].as_str().unwrap().to_owned()
}

fn http(url: &str) -> Value {
    json!({"start": {"http": {"url": url}}})
}

/// Fails unless the job failed for good, with these words.
#[track_caller]
fn refused(record: &Value, words: &str) {
    assert_eq!(record["state"], "failed", "{record}");
    assert_eq!(record["last_error"]["class"], "permanent", "{record}");
    let message = record["last_error"]["message"].as_str().unwrap();
    assert!(message.contains(words), "{record}");
}
