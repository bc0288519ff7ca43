//! The same request without sendoff: as bytes over sockets, and by hyper's connections.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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

use crate::bench::sample::{Meter, Sample, Times, now};

/// The headers that sendoff sends, with values of the same length.
const HEADERS: [(&str, &str); 6] = [
    ("user-agent", "sendoff/0.1.0"),
    ("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ("x-sendoff-guid", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ("x-sendoff-queue", "default"),
    ("x-sendoff-attempt", "1"),
    ("x-sendoff-due-at", "2027-01-01T09:00:00.000000Z"),
];

type Failed = Box<dyn Error + Send + Sync>;

/// What is to be sent, how often and over how many connections.
#[derive(Clone)]
pub(in crate::bench) struct Posts {
    pub(in crate::bench) address: SocketAddr,
    pub(in crate::bench) body: usize,
    pub(in crate::bench) starts: u64,
    pub(in crate::bench) connections: usize,
}

/// As bytes: what no HTTP client can beat. The times are from the first byte to the answer.
pub(in crate::bench) async fn bytes(posts: &Posts) -> Result<Sample, Failed> {
    let mut head =
        format!("POST /hook HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n", posts.address, posts.body);
    for (name, value) in HEADERS {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let request: Arc<[u8]> = [head.into_bytes(), vec![b'x'; posts.body]].concat().into();
    let mut streams = Vec::new();
    for _ in 0..posts.connections {
        streams.push(connect(posts.address).await?);
    }
    all(posts, streams, |mut stream, left| {
        let request = request.clone();
        async move {
            let mut times = Times::new();
            let mut buffer = [0; 1024];
            while take(&left) {
                let began = now();
                stream.write_all(&request).await?;
                let mut held = 0;
                // The answer has no body.
                while !buffer[..held].ends_with(b"\r\n\r\n") {
                    let read = stream.read(&mut buffer[held..]).await?;
                    if read == 0 {
                        return Err("the endpoint closed a connection".into());
                    }
                    held += read;
                }
                times.add(now() - began);
            }
            Ok(times)
        }
    })
    .await
}

/// By hyper alone, each connection with a sender of its own.
pub(in crate::bench) async fn hyper(posts: &Posts) -> Result<Sample, Failed> {
    let mut headers = http::HeaderMap::new();
    let (host, length) = (posts.address.to_string(), posts.body.to_string());
    for (name, value) in HEADERS.into_iter().chain([("host", &*host), ("content-length", &*length)]) {
        headers.insert(http::HeaderName::from_bytes(name.as_bytes())?, value.parse()?);
    }
    let (headers, body) = (Arc::new(headers), Bytes::from(vec![b'x'; posts.body]));
    let mut senders = Vec::new();
    let mut drivers = JoinSet::new();
    for _ in 0..posts.connections {
        let stream = TokioIo::new(connect(posts.address).await?);
        let (sender, driver) = hyper::client::conn::http1::handshake(stream).await?;
        drivers.spawn(driver);
        senders.push(sender);
    }
    all(posts, senders, |mut sender, left| {
        let (headers, body) = (headers.clone(), body.clone());
        async move {
            let mut times = Times::new();
            while take(&left) {
                let began = now();
                let mut request = http::Request::new(Full::new(body.clone()));
                *request.method_mut() = http::Method::POST;
                *request.uri_mut() = http::Uri::from_static("/hook");
                *request.headers_mut() = (*headers).clone();
                sender.ready().await?;
                let answer = sender.send_request(request).await?;
                if answer.status() != http::StatusCode::NO_CONTENT {
                    return Err(format!("the endpoint answered {}", answer.status()).into());
                }
                times.add(now() - began);
            }
            Ok(times)
        }
    })
    .await
}

async fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A task for each connection.
async fn all<C, F>(
    posts: &Posts,
    connections: Vec<C>,
    work: impl Fn(C, Arc<AtomicU64>) -> F,
) -> Result<Sample, Failed>
where
    F: Future<Output = Result<Times, Failed>> + Send + 'static,
{
    let left = Arc::new(AtomicU64::new(posts.starts));
    let mut lanes = JoinSet::new();
    let meter = Meter::start();
    for connection in connections {
        lanes.spawn(work(connection, left.clone()));
    }
    let ended = lanes.join_all().await;
    let sample = meter.stop(posts.starts);
    let mut times = Times::new();
    for lane in ended {
        times.merge(&lane?);
    }
    Ok(sample.with_times(times))
}

fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}
