//! From the command line to an open connection to the daemon.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use crate::{args::Connect, config::paths, failure::Failure};

/// What opening a connection may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection, whatever it runs over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where the daemon is.
pub(super) struct Daemon {
    place: Place,
    /// The Host header's value.
    pub(super) authority: String,
    /// What its URL says before the API's paths, without a slash at the end.
    pub(super) prefix: String,
    /// The Authorization header's value.
    pub(super) bearer: Option<HeaderValue>,
}

enum Place {
    /// The first of these that somebody listens on.
    Unix(Vec<PathBuf>),
    Tcp {
        host: String,
        port: u16,
        tls: Option<Box<(TlsConnector, ServerName<'static>)>>,
    },
}

impl Daemon {
    /// # Errors
    /// Exit 2: the URL, the token or the certificates cannot be used.
    pub(super) fn of(args: &Connect) -> Result<Self, Failure> {
        let bearer = bearer(args)?;
        let unix = |paths| Self {
            place: Place::Unix(paths),
            authority: "localhost".into(),
            prefix: String::new(),
            bearer: bearer.clone(),
        };
        let Some(text) = &args.url else {
            let sockets = paths::sockets();
            if sockets.is_empty() {
                return Err(Failure::usage(
                    "there is no place for the daemon's socket: none of XDG_RUNTIME_DIR, XDG_STATE_HOME and \
                     HOME is an absolute path; give --url",
                ));
            }
            return Ok(unix(sockets));
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return Ok(unix(vec![path.into()]));
        }
        let bad = |why: &str| {
            Failure::usage(format!(
                "--url {text:?}: {why}; write it like http://127.0.0.1:8222, https://example.com:8222 or unix:/PATH"
            ))
        };
        let url = Url::parse(text).map_err(|err| bad(&err.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Failure::usage(
                "--url: it must not hold a user or a password; give a token with --token",
            ));
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(bad("it names no host"));
        };
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some(Box::new((connector(args.ca.as_deref())?, server_name(&host)?))),
            _ => return Err(bad("its scheme is none of http, https and unix")),
        };
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let host = match host {
            Host::Ipv6(ip) => ip.to_string(),
            host => host.to_string(),
        };
        let prefix = url.path().trim_end_matches('/').to_owned();
        Ok(Self { place: Place::Tcp { host, port, tls }, authority, prefix, bearer })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Exit 4: nobody answers there, or not as they should.
    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        match timeout(TIMEOUT, self.open()).await {
            Ok(opened) => opened,
            Err(_) => Err(Failure::store(format!("{self}: no connection within {} s", TIMEOUT.as_secs()))),
        }
    }

    async fn open(&self) -> Result<Box<dyn Stream>, Failure> {
        match &self.place {
            Place::Unix(paths) => {
                let mut refused = None;
                for path in paths {
                    match UnixStream::connect(path).await {
                        Ok(stream) => return Ok(Box::new(stream)),
                        Err(err) if is_nobody(&err) => {}
                        Err(err) => {
                            refused.get_or_insert((path, err));
                        }
                    }
                }
                Err(match refused {
                    Some((path, err)) => Failure::store(format!("{}: {err}", path.display())),
                    None => {
                        Failure::store(format!("no daemon listens on {self}; start one with `sendoff serve`"))
                    }
                })
            }
            Place::Tcp { host, port, tls } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|err| {
                    if err.kind() == io::ErrorKind::ConnectionRefused {
                        Failure::store(format!(
                            "no daemon listens on {self}; start one with `sendoff serve --listen {host}:{port}`"
                        ))
                    } else {
                        Failure::store(format!("{self}: {err}"))
                    }
                })?;
                // It costs speed only.
                let _ = stream.set_nodelay(true);
                let Some(tls) = tls else { return Ok(Box::new(stream)) };
                let (connector, name) = &**tls;
                let stream = connector.connect(name.clone(), stream).await.map_err(|err| {
                    Failure::store(format!(
                        "{self}: TLS: {err}; if its certificate is your own, trust it with --ca FILE"
                    ))
                })?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl std::fmt::Display for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.place {
            Place::Unix(paths) => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                f.write_str(&paths.join(" or "))
            }
            Place::Tcp { tls: None, .. } => write!(f, "http://{}", self.authority),
            Place::Tcp { .. } => write!(f, "https://{}", self.authority),
        }
    }
}

/// Nobody is there, as opposed to somebody who is not for us.
fn is_nobody(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory
    )
}

fn bearer(args: &Connect) -> Result<Option<HeaderValue>, Failure> {
    let token = match (&args.token, &args.token_file) {
        (Some(token), _) => token.0.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|err| Failure::usage(format!("--token-file {}: {err}", file.display())))?,
        (None, None) => return Ok(None),
    };
    let bad = |_| Failure::usage("the token holds characters that no token has; give it as it was created");
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim())).map_err(bad)?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn server_name(host: &Host<&str>) -> Result<ServerName<'static>, Failure> {
    match host {
        Host::Ipv4(ip) => Ok(ServerName::IpAddress(std::net::IpAddr::V4(*ip).into())),
        Host::Ipv6(ip) => Ok(ServerName::IpAddress(std::net::IpAddr::V6(*ip).into())),
        Host::Domain(name) => ServerName::try_from((*name).to_owned())
            .map_err(|_| Failure::usage(format!("--url: {name:?} is no name that a certificate can have"))),
    }
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    match ca {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(file) => {
            let bad = |why: String| Failure::usage(format!("--ca {}: {why}", file.display()));
            let pem = std::fs::read(file).map_err(|err| bad(err.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|err| bad(err.to_string()))?;
                roots.add(certificate).map_err(|err| bad(err.to_string()))?;
            }
            if roots.is_empty() {
                return Err(bad("there is no certificate in it".into()));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(tls)))
}
