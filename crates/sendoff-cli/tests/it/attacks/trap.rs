//! A place that nobody should reach.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
};

/// Answers every request the same, and tells of each connection and each request.
pub(super) struct Trap {
    pub(super) address: SocketAddr,
    seen: Receiver<String>,
}

impl Trap {
    /// On this address of loopback.
    pub(super) fn on(ip: &str, answer: impl Into<String>) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, seen) = channel();
        let answer = answer.into();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (sender, answer) = (sender.clone(), answer.clone());
                let _ = sender.send("connection".to_owned());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.unwrap());
                    while let Some(head) = head(&mut reader) {
                        let _ = sender.send(head);
                        let _ = reader.get_mut().write_all(answer.as_bytes());
                    }
                });
            }
        });
        Self { address, seen }
    }

    /// The heads of the requests until now, and how many connections there were.
    pub(super) fn seen(&self) -> (usize, Vec<String>) {
        // Connections are taken in the order in which they came: this one is the last.
        let mut probe = TcpStream::connect(self.address).unwrap();
        probe.write_all(b"PROBE\r\n\r\n").unwrap();
        let (mut connections, mut heads) = (0, Vec::new());
        for told in self.seen.iter() {
            match told.as_str() {
                "connection" => connections += 1,
                "PROBE\r\n" => break,
                _ => heads.push(told),
            }
        }
        (connections - 1, heads)
    }
}

/// The next head, without the empty line; none at the end.
fn head(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if line.trim_end().is_empty() {
            return Some(head);
        }
        head.push_str(&line);
    }
}
