//! A daemon that answers what a test tells it to, and keeps what it was asked.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::harness::Place;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Method and path, as in `GET /v1/stats`.
    pub(crate) line: String,
    /// The headers, in lower case.
    pub(crate) headers: String,
    pub(crate) body: String,
}

impl Asked {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }
}

/// What to answer.
pub(crate) enum Answer {
    /// A status, more headers (`retry-after: 0\r\n`), and a body.
    Whole(u16, &'static str, String),
    /// No answer: the connection is closed.
    Lost,
    /// Events; then the connection is closed.
    Events(String),
}

/// A success.
pub(crate) fn ok(body: impl ToString) -> Answer {
    Answer::Whole(200, "", body.to_string())
}

/// A refusal.
pub(crate) fn problem(status: u16, kind: &str, detail: &str, more: Value) -> Answer {
    let mut body =
        json!({"type": format!("/problems/{kind}"), "title": kind, "status": status, "detail": detail});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Answer::Whole(status, "", body.to_string())
}

type Script = Arc<dyn Fn(&Asked, usize) -> Answer + Send + Sync>;

/// The daemon.
#[derive(Clone)]
pub(crate) struct Fake {
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Script,
}

impl Fake {
    /// Listens on the unix socket where the commands of this place look. The script gets each
    /// request and how many came before it.
    pub(crate) fn of(
        place: &Place,
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        std::fs::create_dir_all(place.path("state/sendoff")).unwrap();
        let listener = UnixListener::bind(place.path("state/sendoff/sendoff.sock")).unwrap();
        let fake = Self { asked: Arc::default(), script: Arc::new(script) };
        let this = fake.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (this, stream) = (this.clone(), stream.unwrap());
                thread::spawn(move || this.serve(stream));
            }
        });
        fake
    }

    /// Listens on a TCP port, with TLS if there is a configuration for it.
    pub(crate) fn on_tcp(
        tls: Option<Arc<rustls::ServerConfig>>,
        script: impl Fn(&Asked, usize) -> Answer + Send + Sync + 'static,
    ) -> (Self, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fake = Self { asked: Arc::default(), script: Arc::new(script) };
        let this = fake.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (this, stream, tls) = (this.clone(), stream.unwrap(), tls.clone());
                thread::spawn(move || match tls {
                    None => this.serve(stream),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).unwrap();
                        this.serve(rustls::StreamOwned::new(session, stream));
                    }
                });
            }
        });
        (fake, port)
    }

    /// Everything that was asked so far, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The methods and paths.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    fn serve(&self, stream: impl Read + Write) {
        let mut stream = BufReader::new(stream);
        while let Some(asked) = read(&mut stream) {
            let before = {
                let mut all = self.asked.lock().unwrap();
                all.push(asked.clone());
                all.len() - 1
            };
            let answer = match (self.script)(&asked, before) {
                Answer::Lost => return,
                Answer::Whole(status, headers, body) => {
                    format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
                }
                Answer::Events(events) => {
                    let head =
                        "HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
                    let _ = stream.get_mut().write_all(format!("{head}{events}").as_bytes());
                    return;
                }
            };
            if stream.get_mut().write_all(answer.as_bytes()).is_err() || stream.get_mut().flush().is_err() {
                return;
            }
        }
    }
}

fn read(stream: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    if stream.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let mut headers = String::new();
    let mut length = 0;
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).ok()?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ").unwrap();
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().unwrap();
        }
        headers.push_str(&format!("{}: {value}\n", name.to_ascii_lowercase()));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Asked { line, headers, body: String::from_utf8(body).unwrap() })
}

/// The guid of the job with this number.
pub(crate) fn guid(number: u32) -> String {
    format!("018f2b1e-0000-7000-8000-0000{number:08x}")
}

/// The record of the job with this number.
pub(crate) fn record(number: u32, state: &str) -> Value {
    let at = "2027-01-01T12:00:00.000000Z";
    let started = (state == "started").then_some("2027-01-01T12:00:00.001500Z");
    let failed = matches!(state, "failed" | "unknown");
    let error = failed.then(|| json!({"class": "permanent", "message": "410 Gone", "at": at}));
    json!({
        "guid": guid(number), "queue": "mail", "state": state, "starter": "http",
        "target": "127.0.0.1:8333", "delivery": "at_least_once", "priority": 3,
        "labels": {"customer": "7"}, "run_at": at, "next_at": at, "expires_at": null, "queued_at": at,
        "claimed_at": null, "starting_at": started, "started_at": started,
        "ended_at": if state == "pending" { None } else { Some(at) }, "wait_us": 120, "took_us": started.map(|_| 1380),
        "attempt": 1, "max_attempts": 5, "crashes": 0, "fence": 1, "node": null,
        "receipt": started.map(|_| json!({"status": 204})), "last_error": error,
        "possible_duplicate": false, "cancel_requested_at": null, "quarantined": false,
        "clock_skew_us": 0, "submitted_by": "uid:1000"
    })
}
