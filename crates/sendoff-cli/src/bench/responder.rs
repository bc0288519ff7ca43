//! The endpoint that HTTP starts are measured against.

use std::{convert::Infallible, net::Ipv4Addr, process::ExitCode, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use super::workload::{failed, one_thread};
use crate::{
    failure::{Exit, Failure},
    out,
};

/// All that a bare endpoint ever answers.
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// Answers each request with a body of so many bytes, after so many milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) endpoint: Endpoint,
    pub(super) body: usize,
    pub(super) delay_ms: u64,
}

/// How an endpoint works, always on one thread.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Endpoint {
    /// As a fast web server: reads head and body, and answers with a date.
    Server,
    /// Looks for the end of the request and nothing else: no server does so little.
    Bare,
}

impl Part {
    /// Prints where it listens and serves until it is killed.
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        allow_descriptors();
        let Self { endpoint, body, delay_ms } = self;
        let delay = Duration::from_millis(delay_ms);
        one_thread(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
            out::line(&listener.local_addr().map_err(failed)?.to_string())?;
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                match endpoint {
                    Endpoint::Server => connections.spawn(serve(stream, delay)),
                    Endpoint::Bare => connections.spawn(answer(stream, body, delay)),
                };
                while connections.try_join_next().is_some() {}
            }
        })?;
        Ok(Exit::Ok.into())
    }
}

async fn serve(stream: TcpStream, delay: Duration) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        pause(delay).await;
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok::<_, Infallible>(response)
    });
    // An error is the client's going away.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(mut stream: TcpStream, body: usize, delay: Duration) {
    let (mut buffer, mut held) = (vec![0; 4096], 0);
    while let Ok(read) = stream.read(&mut buffer[held..]).await {
        held += read;
        let head = buffer[..held].windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| held == head + 4 + body) {
            pause(delay).await;
            if stream.write_all(ANSWER).await.is_err() {
                return;
            }
            held = 0;
        } else if read == 0 {
            // The client has gone, or sent more than a request.
            return;
        }
    }
}

async fn pause(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Each connection takes a descriptor.
pub(super) fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
