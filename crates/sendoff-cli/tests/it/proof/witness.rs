//! Who knows from outside what was started: an endpoint and a file.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use sendoff::{
    Timestamp,
    time::{Clock, SystemClock},
};
use uuid::Uuid;

/// An endpoint that answers 204, after so many milliseconds as the path says, and keeps each call. At
/// `/again` the first call for a job is answered "later", at `/flaky` 500.
/// Its threads end with the connections, which end with the daemon.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Call>>>,
}

/// One request.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub(super) guid: Uuid,
    /// When its head was there.
    pub(super) at: Timestamp,
    /// When it was about to be answered; `None` if its caller was gone by then.
    pub(super) until: Option<Timestamp>,
    /// It was told to come again: nothing was started.
    refused: bool,
}

impl Endpoint {
    pub(super) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                std::thread::spawn(move || drop(answer(stream.unwrap(), &shared)));
            }
        });
        Self { address, seen }
    }

    /// The calls so far, in their order.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.seen.lock().unwrap().clone()
    }

    /// How often each guid was called, but for calls that were told to come again.
    pub(super) fn counts(&self) -> HashMap<Uuid, usize> {
        let mut counts = HashMap::new();
        for call in self.seen.lock().unwrap().iter().filter(|call| !call.refused) {
            *counts.entry(call.guid).or_default() += 1;
        }
        counts
    }
}

fn answer(stream: TcpStream, seen: &Mutex<Vec<Call>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let (mut guid, mut length, mut held) = (None, 0, Duration::ZERO);
        let (mut again, mut is_flaky) = (false, false);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("x-sendoff-guid") => {
                    guid = Some(value.parse().unwrap());
                }
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap()
                }
                Some(_) => {}
                None if line.trim_end().is_empty() => break,
                None => {
                    held = Duration::from_millis(milliseconds(&line));
                    again = line.split(' ').nth(1) == Some("/again");
                    is_flaky = line.split(' ').nth(1) == Some("/flaky");
                }
            }
        }
        // Counted as soon as the head is there: the start has begun, whatever becomes of the rest.
        let guid = guid.unwrap();
        let (place, refused, failed) = {
            let mut seen = seen.lock().unwrap();
            let is_first = seen.iter().all(|call| call.guid != guid);
            let refused = again && is_first;
            seen.push(Call { guid, at: SystemClock.now(), until: None, refused });
            (seen.len() - 1, refused, is_flaky && is_first)
        };
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        if !held.is_zero() {
            std::thread::sleep(held);
        }
        if !gone(reader.get_ref()) {
            seen.lock().unwrap()[place].until = Some(SystemClock.now());
        }
        let answer: &[u8] = match (refused, failed) {
            (true, _) => b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n",
            (_, true) => b"HTTP/1.1 500 Not Now\r\nContent-Length: 0\r\n\r\n",
            _ => b"HTTP/1.1 204 No Content\r\n\r\n",
        };
        reader.get_mut().write_all(answer)?;
    }
}

/// From `POST /20 HTTP/1.1`.
fn milliseconds(line: &str) -> u64 {
    line.split(' ').nth(1).and_then(|path| path[1..].parse().ok()).unwrap_or(0)
}

/// Whether the caller has closed, or was killed.
fn gone(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let peeked = stream.peek(&mut [0]);
    let _ = stream.set_nonblocking(false);
    !peeked.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// A file to which each started process appends its guid.
pub(super) struct Ledger(PathBuf);

impl Ledger {
    pub(super) fn new(path: PathBuf) -> Self {
        fs::write(&path, "").unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// How often each guid was started.
    pub(super) fn starts(&self) -> HashMap<Uuid, usize> {
        let mut starts = HashMap::new();
        for line in fs::read_to_string(&self.0).unwrap().lines() {
            *starts.entry(line.parse().unwrap()).or_default() += 1;
        }
        starts
    }

    /// The same, once those that are known to have started have had the time to write.
    pub(super) fn starts_with(&self, started: &[Uuid]) -> HashMap<Uuid, usize> {
        for _ in 0..1_000 {
            let starts = self.starts();
            if started.iter().all(|guid| starts.contains_key(guid)) {
                return starts;
            }
            // They are nobody's children that could be waited for.
            std::thread::sleep(Duration::from_millis(10));
        }
        self.starts()
    }
}
