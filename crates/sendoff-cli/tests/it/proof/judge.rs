//! Who knows from outside what was started: an endpoint and a file.

use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

/// An endpoint that answers 204 and counts the requests of each guid. Its threads end with the
/// connections, which end with the daemon.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<HashMap<String, usize>>>,
}

impl Endpoint {
    pub(super) fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                std::thread::spawn(move || drop(answer(stream.unwrap(), &shared)));
            }
        });
        Self { address, seen }
    }

    /// How often each guid was called.
    pub(super) fn calls(&self) -> HashMap<String, usize> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(stream: TcpStream, seen: &Mutex<HashMap<String, usize>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        let (mut guid, mut length) = (None, 0);
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("x-sendoff-guid") => {
                    guid = Some(value.to_owned())
                }
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap()
                }
                _ if line.trim_end().is_empty() => break,
                _ => {}
            }
        }
        // Counted as soon as the head is there: the start has begun, whatever becomes of the rest.
        *seen.lock().unwrap().entry(guid.unwrap()).or_default() += 1;
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        reader.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    }
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
    pub(super) fn starts(&self) -> HashMap<String, usize> {
        let mut starts = HashMap::new();
        for line in fs::read_to_string(&self.0).unwrap().lines() {
            *starts.entry(line.to_owned()).or_default() += 1;
        }
        starts
    }
}
