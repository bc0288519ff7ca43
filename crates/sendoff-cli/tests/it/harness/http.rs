//! Requests by hand: what a client library would not let a test send.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
};

use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::Value;

/// Where a daemon can be reached.
#[derive(Debug, Clone)]
pub(crate) enum Door {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// Both directions of a connection.
pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

impl Door {
    pub(crate) fn connect(&self) -> Box<dyn Wire> {
        match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
            Self::Tcp(address) => Box::new(TcpStream::connect(address).unwrap()),
        }
    }

    /// Sends these bytes and reads what comes until the daemon closes the connection.
    pub(crate) fn exchange(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut wire = self.connect();
        // It may answer and close before it has read everything.
        let _ = wire.write_all(bytes.as_ref());
        Answer::read(wire)
    }

    /// One request on a connection of its own; each header as `Name: value`.
    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let host = if headers.iter().any(|header| header.to_lowercase().starts_with("host:")) {
            String::new()
        } else {
            "Host: localhost\r\n".to_owned()
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n");
        for header in headers {
            head.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.exchange(format!("{head}\r\n{body}"))
    }
}

/// A response, or nothing (status 0) if the connection was closed without one.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// Reads to the end of the connection.
    pub(crate) fn read(mut wire: impl Read) -> Self {
        let mut bytes = Vec::new();
        // A connection that is reset has said what it had to say before.
        let _ = wire.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, rest)) = text.split_once("\r\n\r\n") else {
            assert!(text.is_empty(), "no whole response: {text:?}");
            return Self { status: 0, headers: Vec::new(), body: String::new() };
        };
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let mut answer = Self { status, headers: headers.collect(), body: rest.to_owned() };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = unchunked(rest);
        }
        answer
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(held, _)| held == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|err| panic!("{err}: {self:?}"))
    }

    /// Fails unless the status is this.
    #[track_caller]
    pub(crate) fn status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless it is a problem of this kind.
    #[track_caller]
    pub(crate) fn problem(self, status: u16, kind: &str) -> Self {
        let answer = self.status(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["type"], format!("/problems/{kind}"), "{answer:?}");
        assert_eq!(problem["status"], status, "{answer:?}");
        answer
    }
}

fn unchunked(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let end = size.min(after.len());
        body.push_str(&after[..end]);
        rest = after.get(end + 2..).unwrap_or_default();
        if size == 0 {
            break;
        }
    }
    body
}

/// The client's side of TLS to localhost, which trusts this certificate alone.
pub(crate) fn tls_client(trusted: CertificateDer<'static>) -> rustls::ClientConnection {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    rustls::ClientConnection::new(Arc::new(client), name).unwrap()
}
