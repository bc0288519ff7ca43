//! Taking connections in.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    connection::Server,
    crowd::{Crowd, Seat},
    listen::Unix,
    tls::Tls,
};
use crate::log::Throttle;

/// How long to wait when the system has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
/// What clients may still take to get their answers after the daemon has stopped.
const LINGER: Duration = Duration::from_secs(5);

static TROUBLE: Throttle = Throttle::new(1);

/// One place where connections come in.
pub(super) enum Door {
    Unix(Unix),
    Tcp(TcpListener, Option<Tls>),
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream, Option<Tls>),
}

impl Door {
    /// Takes connections until it is told to stop, then lets requests under way end.
    pub(super) async fn keep(self, server: Arc<Server>, crowd: Arc<Crowd>, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        let stopped = stop.clone();
        let take_in = async {
            loop {
                // What ended meanwhile.
                while connections.try_join_next().is_some() {}
                match self.accept().await {
                    Ok(stream) => {
                        let seat = crowd.seat(|| server.api.end_waits()).await;
                        connections.spawn(serve(server.clone(), stream, seat, stopped.clone()));
                    }
                    Err(err) => {
                        // No descriptors left, or the client has gone again: others will end.
                        if TROUBLE.allows() {
                            tracing::warn!("a connection could not be taken: {err}");
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = take_in => {}
            _ = stop.changed() => {}
        }
        drop(self);
        let all = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LINGER, all).await;
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(unix) => unix.listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Tcp(listener, tls) => {
                listener.accept().await.map(|(stream, _)| Stream::Tcp(stream, tls.clone()))
            }
        }
    }

    /// The address, if it is by TCP.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix(_) => None,
            Self::Tcp(listener, _) => listener.local_addr().ok(),
        }
    }
}

fn serve(
    server: Arc<Server>,
    stream: Stream,
    seat: Arc<Seat>,
    stop: watch::Receiver<bool>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match stream {
        Stream::Unix(stream) => Box::pin(server.unix(stream, seat, stop)),
        Stream::Tcp(stream, tls) => Box::pin(server.tcp(stream, tls, seat, stop)),
    }
}
