//! How fast jobs are submitted over HTTP, beside the same jobs submitted inside one process.
//!
//! `cargo build --release && cargo run --release -p sendoff-cli --example submit_load -- [SECONDS]`
//!
//! The jobs are due in an hour, so that only their acceptance is measured; each is acknowledged
//! after its commit. Five ways in turn, each on a new store in the current directory: 64 callers in
//! this process, 64 connections over TCP (with a token) and over the unix socket, then jobs in
//! batches of 1,000 in this process, and in one itemised request over TCP. The daemon, the store and
//! this generator share the machine.

mod built;

use std::{
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use hdrhistogram::Histogram;
use sendoff::{
    Batch, JobSpec, Scheduler,
    starter::{Simulated, SimulatedStarter},
    store::{SqliteOptions, SqliteStore},
    time::{Clock, SystemClock},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};

const CALLERS: usize = 64;
const BATCH: usize = 1_000;
const ADDRESS: &str = "127.0.0.1:8299";
const JOB: &str = r#"{"start":{"simulated":{"delay":"1ms"}},"delay":"1h"}"#;

/// What callers share: until when to go on, and how long each answer took.
#[derive(Clone)]
struct Run {
    until: Duration,
    took: Arc<Mutex<Histogram<u64>>>,
}

impl Run {
    fn new(seconds: u64) -> Self {
        let took = Histogram::new_with_bounds(1, 60_000_000, 3).expect("sound bounds");
        Self { until: SystemClock.elapsed() + Duration::from_secs(seconds), took: Arc::new(Mutex::new(took)) }
    }

    /// Notes an answer to a call made at `called`; whether to make another.
    fn answered(&self, called: Duration) -> bool {
        let now = SystemClock.elapsed();
        let micros = u64::try_from((now - called).as_micros()).unwrap_or(u64::MAX);
        self.took.lock().expect("no caller panicked").saturating_record(micros);
        now < self.until
    }

    fn report(&self, way: &str, jobs_a_call: usize, seconds: u64) {
        let took = self.took.lock().expect("no caller panicked");
        let rate = took.len() as f64 * jobs_a_call as f64 / seconds as f64;
        let millis = |quantile| took.value_at_quantile(quantile) as f64 / 1e3;
        println!("{way:<44} {rate:>9.0} jobs/s   p50 {:>8.2} ms   p99 {:>8.2} ms", millis(0.5), millis(0.99));
    }
}

/// A daemon on a store of its own, ended with this value.
struct Daemon {
    child: Child,
    place: tempfile::TempDir,
    token: String,
}

impl Daemon {
    async fn start() -> Self {
        let place = tempfile::tempdir_in(".").expect("a directory here");
        let output = built::command(place.path())
            .args(["token", "create", "load", "--scope", "submit,read", "-q"])
            .output()
            .expect("`cargo build --release` was run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let token = String::from_utf8(output.stdout).expect("text").trim().to_owned();
        let child = built::command(place.path())
            .args(["serve", "--listen", ADDRESS])
            .stderr(Stdio::null())
            .spawn()
            .expect("it is there");
        let daemon = Self { child, place, token };
        while UnixStream::connect(daemon.socket()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.place.path().join("sendoff/sendoff.sock")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn scheduler(place: &Path) -> Scheduler {
    let store = SqliteStore::open(place.join("jobs.db"), SqliteOptions::default()).expect("a new store");
    Scheduler::builder().store(Arc::new(store)).starter(SimulatedStarter).start().await.expect("it starts")
}

fn job() -> JobSpec {
    JobSpec::new(&Simulated::new(Duration::from_millis(1))).delay(Duration::from_secs(3_600))
}

async fn singles_inside(seconds: u64) {
    let place = tempfile::tempdir_in(".").expect("a directory here");
    let scheduler = scheduler(place.path()).await;
    let run = Run::new(seconds);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (run, scheduler) = (run.clone(), scheduler.clone());
        callers.spawn(async move {
            loop {
                let called = SystemClock.elapsed();
                scheduler.submit(job()).expect("a good job").await.expect("it is stored");
                if !run.answered(called) {
                    break;
                }
            }
        });
    }
    callers.join_all().await;
    run.report("single, 64 callers in one process", 1, seconds);
    scheduler.shutdown(Duration::ZERO).await.expect("it stops");
}

async fn batches_inside(seconds: u64) {
    let place = tempfile::tempdir_in(".").expect("a directory here");
    let scheduler = scheduler(place.path()).await;
    let run = Run::new(seconds);
    loop {
        let called = SystemClock.elapsed();
        let batch = Batch::itemised((0..BATCH).map(|_| job()).collect());
        scheduler.submit_batch(batch).await.expect("it is stored");
        if !run.answered(called) {
            break;
        }
    }
    run.report("batches of 1,000 in one process", BATCH, seconds);
    scheduler.shutdown(Duration::ZERO).await.expect("it stops");
}

async fn singles_over_tcp(seconds: u64) {
    let daemon = Daemon::start().await;
    let mut connections = Vec::new();
    for _ in 0..CALLERS {
        let stream = TcpStream::connect(ADDRESS).await.expect("the daemon listens");
        stream.set_nodelay(true).expect("a TCP socket");
        connections.push(stream);
    }
    singles(connections, &daemon, seconds).await.report("single, 64 connections over TCP", 1, seconds);
}

async fn singles_over_socket(seconds: u64) {
    let daemon = Daemon::start().await;
    let mut connections = Vec::new();
    for _ in 0..CALLERS {
        connections.push(UnixStream::connect(daemon.socket()).await.expect("the daemon listens"));
    }
    singles(connections, &daemon, seconds).await.report(
        "single, 64 connections over the unix socket",
        1,
        seconds,
    );
}

async fn singles<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    connections: Vec<S>,
    daemon: &Daemon,
    seconds: u64,
) -> Run {
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: {ADDRESS}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{JOB}",
        daemon.token,
        JOB.len()
    );
    let request: Arc<[u8]> = request.into_bytes().into();
    let run = Run::new(seconds);
    let mut callers = JoinSet::new();
    for mut connection in connections {
        let (run, request) = (run.clone(), request.clone());
        callers.spawn(async move {
            let mut answer = Vec::with_capacity(4_096);
            loop {
                let called = SystemClock.elapsed();
                connection.write_all(&request).await.expect("the daemon reads");
                read_answer(&mut connection, &mut answer).await;
                assert!(answer.starts_with(b"HTTP/1.1 201"), "{}", String::from_utf8_lossy(&answer));
                if !run.answered(called) {
                    break;
                }
            }
        });
    }
    callers.join_all().await;
    run
}

/// Reads one answer that gives its length.
async fn read_answer(connection: &mut (impl AsyncRead + Unpin), answer: &mut Vec<u8>) {
    answer.clear();
    loop {
        assert!(connection.read_buf(answer).await.expect("the daemon answers") > 0, "it hung up");
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.and_then(|digits| digits.parse().ok()).expect("a length");
        while answer.len() < head + 4 + length {
            assert!(connection.read_buf(answer).await.expect("the daemon answers") > 0, "it hung up");
        }
        return;
    }
}

/// One request, as long as the time lasts.
async fn batch_over_tcp(seconds: u64) {
    let daemon = Daemon::start().await;
    let stream = TcpStream::connect(ADDRESS).await.expect("the daemon listens");
    let (mut answer, mut request) = stream.into_split();
    let head = format!(
        "POST /v1/jobs:batch?atomic=false HTTP/1.1\r\nhost: {ADDRESS}\r\nauthorization: Bearer {}\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        daemon.token
    );
    let lines = format!("{JOB}\n").repeat(BATCH);
    let chunk = format!("{:x}\r\n{lines}\r\n", lines.len());
    let began = SystemClock.elapsed();
    let run = Run::new(seconds);
    let mut sending = JoinSet::new();
    let until = run.until;
    sending.spawn(async move {
        request.write_all(head.as_bytes()).await.expect("the daemon reads");
        let mut sent = 0;
        while SystemClock.elapsed() < until {
            request.write_all(chunk.as_bytes()).await.expect("the daemon reads");
            sent += BATCH;
        }
        request.write_all(b"0\r\n\r\n").await.expect("the daemon reads");
        // Closing this half now would be taken for hanging up.
        (sent, request)
    });
    let mut last = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = answer.read(&mut buffer).await.expect("the daemon answers");
        if read == 0 {
            break;
        }
        last.extend_from_slice(&buffer[..read]);
        let keep = last.len().saturating_sub(400);
        last.drain(..keep);
    }
    let (sent, _request) = sending.join_next().await.expect("one task").expect("it sends");
    let seconds = (SystemClock.elapsed() - began).as_secs_f64();
    let end = String::from_utf8_lossy(&last);
    assert!(end.contains(&format!("\"created\":{sent}")), "{end}");
    println!("{:<44} {:>9.0} jobs/s", "one itemised batch over TCP", sent as f64 / seconds);
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().nth(1).map_or(5, |text| text.parse().expect("SECONDS is a number"));
    singles_inside(seconds).await;
    singles_over_tcp(seconds).await;
    singles_over_socket(seconds).await;
    batches_inside(seconds).await;
    batch_over_tcp(seconds).await;
}
