//! Requests as the page has them, over the daemon's socket.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;

/// Sends a request (its line, headers, an empty line and a body, as far as there are any) and gives
/// the answer: the status, the type, and the body, JSON in lines. Of a stream, as many events as are
/// shown.
pub(super) fn ask(socket: &Path, request: &str, shown: &str) -> String {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let (line, headers) = head.split_once('\n').unwrap_or((head, ""));
    let mut stream = UnixStream::connect(socket).unwrap();
    let mut text = format!("{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    for header in headers.lines() {
        text.push_str(&format!("{header}\r\n"));
    }
    if !body.is_empty() && !headers.to_ascii_lowercase().contains("content-type") {
        text.push_str("content-type: application/json\r\n");
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    stream.write_all(text.as_bytes()).unwrap();

    let mut reader = BufReader::new(stream);
    let status = next_line(&mut reader);
    let mut kind = String::new();
    let mut chunked = false;
    loop {
        let header = next_line(&mut reader);
        match header.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-type") => kind = value.to_owned(),
            Some((name, value)) if name.eq_ignore_ascii_case("transfer-encoding") => {
                chunked = value == "chunked"
            }
            Some(_) => {}
            None => break,
        }
    }
    let events = if kind.starts_with("text/event-stream") {
        shown.matches("data: ").count().max(1)
    } else {
        usize::MAX
    };
    let body = if chunked { dechunked(&mut reader, events) } else { rest(&mut reader) };
    let body = match serde_json::from_str::<Value>(&body) {
        Ok(value) => serde_json::to_string_pretty(&value).unwrap(),
        Err(_) => body.trim_end().to_owned(),
    };
    let status = status.strip_prefix("HTTP/1.1 ").unwrap_or(&status);
    format!("{status}\n{kind}\n\n{body}").trim_end().to_owned()
}

fn next_line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn rest(reader: &mut impl Read) -> String {
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text
}

/// The chunks' contents, up to so many events.
fn dechunked(reader: &mut impl BufRead, events: usize) -> String {
    let mut text = String::new();
    loop {
        let size = usize::from_str_radix(&next_line(reader), 16).unwrap();
        let mut chunk = vec![0; size];
        reader.read_exact(&mut chunk).unwrap();
        next_line(reader);
        text.push_str(&String::from_utf8(chunk).unwrap());
        if size == 0 || text.matches("data: ").count() >= events && text.ends_with("\n\n") {
            return text;
        }
    }
}
