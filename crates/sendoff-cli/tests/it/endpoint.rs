//! An HTTP endpoint whose answers the test holds in its hand.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

/// Answers 204 to the first so many requests, and to all once it is opened.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    seen: Receiver<String>,
    gate: Arc<Gate>,
    /// Requests by guid.
    pub(crate) counts: HashMap<String, usize>,
}

struct Gate {
    left: Mutex<usize>,
    changed: Condvar,
}

/// A test that waits for longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

impl Endpoint {
    pub(crate) fn answering(first: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Gate { left: Mutex::new(first), changed: Condvar::new() });
        let (sender, seen) = channel();
        let shared = gate.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (sender, gate) = (sender.clone(), shared.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &sender, &gate));
            }
        });
        Self { address, seen, gate, counts: HashMap::new() }
    }

    /// Waits for so many requests.
    pub(crate) fn wait_for(&mut self, requests: usize) {
        for number in 0..requests {
            let guid = self.seen.recv_timeout(PATIENCE);
            let guid = guid.unwrap_or_else(|err| panic!("after {number} of {requests} requests: {err}"));
            *self.counts.entry(guid).or_default() += 1;
        }
    }

    /// Counts what has come besides.
    pub(crate) fn drain(&mut self) {
        while let Ok(guid) = self.seen.try_recv() {
            *self.counts.entry(guid).or_default() += 1;
        }
    }

    /// Answers everything from now on.
    pub(crate) fn open(&self) {
        *self.gate.left.lock().unwrap() = usize::MAX;
        self.gate.changed.notify_all();
    }
}

fn serve(stream: TcpStream, seen: &Sender<String>, gate: &Gate) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    loop {
        let (mut guid, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            // The client was killed, or has no more requests.
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("x-sendoff-guid: ") {
                value.clone_into(&mut guid);
            }
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() || seen.send(guid).is_err() {
            return;
        }
        let left = gate.left.lock().unwrap();
        let mut left = gate.changed.wait_while(left, |left| *left == 0).unwrap();
        *left = left.saturating_sub(1).max(if *left == usize::MAX { usize::MAX } else { 0 });
        drop(left);
        if writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}
