//! One connection, and the requests on it.

use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    sync::watch,
    time::timeout,
};

use super::{
    body::{Seated, Timed},
    crowd::Seat,
    gate::{Gate, Peer},
    live::Live,
    tls::Tls,
};
use crate::api::{Api, Body};

/// Bytes of a request's head, and headers in it.
const HEAD_BYTES: usize = 64 * 1024;
const HEADERS: usize = 100;

/// What all connections share.
pub(super) struct Server {
    pub(super) api: Arc<Api>,
    pub(super) gate: Gate,
    pub(super) live: Live,
}

impl Server {
    /// Serves a caller on this machine.
    pub(super) async fn unix(
        self: Arc<Self>,
        stream: UnixStream,
        seat: Arc<Seat>,
        stop: watch::Receiver<bool>,
    ) {
        match stream.peer_cred() {
            Ok(peer) => self.serve(stream, Peer::Unix { uid: peer.uid() }, seat, stop).await,
            Err(err) => tracing::debug!("a peer that nobody can name: {err}"),
        }
    }

    /// Serves a caller from anywhere.
    pub(super) async fn tcp(
        self: Arc<Self>,
        stream: TcpStream,
        tls: Option<Tls>,
        seat: Arc<Seat>,
        stop: watch::Receiver<bool>,
    ) {
        let (Ok(local), Ok(remote)) = (stream.local_addr(), stream.peer_addr()) else { return };
        let peer = Peer::Tcp { local: local.ip().to_canonical(), remote: remote.ip().to_canonical() };
        let _ = stream.set_nodelay(true);
        let limits = self.live.current().config().limits.clone();
        // A peer that takes nothing of what is sent to it is given up by the kernel.
        let patience = u32::try_from(limits.body_timeout().as_millis()).unwrap_or(u32::MAX);
        let _ = rustix::net::sockopt::set_tcp_user_timeout(&stream, patience);
        let Some(tls) = tls else { return self.serve(stream, peer, seat, stop).await };
        let shaken = tokio::select! {
            shaken = timeout(limits.header_timeout(), tls.acceptor().accept(stream)) => shaken,
            () = seat.left() => return,
        };
        match shaken {
            Ok(Ok(stream)) => self.serve(stream, peer, seat, stop).await,
            Ok(Err(err)) => tracing::debug!(?peer, "no TLS: {err}"),
            Err(_) => tracing::debug!(?peer, "no TLS: the handshake took too long"),
        }
    }

    async fn serve(
        self: Arc<Self>,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: Peer,
        seat: Arc<Seat>,
        mut stop: watch::Receiver<bool>,
    ) {
        let limits = self.live.current().config().limits.clone();
        let patience = limits.body_timeout();
        let service = service_fn(|request| {
            let (server, seat) = (self.clone(), seat.clone());
            async move { Ok::<_, Infallible>(server.answer(request, peer, &seat, patience).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout())
            .max_headers(HEADERS)
            .max_header_size(HEAD_BYTES)
            .max_buf_size(2 * HEAD_BYTES)
            .serve_connection(TokioIo::new(io), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = seat.left() => return tracing::debug!(?peer, "an idle connection made room for another"),
            () = told(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(err) = ended {
            // The client's doing, which concerns nobody else.
            tracing::debug!(?peer, "a connection broke off: {err}");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: Peer,
        seat: &Arc<Seat>,
        patience: Duration,
    ) -> Response<Seated<Body>> {
        let Some(busy) = seat.busy() else {
            // The connection is being closed: nothing of this request was looked at.
            return pending().await;
        };
        let (head, body) = request.into_parts();
        let response = match self.gate.judge(&head, peer) {
            Ok(who) => {
                let body = Timed::new(body, patience).boxed();
                self.api.handle(Request::from_parts(head, body), who).await
            }
            Err(problem) => {
                tracing::debug!(?peer, "refused: {}", problem.kind);
                problem.into_response()
            }
        };
        response.map(|body| Seated::new(body, busy))
    }
}

/// Waits until the daemon has stopped.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
