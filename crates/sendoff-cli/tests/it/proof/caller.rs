//! A client that keeps its connection, and says so when that broke.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use serde_json::Value;

/// A connection to the daemon's socket, made when it is needed.
pub(super) struct Caller {
    socket: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl Caller {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, stream: None }
    }

    /// Status and body of the answer. An error means that nobody knows whether the daemon did what was
    /// asked.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
        let answer = self.exchange(method, path, body);
        if answer.is_err() {
            self.stream = None;
        }
        answer
    }

    fn exchange(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
        let reader = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(BufReader::new(UnixStream::connect(&self.socket)?)),
        };
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{kind}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        reader.get_mut().write_all(request.as_bytes())?;
        let broken = |what: &str| io::Error::new(io::ErrorKind::UnexpectedEof, what.to_owned());
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let status =
            line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| broken("no status"))?;
        let mut length = 0;
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Err(broken("no whole head"));
            }
            match line.trim_end().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().map_err(|_| broken("no length"))?;
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes)?;
        Ok((status, serde_json::from_slice(&bytes)?))
    }
}
