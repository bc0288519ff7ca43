//! How soon a daemon serves and starts again after SIGKILL, with many jobs pending.
//!
//! `cargo build --release && cargo run --release -p sendoff-cli --example restart_load -- [PENDING]...`
//!
//! For each number (by default 1,000,000 and 10,000,000) a store in the current directory is filled by
//! one daemon: nine of ten jobs are due at random times of the next years, one of ten was due before
//! the restart, in a queue that was paused until then. The daemon is killed, started again, and timed
//! from its start: to the first answer of the API, and to the first overdue start.

mod built;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Child,
    sync::mpsc,
    time::Duration,
};

use sendoff::time::{Clock, SystemClock};

/// Jobs in one request.
const PART: u64 = 100_000;

fn main() {
    let given: Vec<u64> =
        std::env::args().skip(1).map(|text| text.parse().expect("PENDING is a number")).collect();
    let numbers = if given.is_empty() { vec![1_000_000, 10_000_000] } else { given };
    for pending in numbers {
        measure(pending);
    }
}

fn measure(pending: u64) {
    let place = tempfile::tempdir_in(".").expect("a directory here");
    let (endpoint, called) = endpoint();
    let mut daemon = serve(place.path());
    // Overdue jobs must not start before the restart.
    ask(place.path(), "PUT", "/v1/queues/overdue", r#"{"paused": true}"#).expect("it is paused");
    let began = SystemClock.elapsed();
    let mut random = fastrand::Rng::with_seed(1);
    let mut left = pending;
    while left > 0 {
        let part = left.min(PART);
        let lines = (0..part).map(|number| job(&mut random, number, endpoint)).collect::<String>();
        let answer = ask(place.path(), "POST", "/v1/jobs:batch?atomic=false", &lines).expect("it is stored");
        assert!(
            answer.contains(&format!("\"created\":{part}")),
            "{}",
            &answer[answer.len().saturating_sub(300)..]
        );
        left -= part;
    }
    let rate = pending as f64 / (SystemClock.elapsed() - began).as_secs_f64();
    kill(&mut daemon);

    // The API's answer, with the queue still paused.
    let began = SystemClock.elapsed();
    let mut daemon = serve(place.path());
    let stats = ask(place.path(), "GET", "/v1/stats", "").expect("it answers");
    let answered = SystemClock.elapsed() - began;
    assert!(stats.contains(&pending.to_string()), "{stats}");
    ask(place.path(), "POST", "/v1/queues/overdue:resume", "{}").expect("it is resumed");
    // Killed right away: what is overdue is found by the next one.
    kill(&mut daemon);
    while called.try_recv().is_ok() {}

    let began = SystemClock.elapsed();
    let mut daemon = serve(place.path());
    ask(place.path(), "GET", "/healthz", "").expect("it answers");
    let healthy = SystemClock.elapsed() - began;
    called.recv_timeout(Duration::from_secs(60)).expect("an overdue job starts");
    let started = SystemClock.elapsed() - began;
    let memory = memory(&daemon);
    kill(&mut daemon);
    println!(
        "{pending:>10} pending ({rate:.0}/s): first answer after {:.3} s ({:.3} s with overdue jobs in the way), \
         first overdue start after {:.3} s, {memory} resident",
        answered.as_secs_f64(),
        healthy.as_secs_f64(),
        started.as_secs_f64(),
    );
}

fn job(random: &mut fastrand::Rng, number: u64, endpoint: SocketAddr) -> String {
    if number.is_multiple_of(10) {
        let url = format!("http://{endpoint}/");
        return format!("{{\"start\":{{\"http\":{{\"url\":\"{url}\"}}}},\"queue\":\"overdue\"}}\n");
    }
    let hours = random.u32(1..50_000);
    format!("{{\"start\":{{\"simulated\":{{\"delay\":\"1ms\"}}}},\"delay\":\"{hours}h\"}}\n")
}

/// An endpoint that says when it is called.
fn endpoint() -> (SocketAddr, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (tell, called) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), tell) = (stream, tell.clone()) else { return };
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream);
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line.trim_end().is_empty() {
                        let _ = tell.send(());
                        let _ = reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
                    }
                    line.clear();
                }
            });
        }
    });
    (address, called)
}

/// A daemon that serves.
fn serve(place: &Path) -> Child {
    let mut command = built::command(place);
    let mut child =
        command.args(["serve", "--log", "error"]).spawn().expect("`cargo build --release` was run");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("serving"), "{line}");
    child
}

fn kill(daemon: &mut Child) {
    daemon.kill().expect("it runs");
    daemon.wait().expect("it ended");
}

fn memory(daemon: &Child) -> String {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map(str::trim).unwrap_or("?").to_owned()
}

/// One request over the socket; the whole answer, with its head.
fn ask(place: &Path, method: &str, path: &str, body: &str) -> std::io::Result<String> {
    let socket: PathBuf = place.join("sendoff/sendoff.sock");
    let mut stream = UnixStream::connect(socket)?;
    let media = if path.contains(":batch") { "application/x-ndjson" } else { "application/json" };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {media}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // A batch is answered while it is sent: somebody has to read meanwhile.
    let mut writer = stream.try_clone()?;
    let text = format!("{head}{body}");
    let sending = std::thread::spawn(move || writer.write_all(text.as_bytes()));
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    sending.join().expect("it does not panic")?;
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    Ok(answer)
}
