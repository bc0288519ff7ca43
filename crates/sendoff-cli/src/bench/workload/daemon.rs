//! Submits of the `submit` workload as they come to a daemon: over HTTP, from another process.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::JoinSet,
};

use super::{BATCH, LATER, failed, no_op};
use crate::{
    bench::sample::{Meter, Sample, Times, now},
    failure::Failure,
};

/// In the daemon's folder, which is that of this process too: the path of a socket must be short.
const SOCKET: &str = "socket";

/// A daemon on a new store, killed when this is dropped.
struct Daemon {
    child: Child,
    /// By TCP.
    address: String,
    token: String,
}

/// What a daemon says when it is ready.
#[derive(Deserialize)]
struct Ready {
    listen: Vec<String>,
}

impl Daemon {
    fn start(dir: &Path) -> Result<Self, Failure> {
        std::env::set_current_dir(dir).map_err(failed)?;
        let created = command(dir)?
            .args(["token", "create", "bench", "--scope", "submit", "-q"])
            .output()
            .map_err(failed)?;
        if !created.status.success() {
            return Err(failed(String::from_utf8_lossy(&created.stderr)));
        }
        let token = String::from_utf8_lossy(&created.stdout).trim().to_owned();
        let serve = ["serve", "--json", "--listen", "127.0.0.1:0", "--socket", SOCKET, "--log", "error"];
        let mut child = command(dir)?.args(serve).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let said = child.stdout.take().ok_or_else(|| failed("the daemon has no output"))?;
        let mut daemon = Self { child, address: String::new(), token };
        let mut line = String::new();
        BufReader::new(said).read_line(&mut line).map_err(failed)?;
        let Ready { listen } = serde_json::from_str(&line).map_err(failed)?;
        let address = listen.first().and_then(|url| url.split_once("://"));
        daemon.address = address.map(|(_, address)| address.to_owned()).ok_or_else(|| failed(line))?;
        Ok(daemon)
    }

    fn head(&self, path: &str, fields: &str) -> String {
        let Self { address, token, .. } = self;
        format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n{fields}\r\n\r\n"
        )
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// This program, without the flags and places of whoever runs it.
fn command(dir: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SENDOFF_") {
            command.env_remove(name);
        }
    }
    for name in ["XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"] {
        command.env(name, dir);
    }
    command.stdin(Stdio::null());
    Ok(command)
}

/// Submits one job after the other over each of so many connections.
pub(super) async fn singles(dir: &Path, jobs: u64, callers: u64, tcp: bool) -> Result<Sample, Failure> {
    let daemon = Daemon::start(dir)?;
    let job = serde_json::to_string(&no_op().delay(LATER)).map_err(failed)?;
    let length = format!("content-type: application/json\r\ncontent-length: {}", job.len());
    let request: Arc<[u8]> = (daemon.head("/v1/jobs", &length) + &job).into_bytes().into();
    let mut streams: Vec<Box<dyn Stream>> = Vec::new();
    for _ in 0..callers {
        streams.push(if tcp {
            let stream = TcpStream::connect(&daemon.address).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            Box::new(stream)
        } else {
            Box::new(UnixStream::connect(SOCKET).await.map_err(failed)?)
        });
    }
    let left = Arc::new(AtomicU64::new(jobs));
    let mut tasks = JoinSet::new();
    let meter = Meter::start();
    for stream in streams {
        tasks.spawn(caller(stream, request.clone(), left.clone()));
    }
    let all = tasks.join_all().await;
    // The CPU time of this process is that of its clients.
    let sample = Sample { cpu_us: None, ..meter.stop(jobs) };
    let mut times = Times::new();
    for caller in all {
        times.merge(&caller.map_err(failed)?);
    }
    Ok(sample.with_times(times))
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn caller(
    mut stream: Box<dyn Stream>,
    request: Arc<[u8]>,
    left: Arc<AtomicU64>,
) -> std::io::Result<Times> {
    let mut times = Times::new();
    let mut answer = Vec::with_capacity(4_096);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let began = now();
        stream.write_all(&request).await?;
        read_answer(&mut stream, &mut answer).await?;
        times.add(now() - began);
        if !answer.starts_with(b"HTTP/1.1 201") {
            return Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned()));
        }
    }
    Ok(times)
}

/// Reads one answer that gives its length.
async fn read_answer(stream: &mut Box<dyn Stream>, answer: &mut Vec<u8>) -> std::io::Result<()> {
    answer.clear();
    let mut whole = usize::MAX;
    while answer.len() < whole {
        if stream.read_buf(answer).await? == 0 {
            return Err(std::io::Error::other("the daemon hung up"));
        }
        if whole == usize::MAX
            && let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let length: usize = length.ok_or_else(|| std::io::Error::other("an answer without a length"))?;
            whole = head + 4 + length;
        }
    }
    Ok(())
}

/// Submits them in one request, which goes in by parts.
pub(super) async fn batch(dir: &Path, jobs: u64) -> Result<Sample, Failure> {
    let daemon = Daemon::start(dir)?;
    let line = serde_json::to_string(&no_op().delay(LATER)).map_err(failed)? + "\n";
    let length = line.len() as u64 * jobs;
    let fields =
        format!("content-type: application/x-ndjson\r\ncontent-length: {length}\r\nconnection: close");
    let head = daemon.head("/v1/jobs:batch?atomic=false", &fields);
    let (mut answer, mut request) = TcpStream::connect(&daemon.address).await.map_err(failed)?.into_split();
    let meter = Meter::start();
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        request.write_all(head.as_bytes()).await?;
        let mut left = jobs;
        while left > 0 {
            let part = left.min(BATCH);
            left -= part;
            let lines = line.repeat(usize::try_from(part).unwrap_or(0));
            request.write_all(lines.as_bytes()).await?;
        }
        // Closing this half now would be taken for hanging up.
        Ok::<_, std::io::Error>(request)
    });
    let mut end = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = answer.read(&mut buffer).await.map_err(failed)?;
        if read == 0 {
            break;
        }
        end.extend_from_slice(&buffer[..read]);
        end.drain(..end.len().saturating_sub(400));
    }
    let sample = Sample { cpu_us: None, ..meter.stop(jobs) };
    sending.join_all().await.into_iter().collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let end = String::from_utf8_lossy(&end);
    if end.contains(&format!("\"created\":{jobs}")) { Ok(sample) } else { Err(failed(end)) }
}
