//! Whatever is sent to the daemon, it answers as its own description says.
//!
//! `SENDOFF_REQUESTS=20000 cargo test -p sendoff-cli described` sends more; a failure names its seed,
//! which `SENDOFF_SEED` repeats.

mod generate;
mod schema;

use std::{collections::BTreeMap, io::Read, str::FromStr};

use serde_json::Value;

use crate::harness::{Answer, Daemon, Place};
use generate::Draw;
use schema::Schemas;

/// A request, and whether its description allows it.
struct Request {
    method: String,
    path: String,
    headers: Vec<String>,
    body: String,
    forbidden: bool,
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().map(|text| text.parse().ok().expect("it is a number"))
}

#[test]
fn every_answer_is_as_described() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--store", "memory"]);
    let description = daemon.ask("GET", "/openapi.json", "").status(200).json();
    let schemas = Schemas::of(&description);
    let seed = variable("SENDOFF_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut draw = Draw::new(seed, &schemas);
    let paths = description["paths"].as_object().unwrap();
    let operations: Vec<_> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().iter().map(move |(method, operation)| (path, method, operation))
        })
        .collect();
    let mut seen = BTreeMap::<_, u32>::new();
    for number in 0..variable("SENDOFF_REQUESTS").unwrap_or(600) {
        // Each of them, and then as chance has it.
        let (path, method, operation) = match operations.get(number) {
            Some(operation) => operation,
            None => draw.one(&operations),
        };
        let request = request(&mut draw, &schemas, path, method, operation);
        let answer = send(&daemon, &request);
        *seen.entry((operation["operationId"].as_str(), answer.status)).or_default() += 1;
        if let Err(why) = judge(&schemas, operation, &request, &answer) {
            let Request { method, path, headers, body, .. } = request;
            panic!("SENDOFF_SEED={seed}: {why}\n{method} {path} {headers:?}\n{body}\n{answer:#?}");
        }
    }
    println!("seed {seed}: {seen:#?}");
    assert_eq!(daemon.stop().0, Some(0));
}

fn request(draw: &mut Draw, schemas: &Schemas, path: &str, method: &str, operation: &Value) -> Request {
    let mut request = Request {
        method: method.to_uppercase(),
        path: path.to_owned(),
        headers: Vec::new(),
        body: String::new(),
        forbidden: false,
    };
    let mut query = Vec::new();
    for parameter in operation["parameters"].as_array().unwrap() {
        let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
        let required = parameter["required"] == true;
        if !required && !draw.once_in(4) {
            continue;
        }
        let value = if draw.once_in(5) { draw.text().into() } else { draw.fitting(schema) };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match parameter["in"].as_str().unwrap() {
            "path" => {
                let text = if text.is_empty() { "a" } else { &text };
                request.path = request.path.replace(&format!("{{{name}}}"), &encoded(text));
            }
            "query" => {
                // A text is what it says to whoever reads a number.
                let read = if schema["type"] == "string" { None } else { serde_json::from_str(&text).ok() };
                request.forbidden |= !schemas.fits(schema, &read.unwrap_or_else(|| text.clone().into()));
                query.push(format!("{name}={}", encoded(&text)));
            }
            _ if text.contains(char::is_control) => {}
            _ => request.headers.push(format!("{name}: {text}")),
        }
    }
    if !query.is_empty() {
        request.path = format!("{}?{}", request.path, query.join("&"));
    }
    write_body(draw, schemas, operation, &mut request);
    request
}

fn write_body(draw: &mut Draw, schemas: &Schemas, operation: &Value, request: &mut Request) {
    let required = operation["requestBody"]["required"] == true;
    let Some(content) = operation["requestBody"]["content"].as_object() else { return };
    let media: Vec<_> = content.keys().collect();
    let media = draw.one(&media).as_str();
    let schema = &content["application/json"]["schema"];
    let mut value = draw.fitting(schema);
    if draw.once_in(2) {
        draw.spoil(&mut value);
    }
    request.headers.push(format!("Content-Type: {media}"));
    if required || draw.once_in(2) {
        request.body = match &value {
            Value::Array(jobs) if media == "application/x-ndjson" => {
                jobs.iter().map(|job| format!("{job}\n")).collect()
            }
            value => value.to_string(),
        };
    }
    // Itemised, each job is refused in a line of its own, under 200.
    let whole = media == "application/json" && !request.path.contains("atomic=false");
    request.forbidden |= whole && !request.body.is_empty() && !schemas.fits(schema, &value);
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// Sends it; of an answer that does not end by itself, only the head is read.
fn send(daemon: &Daemon, request: &Request) -> Answer {
    let headers: String = request.headers.iter().map(|header| format!("{header}\r\n")).collect();
    let (method, path, body) = (&request.method, &request.path, &request.body);
    let length = body.len();
    let mut wire = daemon.unix().connect();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    // It may answer and close before it has read everything.
    let _ = wire.write_all(text.as_bytes());
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") && wire.read(&mut byte).unwrap_or(0) == 1 {
        bytes.push(byte[0]);
    }
    if !String::from_utf8_lossy(&bytes).contains("text/event-stream") {
        let _ = wire.read_to_end(&mut bytes);
    }
    Answer::read(bytes.as_slice())
}

/// What of the answer is not as described.
fn judge(schemas: &Schemas, operation: &Value, request: &Request, answer: &Answer) -> Result<(), String> {
    let status = answer.status;
    let Some(described) = operation["responses"].get(status.to_string()) else {
        return Err(format!("the status {status} is not described"));
    };
    if status >= 500 && status != 503 {
        return Err(format!("{status} is the daemon's own fault"));
    }
    if request.forbidden && !(400..500).contains(&status) {
        return Err("what the description forbids was not refused".to_owned());
    }
    let Some(content) = schemas.follow(described)["content"].as_object() else {
        return if answer.body.is_empty() { Ok(()) } else { Err("no body is described".to_owned()) };
    };
    let media = answer.header("content-type").unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default();
    let Some(described) = content.get(media) else { return Err(format!("{media:?} is not described")) };
    let body = if media.ends_with("json") && media != "application/x-ndjson" {
        serde_json::from_str(&answer.body).map_err(|err| format!("the body is no JSON: {err}"))?
    } else {
        Value::from(answer.body.as_str())
    };
    schemas.check(&described["schema"], &body)
}
