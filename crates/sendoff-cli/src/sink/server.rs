//! The sink's HTTP server.

use std::{convert::Infallible, io, net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::ledger::{Ledger, Totals};
use crate::failure::Failure;

/// Connections served at once; more wait in the listener's backlog.
const CONNECTIONS: usize = 4_096;
/// A connection that sends no whole request head for so long is closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the ledger's lines go to its file.
const FLUSH: Duration = Duration::from_millis(100);
/// What a client may still take to get its answer after the sink was told to stop.
const LINGER: Duration = Duration::from_millis(500);

/// A running sink.
pub(crate) struct Sink {
    address: SocketAddr,
    ledger: Ledger,
    stop: watch::Sender<bool>,
    server: JoinSet<()>,
}

#[derive(Clone)]
struct Answer {
    ledger: Ledger,
    status: StatusCode,
    delay: Duration,
}

impl Sink {
    /// A sink that answers 204 at once and only counts.
    pub(crate) async fn plain(address: SocketAddr) -> Result<Self, Failure> {
        Self::listen(address, 204, Duration::ZERO, Ledger::new(None)?).await
    }

    /// Listens on a loopback address and serves.
    pub(crate) async fn listen(
        address: SocketAddr,
        status: u16,
        delay: Duration,
        ledger: Ledger,
    ) -> Result<Self, Failure> {
        if !address.ip().is_loopback() {
            return Err(Failure::usage(format!(
                "{address} is not a loopback address: the sink answers anyone and is for this machine only; \
                 use 127.0.0.1 or [::1]"
            )));
        }
        let status = StatusCode::from_u16(status).map_err(|err| Failure::usage(err.to_string()))?;
        let listener = TcpListener::bind(address).await.map_err(|err| {
            let advice = match err.kind() {
                io::ErrorKind::AddrInUse => {
                    "; something listens there already (another sink?): use that one, or another port"
                }
                _ => "",
            };
            Failure::usage(format!("cannot listen on {address}: {err}{advice}"))
        })?;
        let address = listener.local_addr().map_err(|err| Failure::usage(err.to_string()))?;
        let (stop, stopped) = watch::channel(false);
        let mut server = JoinSet::new();
        let answer = Answer { ledger: ledger.clone(), status, delay };
        server.spawn(accept(listener, answer, stopped));
        server.spawn(keep_flushing(ledger.clone()));
        Ok(Self { address, ledger, stop, server })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets requests under way end, and tells what it saw.
    pub(crate) async fn stop(mut self) -> Result<Totals, Failure> {
        let _ = self.stop.send(true);
        // The one that accepts ends by itself, with its connections; then the flusher goes.
        self.server.join_next().await;
        self.server.shutdown().await;
        self.ledger
            .flush()
            .map_err(|err| Failure::not_all(format!("the ledger lacks the last lines: {err}")))?;
        Ok(self.ledger.totals())
    }
}

async fn keep_flushing(ledger: Ledger) {
    loop {
        tokio::time::sleep(FLUSH).await;
        if let Err(err) = ledger.flush() {
            tracing::error!("the ledger lacks lines: {err}");
        }
    }
}

async fn accept(listener: TcpListener, answer: Answer, stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, answer.clone(), stopped.clone()));
                }
                Err(err) => {
                    // Out of descriptors, or the client has gone: wait for a connection to end.
                    tracing::warn!("accept: {err}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = told(&mut stop) => break,
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(LINGER + answer.delay, all).await;
}

async fn serve(stream: TcpStream, answer: Answer, mut stopped: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| respond(&answer, request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // An error here is the client's doing (it went away, or spoke no HTTP) and concerns nobody else.
    tokio::select! {
        ended = connection.as_mut() => drop(ended),
        () = told(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

/// Waits until the sink is to stop, or is gone.
async fn told(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn respond(answer: &Answer, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, mut body) = request.into_parts();
    // A body is read to its end, so that the connection can serve the next request.
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            break;
        }
    }
    if !answer.delay.is_zero() {
        tokio::time::sleep(answer.delay).await;
    }
    let header =
        |name| head.headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
    let guid = header("x-sendoff-guid").or_else(|| header("idempotency-key"));
    let attempt = header("x-sendoff-attempt").and_then(|text| text.parse().ok());
    answer.ledger.note(guid, attempt);
    let mut response = Response::new(Empty::new());
    *response.status_mut() = answer.status;
    Ok(response)
}
