//! Starts by HTTP request: one request, answered with a 2xx status, over HTTP/1.1 in the clear or by
//! TLS. The answer counts once its head is whole; one that is cut off before leaves the outcome open.
//!
//! It writes and reads its connections itself and stands on no client: who sends what again, and over
//! which connection, decides between at most once and at least once, so nothing below may decide
//! that. Redirects, proxies, retries, decompression and cookies do not exist here.

mod answer;
mod connect;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod header;
mod link;
mod lookup;
mod outcome;
mod payload;
mod pool;
mod prepare;
mod request;
mod rest;
mod secret;

use std::{fmt, sync::Arc, time::Duration};

use http::HeaderValue;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::value::RawValue;

use super::SharedPolicy;
use crate::{
    error::{Error, Result},
    job::{Delivery, Grant, Payload, Receipt},
    ports::{Attempt, Checked, Refusal, StartError, StartFuture, Starter, StarterDefaults},
};
use connect::Connector;
pub use header::{HttpHeader, HttpSecret};
use link::Broken;
use lookup::Lookup;
pub use payload::Http;
use pool::{Limits, Pool};
use prepare::{Place, prepare};
use request::Request;

/// Starts [`Http`] payloads.
///
/// Idle connections are kept and used again, but never for at_most_once: a connection that the
/// target closed meanwhile would make such a start ambiguous. Must be used inside a tokio runtime;
/// dropping it closes its idle connections.
pub struct HttpStarter {
    pool: Arc<Pool>,
    user_agent: HeaderValue,
    max_per_destination: usize,
    policy: Option<SharedPolicy>,
}

/// Options of an [`HttpStarter`].
#[derive(Clone)]
pub struct HttpStarterBuilder {
    connect_timeout: Duration,
    max_response_body: usize,
    idle_time: Duration,
    max_per_destination: usize,
    user_agent: String,
    roots_pem: Vec<u8>,
    lookup: Lookup,
    policy: Option<SharedPolicy>,
}

impl HttpStarter {
    /// A starter with the defaults of [`HttpStarterBuilder`].
    pub fn new() -> Self {
        let builder = Self::builder();
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        builder.assemble(roots, HeaderValue::from_static(USER_AGENT))
    }

    /// Options first.
    pub fn builder() -> HttpStarterBuilder {
        HttpStarterBuilder {
            connect_timeout: Duration::from_secs(5),
            max_response_body: 64 * 1024,
            idle_time: Duration::from_secs(90),
            max_per_destination: 64,
            user_agent: USER_AGENT.to_owned(),
            roots_pem: Vec::new(),
            lookup: Lookup::System,
            policy: None,
        }
    }

    async fn request(&self, attempt: Attempt) -> Result<Receipt, StartError> {
        let payload: Http = serde_json::from_str(attempt.payload.get()).map_err(|err| {
            // serde's own words would quote the payload.
            StartError::permanent(format!("the payload is no HTTP start (column {})", err.column()))
        })?;
        let permanent = |Refusal { field, message }| StartError::permanent(format!("{field}: {message}"));
        let known = self.pool.place(&payload.url).map_err(permanent)?;
        let mut prepared = prepare(payload).map_err(permanent)?;
        let bounds = self.policy.as_ref().map(|policy| policy.bounds(attempt.grant.as_deref()));
        let bounds = bounds.as_ref();
        if prepared.has_secrets() {
            // Boxed, so that starts without secrets stay small.
            Box::pin(prepared.reveal(bounds)).await?;
        }
        let once = attempt.delivery == Delivery::AtMostOnce;
        let trusting = !once || prepared.trust_retry_after;
        let request = Request::new(prepared, &attempt, &known, &self.user_agent)?;
        let origin = &known.origin;
        let mut kept = if once { None } else { origin.take(bounds) };
        loop {
            let reused = kept.is_some();
            let mut link = match kept.take() {
                Some(link) => link,
                // Boxed, so that starts on kept connections stay small.
                None => Box::pin(self.pool.connect(origin, bounds)).await?,
            };
            if let Err(err) = attempt.begin() {
                if reused {
                    origin.keep(link);
                }
                return Err(err);
            }
            match link.exchange(&request).await {
                Ok(answer) => {
                    // One that the request said would be closed is dropped, and so closed, now.
                    if !once {
                        self.pool.finish(origin, link);
                    }
                    let now = || attempt.clock.read().map_or(attempt.due_at, |(_, now)| now);
                    return outcome::judge(origin.destination(), &answer, now, trusting);
                }
                // The target closed an idle connection just now: a new one will do. To open it takes
                // time, in which a deadline may pass.
                Err(Broken::Unsent) if reused => attempt.clock.take_back(),
                Err(broken) => return Err(outcome::broken(origin.destination(), &broken)),
            }
        }
    }
}

const USER_AGENT: &str = concat!("sendoff/", env!("CARGO_PKG_VERSION"));

impl Default for HttpStarter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HttpStarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpStarter")
            .field("max_per_destination", &self.max_per_destination)
            .finish_non_exhaustive()
    }
}

impl Starter for HttpStarter {
    fn name(&self) -> &str {
        Http::STARTER
    }

    fn defaults(&self) -> StarterDefaults {
        StarterDefaults {
            max_per_destination: self.max_per_destination,
            nonblocking: true,
            ..StarterDefaults::default()
        }
    }

    fn check(&self, payload: &RawValue, grant: Option<&Grant>) -> Result<Checked, Refusal> {
        let payload: Http = Refusal::read(payload)?;
        let endpoint = Place::read(&payload.url)?.endpoint()?;
        let prepared = prepare(payload)?;
        if let Some(policy) = &self.policy {
            let bounds = policy.bounds(grant);
            endpoint.admit(&bounds).map_err(|why| Refusal::new("url", why))?;
            prepared.admit(&bounds)?;
        }
        Ok(Checked { destination: Some(endpoint.destination) })
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        Box::pin(self.request(attempt))
    }
}

impl HttpStarterBuilder {
    /// How long name lookup, connecting and the TLS handshake may take together. Default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many bytes of an answer's body are read, and thrown away, to use its connection again;
    /// a longer answer closes the connection. Whatever it is, the start does not wait for the
    /// body. Default 64 KiB.
    #[must_use]
    pub fn max_response_body(mut self, bytes: usize) -> Self {
        self.max_response_body = bytes;
        self
    }

    /// How long a connection is kept without use, give or take 5 s. Default 90 s.
    #[must_use]
    pub fn idle_time(mut self, time: Duration) -> Self {
        self.idle_time = time;
        self
    }

    /// Starts in flight to one host and port, and connections kept idle to it. Default 64, which
    /// is faster than more against a fast target.
    #[must_use]
    pub fn max_per_destination(mut self, starts: usize) -> Self {
        self.max_per_destination = starts;
        self
    }

    /// The `User-Agent` of jobs that give none. Default `sendoff/` and the version.
    #[must_use]
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = name.into();
        self
    }

    /// Trusts the certificates in this PEM text too, beside Mozilla's: those of a private CA.
    #[must_use]
    pub fn root_certificates_pem(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.roots_pem.extend_from_slice(pem.as_ref());
        self.roots_pem.push(b'\n');
        self
    }

    /// Holds each connection and each secret to this policy and the job's grant: public addresses
    /// may be called and others only in [`Reach::networks`](crate::Reach::networks), whatever a name
    /// leads to at that moment; only [`Reach::secrets`](crate::Reach::secrets) may be sent. Default:
    /// none, every address that names a host may be called and every secret sent.
    #[must_use]
    pub fn policy(mut self, policy: SharedPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Asks `answer` for the addresses of each name instead of the operating system.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn resolver(
        mut self,
        answer: impl Fn(&str, u16) -> std::io::Result<Vec<std::net::SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.lookup = Lookup::Scripted(Arc::new(answer));
        self
    }

    /// The starter.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if a certificate cannot be read, if the user agent is no header value,
    /// or if a limit is zero.
    pub fn build(self) -> Result<HttpStarter> {
        if self.max_per_destination == 0 || self.connect_timeout.is_zero() {
            return Err(Error::invalid("max_per_destination and connect_timeout must not be zero"));
        }
        let user_agent = HeaderValue::from_str(&self.user_agent)
            .map_err(|_| Error::invalid("the user agent must be printable ASCII"))?;
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if !self.roots_pem.is_empty() {
            let bad = |err: &dyn fmt::Display| Error::invalid(format!("root certificates: {err}"));
            let before = roots.len();
            for certificate in CertificateDer::pem_slice_iter(&self.roots_pem) {
                roots.add(certificate.map_err(|err| bad(&err))?).map_err(|err| bad(&err))?;
            }
            if roots.len() == before {
                return Err(bad(&"the PEM text holds no certificate"));
            }
        }
        Ok(self.assemble(roots, user_agent))
    }

    fn assemble(self, roots: RootCertStore, user_agent: HeaderValue) -> HttpStarter {
        // The provider is named, not installed: a library changes no process-wide state.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let limits = Limits {
            idle_per_origin: self.max_per_destination,
            idle_time: self.idle_time,
            body_cap: self.max_response_body,
        };
        let connector = Connector::new(self.connect_timeout, self.lookup, Arc::new(tls));
        HttpStarter {
            pool: Pool::new(connector, limits),
            user_agent,
            max_per_destination: self.max_per_destination,
            policy: self.policy,
        }
    }
}

impl fmt::Debug for HttpStarterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpStarterBuilder")
            .field("connect_timeout", &self.connect_timeout)
            .field("max_response_body", &self.max_response_body)
            .field("idle_time", &self.idle_time)
            .field("max_per_destination", &self.max_per_destination)
            .field("user_agent", &self.user_agent)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        guid::Guid,
        ports::{Running, StartErrorClass},
    };

    fn attempt(payload: &Http) -> Attempt {
        let payload = serde_json::value::to_raw_value(payload).unwrap();
        Attempt::for_test(Guid::from_bytes([7; 16]), payload, Running::unlimited())
    }

    #[test]
    fn a_start_in_flight_is_small() {
        let starter = HttpStarter::new();
        let size = size_of_val(&starter.request(attempt(&Http::post("http://h/"))));
        // What is larger than 1 KiB, glibc's allocator does not keep at hand.
        assert!(size <= 1_024, "{size} bytes");
    }

    /// A starter for `http://h/`, which leads to `listener`, with one connection to it that the
    /// target has reset, but that looks idle: the runtime was not asked for events since.
    async fn with_a_stale_connection(
        listener: &TcpListener,
        looked_up: impl Fn() + Send + Sync + 'static,
    ) -> HttpStarter {
        let address = listener.local_addr().unwrap();
        let resolver = move |_: &str, _| {
            looked_up();
            Ok(vec![address])
        };
        let starter = HttpStarter::builder().resolver(resolver).build().unwrap();
        let target = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream).await;
            stream
        };
        let (result, stream) = tokio::join!(starter.start(attempt(&Http::post("http://h/"))), target);
        result.unwrap();
        stream.set_zero_linger().unwrap();
        drop(stream);
        // What takes this way comes behind the reset.
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut here = std::net::TcpStream::connect(other.local_addr().unwrap()).unwrap();
        let mut there = other.accept().unwrap().0;
        std::io::Write::write_all(&mut there, b"x").unwrap();
        std::io::Read::read_exact(&mut here, &mut [0]).unwrap();
        starter
    }

    async fn answer(stream: &mut TcpStream) {
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
    }

    #[tokio::test]
    async fn a_request_that_its_connection_did_not_take_goes_over_a_new_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let starter = with_a_stale_connection(&listener, || {}).await;
        let target = async { answer(&mut listener.accept().await.unwrap().0).await };
        let (result, ()) = tokio::join!(starter.start(attempt(&Http::post("http://h/"))), target);
        assert_eq!(result.unwrap().status, Some(204));
    }

    #[tokio::test]
    async fn a_request_that_its_connection_did_not_take_has_not_begun() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clock = Arc::new(std::sync::Mutex::new(None::<Arc<crate::ports::AttemptClock>>));
        let second = Arc::clone(&clock);
        let looked_up = move || {
            if let Some(clock) = second.lock().unwrap().take() {
                assert!(clock.stop(), "it was known not to have begun");
            }
        };
        let starter = with_a_stale_connection(&listener, looked_up).await;
        let attempt = attempt(&Http::post("http://h/"));
        *clock.lock().unwrap() = Some(Arc::clone(&attempt.clock));
        let error = starter.start(attempt).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Released, "{error}");
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0, "connected anew, and nothing sent");
    }

    #[tokio::test]
    async fn a_start_that_may_not_begin_sends_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let starter = HttpStarter::new();
        let attempt = attempt(&Http::post(format!("http://{}/", listener.local_addr().unwrap())));
        assert!(attempt.clock.stop());
        let error = starter.start(attempt).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Released);
        let (mut stream, _) = listener.accept().await.unwrap();
        let read = stream.read(&mut [0; 16]).await;
        assert_eq!(read.unwrap(), 0, "connected, and closed without a byte");
    }
}
