//! From a host and port to an open connection: name lookup, address policy, TCP, TLS.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::HeaderValue;
use rustix::io::Errno;
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::Host;

use super::lookup::Lookup;
use crate::{
    ports::{StartError, StartErrorClass},
    starter::{policy::Bounds, reach::address},
    time::Span,
};

/// How long one address is tried alone before the next one is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Where a connection leads.
pub(super) struct Endpoint {
    pub(super) host: Host<String>,
    pub(super) port: u16,
    /// The name to verify, for https.
    pub(super) tls: Option<ServerName<'static>>,
    /// Host and port in lower case, for limits and messages.
    pub(super) destination: String,
    /// The same as the target wants to see it.
    pub(super) host_header: HeaderValue,
}

/// Opens connections.
pub(super) struct Connector {
    timeout: Duration,
    lookup: Lookup,
    tls: TlsConnector,
}

/// A connection, in the clear or not.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Endpoint {
    /// Refuses a written address that the job may not reach. Where a name leads is asked when it is
    /// connected to.
    pub(super) fn admit(&self, bounds: &Bounds<'_>) -> Result<(), String> {
        match self.host {
            Host::Ipv4(ip) => admit(ip.into(), Some(bounds)),
            Host::Ipv6(ip) => admit(ip.into(), Some(bounds)),
            Host::Domain(_) => Ok(()),
        }
    }
}

impl Connector {
    /// A connector that gives each connection `timeout` for all steps together.
    pub(super) fn new(timeout: Duration, lookup: Lookup, tls: Arc<rustls::ClientConfig>) -> Self {
        Self { timeout, lookup, tls: TlsConnector::from(tls) }
    }

    /// Opens a connection, to one of the addresses that `bounds` allow. Nothing of a request has been
    /// sent when it fails.
    pub(super) async fn connect(
        &self,
        to: &Endpoint,
        bounds: Option<&Bounds<'_>>,
    ) -> Result<(Stream, IpAddr), StartError> {
        let mut step = "name lookup";
        match timeout(self.timeout, self.steps(to, bounds, &mut step)).await {
            Ok(result) => result,
            Err(_) => {
                let (destination, limit) = (&to.destination, Span::from(self.timeout));
                Err(StartError::not_started(format!("{destination}: {step} not done within {limit}")))
            }
        }
    }

    async fn steps(
        &self,
        to: &Endpoint,
        bounds: Option<&Bounds<'_>>,
        step: &mut &'static str,
    ) -> Result<(Stream, IpAddr), StartError> {
        let addresses: Vec<SocketAddr> = match &to.host {
            Host::Ipv4(ip) => vec![SocketAddr::from((*ip, to.port))],
            Host::Ipv6(ip) => vec![SocketAddr::from((*ip, to.port))],
            Host::Domain(name) => {
                self.lookup.addresses(name, to.port).await.map_err(|err| refused(to, "name lookup", &err))?
            }
        };
        *step = "connect";
        let (stream, peer) = race(to, bounds, addresses).await?;
        // A request is one write; waiting for more to send would only delay it.
        stream.set_nodelay(true).map_err(|err| refused(to, "connect", &err))?;
        let Some(name) = &to.tls else { return Ok((Stream::Plain(stream), peer)) };
        *step = "TLS handshake";
        match self.tls.connect(name.clone(), stream).await {
            Ok(stream) => Ok((Stream::Tls(Box::new(stream)), peer)),
            Err(err) => Err(handshake_error(to, &err)),
        }
    }
}

/// Tries the addresses in the resolver's order, each next one when the one before failed or is
/// slow; the first to answer wins and the others are closed.
async fn race(
    to: &Endpoint,
    bounds: Option<&Bounds<'_>>,
    addresses: Vec<SocketAddr>,
) -> Result<(TcpStream, IpAddr), StartError> {
    let mut waiting = addresses.into_iter().peekable();
    let mut racing = FuturesUnordered::new();
    let mut worst: Option<StartError> = None;
    loop {
        racing.extend(waiting.next().map(|address| dial(to, bounds, address)));
        let ended = if waiting.peek().is_some() {
            match timeout(STAGGER, racing.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        } else {
            racing.next().await
        };
        match ended {
            Some(Ok(stream)) => return Ok(stream),
            Some(Err(err)) => {
                if worst.as_ref().is_none_or(|worst| weight(err.class) >= weight(worst.class)) {
                    worst = Some(err);
                }
            }
            None => {
                return Err(worst.unwrap_or_else(|| {
                    StartError::not_started(format!("{}: name lookup found no address", to.destination))
                }));
            }
        }
    }
}

/// Of several addresses' errors, the one that leaves the job most: a full machine says nothing
/// about the target, and a refused address nothing about one that only failed.
fn weight(class: StartErrorClass) -> u8 {
    match class {
        StartErrorClass::Pressure => 2,
        StartErrorClass::NotStarted => 1,
        _ => 0,
    }
}

/// The only place that opens sockets, and only to admitted addresses.
async fn dial(
    to: &Endpoint,
    bounds: Option<&Bounds<'_>>,
    address: SocketAddr,
) -> Result<(TcpStream, IpAddr), StartError> {
    let peer = address.ip();
    admit(peer, bounds).map_err(|why| StartError::permanent(format!("{}: {why}", to.destination)))?;
    let connected = TcpStream::connect(address).await.map_err(|err| {
        if err.kind() == io::ErrorKind::AddrNotAvailable && !lacks_source(address) {
            return StartError::pressure(format!("{}: no local port is free", to.destination));
        }
        refused(to, "connect", &err)
    });
    Ok((connected?, peer))
}

/// The address policy: every address of every connection attempt passes here, written or looked up,
/// right before its socket is opened, so a name cannot lead elsewhere between check and use. So does
/// the far end of a kept connection before it is used again.
pub(super) fn admit(ip: IpAddr, bounds: Option<&Bounds<'_>>) -> Result<(), String> {
    let plain = ip.to_canonical();
    let broadcast = matches!(plain, IpAddr::V4(ip) if ip.is_broadcast());
    if plain.is_unspecified() {
        // Linux would connect to this very machine.
        return Err("0.0.0.0 and [::] are no address of a host; for this machine write localhost".into());
    }
    if plain.is_multicast() || broadcast {
        return Err("a multicast or broadcast address cannot be connected to".into());
    }
    let Some(bounds) = bounds else { return Ok(()) };
    address::admit(ip, |face| bounds.allow(|reach| address::holds(&reach.networks, face)))
        .map_err(|what| bounds.refuse(format_args!("{what}, and no allowed network holds it")))
}

/// EADDRNOTAVAIL means that all local ports are taken, or that this machine has no address to
/// reach the target from (IPv6 switched off): only the latter troubles UDP as well, which sends
/// nothing here.
fn lacks_source(address: SocketAddr) -> bool {
    let any: SocketAddr =
        if address.is_ipv4() { ([0; 4], 0).into() } else { (std::net::Ipv6Addr::UNSPECIFIED, 0).into() };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_err()
}

fn refused(to: &Endpoint, step: &str, err: &io::Error) -> StartError {
    let message = format!("{}: {step} failed: {err}", to.destination);
    match Errno::from_io_error(err) {
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => StartError::pressure(message),
        _ => StartError::not_started(message),
    }
}

fn handshake_error(to: &Endpoint, err: &io::Error) -> StartError {
    let cause = err.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(cause @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
            StartError::permanent(format!("{}: certificate refused: {cause}", to.destination))
        }
        _ => refused(to, "TLS handshake", err),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_no_one_host_are_refused_in_every_spelling() {
        for refused in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(admit(refused.parse().unwrap(), None).is_err(), "{refused}");
        }
        for admitted in ["127.0.0.1", "::1", "10.0.0.1", "203.0.113.7", "2001:db8::1"] {
            assert!(admit(admitted.parse().unwrap(), None).is_ok(), "{admitted}");
        }
    }

    #[test]
    fn a_machine_without_resources_is_not_the_targets_fault() {
        let to = Endpoint {
            host: Host::Domain("h".into()),
            port: 80,
            tls: None,
            destination: "h:80".into(),
            host_header: HeaderValue::from_static("h"),
        };
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert_eq!(refused(&to, "connect", &errno.into()).class, StartErrorClass::Pressure);
        }
        for errno in [Errno::CONNREFUSED, Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::TIMEDOUT] {
            assert_eq!(refused(&to, "connect", &errno.into()).class, StartErrorClass::NotStarted);
        }
        assert!(!lacks_source(([127, 0, 0, 1], 80).into()));
    }
}
