//! A client that keeps its connection, and says so when that broke.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use serde_json::Value;

/// A connection to the socket of one of several daemons, made when it is needed.
pub(super) struct Caller {
    sockets: Vec<PathBuf>,
    /// The one in use.
    at: usize,
    patience: Duration,
    stream: Option<BufReader<UnixStream>>,
    /// The Retry-After of the last answer, in seconds.
    pub(super) retry_after: Option<u64>,
}

impl Caller {
    pub(super) fn new(socket: PathBuf) -> Self {
        // Longer than any `?wait=` that is asked for.
        Self::of_fleet(vec![socket], 0, Duration::from_secs(90))
    }

    /// A caller that begins at the socket of this number and waits so long for an answer.
    pub(super) fn of_fleet(sockets: Vec<PathBuf>, first: usize, patience: Duration) -> Self {
        let at = first % sockets.len();
        Self { sockets, at, patience, stream: None, retry_after: None }
    }

    /// Turns to the next daemon.
    pub(super) fn elsewhere(&mut self) {
        if self.sockets.len() > 1 {
            self.at = (self.at + 1) % self.sockets.len();
            self.stream = None;
        }
    }

    /// Status and body of the answer. An error means that nobody knows whether the daemon did what was
    /// asked.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
        let bytes = self.fetch(method, path, body)?;
        Ok((bytes.0, serde_json::from_slice(&bytes.1)?))
    }

    /// The same, with the body as it came.
    pub(super) fn fetch(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
        let answer = self.exchange(method, path, body);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn connect(&self) -> io::Result<BufReader<UnixStream>> {
        let stream = UnixStream::connect(&self.sockets[self.at])?;
        stream.set_read_timeout(Some(self.patience))?;
        Ok(BufReader::new(stream))
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
        if self.stream.is_none() {
            self.stream = Some(self.connect()?);
        }
        let broken = |what: &str| io::Error::new(io::ErrorKind::UnexpectedEof, what.to_owned());
        let reader = self.stream.as_mut().ok_or_else(|| broken("no connection"))?;
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{kind}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        reader.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status =
            line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| broken("no status"))?;
        let mut length = 0;
        self.retry_after = None;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(broken("no whole head"));
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().map_err(|_| broken("no length"))?;
                }
                Some((name, value)) if name.eq_ignore_ascii_case("retry-after") => {
                    self.retry_after = value.parse().ok();
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        Ok((status, bytes))
    }
}
