//! Requests as the page has them, over the daemon's socket, or by TCP if they begin with an address.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
};

use http::StatusCode;

use super::shell::Shell;
use crate::harness::{Answer, Door, next_line};

/// Headers of answers that the page shows.
const SHOWN: [&str; 5] = ["content-type", "location", "allow", "www-authenticate", "retry-after"];

/// Characters in a line of JSON.
const WIDTH: usize = 100;

/// Sends a request: its line, headers, an empty line and a body, as far as there are any. `$name`
/// is what the shell has under that name. A line `$ command` is run once a stream has begun, which
/// is read until a job has started.
pub(super) fn ask(shell: &mut Shell, request: &str) -> String {
    let request = expand(shell, request);
    let (head, body) = request.split_once("\n\n").unwrap_or((&request, ""));
    let mut lines = head.lines();
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let (door, path) = door(shell, target);
    let (commands, mut headers): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with("$ "));
    if !body.is_empty() && !headers.iter().any(|line| line.to_lowercase().starts_with("content-type")) {
        headers.push("Content-Type: application/json");
    }
    if path.starts_with("/v1/events") {
        return listen(shell, &door, path, commands[0]);
    }
    show(&door.ask(method, path, &headers, body))
}

fn expand(shell: &mut Shell, request: &str) -> String {
    let mut parts = request.split('$');
    let mut text = parts.next().unwrap().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        if name.is_empty() {
            text.push('$');
        } else {
            text.push_str(&shell.run(&format!("printf %s \"${name}\"")));
        }
        text.push_str(rest);
    }
    text
}

fn door<'t>(shell: &Shell, target: &'t str) -> (Door, &'t str) {
    let Some(rest) = target.strip_prefix("http://") else { return (Door::Unix(shell.socket()), target) };
    let (address, path) = rest.split_at(rest.find('/').unwrap());
    (Door::Tcp(address.parse::<SocketAddr>().unwrap()), path)
}

fn show(answer: &Answer) -> String {
    let status = StatusCode::from_u16(answer.status).unwrap();
    let mut text = format!("{status}\n");
    for name in SHOWN {
        if let Some(value) = answer.header(name) {
            text.push_str(&format!("{name}: {value}\n"));
        }
    }
    let body = match serde_json::from_str::<serde::de::IgnoredAny>(&answer.body) {
        Ok(_) => lines(&spaced(&answer.body), 0),
        Err(_) => answer.body.clone(),
    };
    format!("{text}\n{}", body.trim_end()).trim_end().to_owned()
}

/// Opens a stream of events, runs the command, and reads until a job has started.
fn listen(shell: &mut Shell, door: &Door, path: &str, command: &str) -> String {
    let mut wire = door.connect();
    write!(wire, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reader = BufReader::new(wire);
    let status = next_line(&mut reader).replace("HTTP/1.1 ", "");
    let mut text = format!("{status}\ncontent-type: text/event-stream\n\n");
    // The first comment: it listens.
    until(&mut reader, ":");
    shell.run(command.trim_start_matches("$ "));
    text.push_str(&until(&mut reader, "data: {"));
    while !text.contains("started") {
        text.push_str(&until(&mut reader, "data: {"));
    }
    text.trim_end().to_owned()
}

/// The lines up to one that begins so, without the sizes of the pieces in which they came.
fn until(reader: &mut impl BufRead, words: &str) -> String {
    let mut text = String::new();
    let mut lines = reader.lines();
    loop {
        let line = lines.next().expect("the stream goes on").unwrap();
        assert!(text.matches("\n:").count() < 8, "nothing but heartbeats: {text}");
        if line.starts_with(':') || ["id:", "event:", "data:"].iter().any(|field| line.starts_with(field)) {
            text.push_str(&line);
            text.push('\n');
        }
        if line.starts_with(words) {
            return text + "\n";
        }
    }
}

/// JSON with a space after each comma and colon, and no other.
fn spaced(json: &str) -> String {
    let mut text = String::new();
    for (c, quoted) in marked(json).filter(|(c, quoted)| *quoted || !c.is_whitespace()) {
        text.push(c);
        if !quoted && matches!(c, ',' | ':') {
            text.push(' ');
        }
    }
    text
}

/// What is too wide for a line takes a line for each member.
fn lines(json: &str, indent: usize) -> String {
    let json = json.trim();
    // Behind the member's name, if it has one.
    let start = marked(json).position(|(c, quoted)| !quoted && matches!(c, '{' | '['));
    let Some(start) = start.filter(|_| indent + json.len() > WIDTH) else { return json.to_owned() };
    let mut members = vec![String::new()];
    let mut depth = 0;
    for (c, quoted) in marked(&json[start + 1..json.len() - 1]) {
        depth += i32::from(!quoted && matches!(c, '{' | '[')) - i32::from(!quoted && matches!(c, '}' | ']'));
        if depth == 0 && !quoted && c == ',' {
            members.push(String::new());
        } else {
            members.last_mut().unwrap().push(c);
        }
    }
    let members: Vec<_> = members.iter().map(|member| lines(member, indent + 2)).collect();
    let (pad, end) = (" ".repeat(indent + 2), " ".repeat(indent));
    let inside = members.join(&format!(",\n{pad}"));
    format!("{}\n{pad}{inside}\n{end}{}", &json[..=start], &json[json.len() - 1..])
}

/// Each character, and whether it belongs to a string.
fn marked(json: &str) -> impl Iterator<Item = (char, bool)> {
    let (mut open, mut escaped) = (false, false);
    json.chars().map(move |c| {
        let quoted = open || c == '"';
        if c == '"' && !escaped {
            open = !open;
        }
        escaped = open && c == '\\' && !escaped;
        (c, quoted)
    })
}
