//! Endpoints that stall, break off, drip, pour and talk nonsense: each start has its outcome in time, and
//! the daemon's memory stays small.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use super::super::{caller::Caller, figure};
use crate::harness::{Daemon, Place};

/// What an endpoint does with a connection, and what is to be said of the start under `at_most_once`:
/// its state and the class of its error.
type Manner = (&'static str, fn(TcpStream) -> io::Result<()>, &'static str, &'static str);

const STARTED: (&str, &str) = ("started", "");
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

const MANNERS: [Manner; 20] = [
    ("takes the connection and does nothing", until_gone, "unknown", "ambiguous"),
    (
        "resets in the request",
        |mut stream| stream.read_exact(&mut [0]).and_then(|()| reset(stream)),
        "unknown",
        "ambiguous",
    ),
    (
        "resets after the request's head",
        |mut stream| head(&mut stream).and_then(|()| reset(stream)),
        "unknown",
        "ambiguous",
    ),
    ("closes without an answer", |mut stream| head(&mut stream), "unknown", "ambiguous"),
    (
        "resets in the status line",
        |stream| say(stream, b"HTTP/1.1 20").and_then(reset),
        "unknown",
        "ambiguous",
    ),
    (
        "resets in the head",
        |stream| say(stream, b"HTTP/1.1 200 OK\r\nx: y").and_then(reset),
        "unknown",
        "ambiguous",
    ),
    (
        "closes in the head",
        |stream| say(stream, b"HTTP/1.1 200 OK\r\nx: y\r\n").map(drop),
        "unknown",
        "ambiguous",
    ),
    ("stalls in the head", |stream| say(stream, OK).and_then(until_gone), "unknown", "ambiguous"),
    ("drips its head", |stream| drip(say(stream, OK)?, b"x"), "unknown", "ambiguous"),
    (
        "pours a header without end",
        |stream| pour(say(stream, b"HTTP/1.1 200 OK\r\nx: ")?, b"xxxxxxxxxxxxxxxx"),
        "unknown",
        "ambiguous",
    ),
    (
        "pours headers without end",
        |stream| pour(say(stream, OK)?, b"x: yyyyyyyyyyy\r\n"),
        "unknown",
        "ambiguous",
    ),
    (
        "pours a status line without end",
        |stream| pour(say(stream, b"HTTP/1.1 200 ")?, b"OKOKOKOKOKOKOKOK"),
        "unknown",
        "ambiguous",
    ),
    (
        "pours interim answers without end",
        |stream| pour(say(stream, b"")?, b"HTTP/1.1 100 Go on\r\n\r\n"),
        "unknown",
        "ambiguous",
    ),
    ("answers in zeros", |stream| pour(say(stream, b"")?, &[0; 16]), "unknown", "ambiguous"),
    (
        "speaks another protocol",
        |stream| say(stream, b"220 mail.example.com ESMTP\r\n").and_then(until_gone),
        "unknown",
        "ambiguous",
    ),
    (
        "answers before it has read the request and resets",
        |mut stream| {
            stream.read_exact(&mut [0])?;
            stream.write_all(b"HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n")?;
            head(&mut stream)?;
            reset(stream)
        },
        "unknown",
        "ambiguous",
    ),
    (
        "pours a body without end",
        |stream| pour(say(stream, b"HTTP/1.1 200 OK\r\n\r\n")?, &[b'x'; 16]),
        STARTED.0,
        STARTED.1,
    ),
    (
        "pours a body that was to be short",
        |stream| pour(say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")?, &[b'x'; 16]),
        STARTED.0,
        STARTED.1,
    ),
    (
        "pours chunks without end",
        |stream| {
            pour(
                say(stream, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?,
                b"b\r\nxxxxxxxxxxx\r\n",
            )
        },
        STARTED.0,
        STARTED.1,
    ),
    (
        "answers a bomb in gzip",
        |stream| {
            pour(
                say(
                    stream,
                    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\xff",
                )?,
                &[0; 16],
            )
        },
        STARTED.0,
        STARTED.1,
    ),
];

/// What such endpoints do before there is any request, which is known not to have been sent.
const TLS_MANNERS: [Manner; 5] = [
    ("takes the connection and does nothing", until_gone, "pending", "not_started"),
    (
        "resets in the handshake",
        |mut stream| stream.read(&mut [0; 64]).and_then(|_| reset(stream)),
        "pending",
        "not_started",
    ),
    (
        "closes in the handshake",
        |mut stream| {
            stream.read_exact(&mut [0; 64])?;
            stream.write_all(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76")
        },
        "pending",
        "not_started",
    ),
    (
        "speaks without TLS",
        |stream| say(stream, b"HTTP/1.1 200 OK\r\n\r\n").map(drop),
        "pending",
        "not_started",
    ),
    (
        "pours records without end",
        |mut stream| {
            stream.read_exact(&mut [0; 64])?;
            pour(stream, b"\x16\x03\x03\x40\x00\x02\x00\xff\xff\0\0\0\0\0\0\0")
        },
        "pending",
        "not_started",
    ),
];

/// Reads to the end of the request's head.
fn head(stream: &mut TcpStream) -> io::Result<()> {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        seen.push(byte[0]);
    }
    Ok(())
}

/// Writes this after the request's head.
fn say(mut stream: TcpStream, bytes: &[u8]) -> io::Result<TcpStream> {
    head(&mut stream)?;
    stream.write_all(bytes)?;
    Ok(stream)
}

fn until_gone(mut stream: TcpStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

fn reset(stream: TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
}

/// Ten bytes a second.
fn drip(mut stream: TcpStream, byte: &[u8]) -> io::Result<()> {
    loop {
        stream.write_all(byte)?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// This again and again, up to some gigabytes.
fn pour(mut stream: TcpStream, piece: &[u8]) -> io::Result<()> {
    let block = piece.repeat((64 << 10) / piece.len());
    for _ in 0..figure("SENDOFF_GIGABYTES", 4) << 14 {
        stream.write_all(&block)?;
    }
    stream.shutdown(Shutdown::Both)
}

fn open(manner: fn(TcpStream) -> io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // It ends when the daemon goes away.
            std::thread::spawn(move || drop(manner(stream.unwrap())));
        }
    });
    address
}

#[test]
fn each_start_has_its_outcome_and_memory_stays_small() {
    // Of each manner, at once.
    let each = figure("SENDOFF_STARTS", 6);
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--log", "error"]);
    let mut caller = Caller::new(place.path(daemon.ready["socket"].as_str().unwrap()));
    let before = daemon.peak_memory();
    let all = MANNERS
        .iter()
        .map(|manner| ("http", manner))
        .chain(TLS_MANNERS.iter().map(|manner| ("https", manner)));
    let mut expected = Vec::new();
    for (scheme, manner) in all {
        let address = open(manner.1);
        for _ in 0..each {
            let url = format!("{scheme}://{address}/");
            let job = json!({
                "start": {"http": {"url": url}}, "delivery": "at_most_once", "start_timeout": "2s",
                "retry": {"max_attempts": 2, "min_backoff": "1h", "max_backoff": "1h"}
            });
            let (status, record) = caller.ask("POST", "/v1/jobs", &job.to_string()).unwrap();
            assert_eq!(status, 201, "{record}");
            expected.push((record["guid"].as_str().unwrap().to_owned(), scheme, manner));
        }
    }
    for (guid, scheme, &(name, _, state, class)) in expected {
        let mut record = Value::Null;
        super::super::until("an outcome", || {
            record = caller.ask("GET", &format!("/v1/jobs/{guid}"), "").unwrap().1;
            record["state"] != "starting" && record["attempt"] != 0
        });
        assert_eq!(record["state"], state, "{scheme}, {name}: {record}");
        let error = &record["last_error"];
        assert_eq!(error["class"].as_str().unwrap_or_default(), class, "{scheme}, {name}: {record}");
        assert!(error["message"].as_str().is_none_or(|message| message.len() < 500), "{name}: {record}");
    }
    let grown = daemon.peak_memory() - before;
    let manners = MANNERS.len() + TLS_MANNERS.len();
    println!("{each} starts of each of {manners} manners at once: at most {grown} KiB more than before");
    assert!(grown < 64 << 10, "{grown} KiB");
    daemon.ask("GET", "/v1/stats", "").status(200);
    assert_eq!(daemon.stop().0, Some(0));
}
