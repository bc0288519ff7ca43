//! The limits: the same request as bytes, and through hyper alone.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::BODY;

const GUID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn headers(address: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("host", address.to_string()),
        ("user-agent", "sendoff/0.1.0".into()),
        ("content-length", BODY.to_string()),
        ("idempotency-key", GUID.into()),
        ("x-sendoff-guid", GUID.into()),
        ("x-sendoff-queue", "default".into()),
        ("x-sendoff-attempt", "1".into()),
        ("x-sendoff-due-at", "2027-01-01T09:00:00.000000Z".into()),
    ]
}

/// As bytes over sockets, each answer read to the length of the first one.
pub(crate) async fn bytes(address: SocketAddr, starts: usize, connections: usize) {
    let mut head = "POST /hook HTTP/1.1\r\n".to_owned();
    for (name, value) in headers(address) {
        head += &format!("{name}: {value}\r\n");
    }
    let request: Arc<[u8]> = [head.as_bytes(), b"\r\n", &[b'x'; BODY]].concat().into();
    let left = Arc::new(AtomicUsize::new(starts));
    let mut lanes = JoinSet::new();
    for _ in 0..connections {
        let (request, left) = (Arc::clone(&request), Arc::clone(&left));
        lanes.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("the server listens");
            stream.set_nodelay(true).expect("a TCP socket");
            let (mut buffer, mut length) = ([0; 1024], 0);
            while take(&left) {
                stream.write_all(&request).await.expect("the server reads");
                let mut held = 0;
                while held == 0 || held < length || (length == 0 && !buffer[..held].ends_with(b"\r\n\r\n")) {
                    let read = stream.read(&mut buffer[held..]).await.expect("the server answers");
                    assert!(read > 0, "the server keeps its connections");
                    held += read;
                }
                length = held;
            }
        });
    }
    lanes.join_all().await;
}

/// Over hyper connections: the price of HTTP without ours.
pub(crate) async fn through_hyper(address: SocketAddr, starts: usize, connections: usize) {
    let left = Arc::new(AtomicUsize::new(starts));
    let mut template = http::HeaderMap::new();
    for (name, value) in headers(address) {
        template.insert(name, value.parse().expect("a value"));
    }
    let (template, body) = (Arc::new(template), Bytes::from(vec![b'x'; BODY]));
    let (mut lanes, mut drivers) = (JoinSet::new(), JoinSet::new());
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let (mut requests, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        drivers.spawn(driver);
        let (template, body, left) = (Arc::clone(&template), body.clone(), Arc::clone(&left));
        lanes.spawn(async move {
            while take(&left) {
                let mut request = http::Request::new(Full::new(body.clone()));
                *request.method_mut() = http::Method::POST;
                *request.uri_mut() = http::Uri::from_static("/hook");
                *request.headers_mut() = (*template).clone();
                requests.ready().await.expect("the connection is kept");
                let answer = requests.send_request(request).await.expect("the server answers");
                assert_eq!(answer.status(), 204);
            }
        });
    }
    lanes.join_all().await;
}

pub(crate) fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
