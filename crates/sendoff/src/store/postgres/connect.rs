//! Where the database is, and how to connect to it.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio_postgres::{
    AsyncMessage, Client, Config, Connection, Notification, Socket, config::Host, error::SqlState,
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{tls, url};
use crate::error::{Error, ErrorKind, Result};

/// How long one server may take to accept a connection, unless the URL says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long without an acknowledgement from the other side a connection is lost.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVES_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVES_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVES_RETRIES: u32 = 3;

/// A database, as a URL names it. Shows no password.
#[derive(Clone)]
pub(super) struct Target {
    /// One for each server, in the order in which they are tried.
    servers: Vec<Config>,
    tls: MakeRustlsConnect,
    prepares: bool,
}

/// One connection: the client, and what drives it.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) driver: Driver,
}

/// Must be polled for its client to get on; ends with the connection.
pub(super) type Driver = BoxFuture<'static, Result<(), tokio_postgres::Error>>;

impl Target {
    /// Reads a URL, see [`PostgresStore::connect`](super::PostgresStore::connect); a password that
    /// it lacks is taken from the environment variable PGPASSWORD.
    ///
    /// # Errors
    /// [`Error::is_invalid`], without the URL's password.
    pub(super) fn parse(url: &str) -> Result<Self> {
        Self::parse_with(url, std::env::var("PGPASSWORD").ok())
    }

    fn parse_with(url: &str, password: Option<String>) -> Result<Self> {
        let parts = url::split(url)?;
        let mut config: Config = parts.rest.parse().map_err(|err: tokio_postgres::Error| {
            // The driver's words name the part; the text itself may hold the password.
            let why = std::error::Error::source(&err).map(ToString::to_string).unwrap_or_default();
            Error::invalid(format!("the store's URL: {why}"))
        })?;
        if config.get_hosts().is_empty() {
            return Err(Error::invalid(
                "the store's URL names no host: postgres://user@host/database, or ?host=/directory for a socket",
            ));
        }
        if let (None, Some(password)) = (config.get_password(), password) {
            config.password(password);
        }
        config.ssl_mode(parts.tls.mode());
        if config.get_application_name().is_none() {
            config.application_name("sendoff");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(TCP_USER_TIMEOUT);
        }
        if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            config.keepalives_idle(KEEPALIVES_IDLE);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_interval(KEEPALIVES_INTERVAL);
        }
        if config.get_keepalives_retries().is_none() {
            config.keepalives_retries(KEEPALIVES_RETRIES);
        }
        Ok(Self {
            servers: url::servers(&config)?,
            tls: tls::connector(&parts.tls)?,
            prepares: parts.prepares,
        })
    }

    /// Servers and database as a URL, without user, password and options.
    pub(super) fn place(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(name).collect();
        let database = self.servers.first().and_then(|server| server.get_dbname().or(server.get_user()));
        format!("postgres://{}/{}", servers.join(","), database.unwrap_or_default())
    }

    /// Whether the URL lets sessions keep prepared statements.
    pub(super) fn prepares(&self) -> bool {
        self.prepares
    }

    /// Whether the URL names several servers, of which one takes writes at a time.
    pub(super) fn has_standbys(&self) -> bool {
        self.servers.len() > 1
    }

    /// Opens one connection. Its driver must be polled.
    ///
    /// # Errors
    /// [`Error::is_unavailable`] if no server answers, or none that takes writes;
    /// [`Error::is_unusable`] if one refuses for good: the user, the password, the database, TLS.
    pub(super) async fn connect(&self) -> Result<Connected> {
        self.connect_listening(drop).await
    }

    /// The same, for a connection that is to `LISTEN`: notifications go to `notified`, on the task
    /// that polls the driver.
    pub(super) async fn connect_listening(
        &self,
        notified: impl FnMut(Notification) + Send + Unpin + 'static,
    ) -> Result<Connected> {
        let mut failures = Vec::new();
        for server in &self.servers {
            let limit = server.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
            // The driver's own limit ends with the TCP handshake.
            match tokio::time::timeout(limit, server.connect(self.tls.clone())).await {
                Ok(Ok((client, connection))) => {
                    return Ok(Connected { client, driver: Box::pin(Driving { connection, notified }) });
                }
                Ok(Err(err)) => failures.push(refused(server, &err)),
                Err(_) => failures.push((
                    ErrorKind::Unavailable,
                    format!("{}: no answer within {} s", name(server), limit.as_secs()),
                )),
            }
        }
        // One that may come back outweighs one that never will.
        let kind = match failures.iter().any(|(kind, _)| *kind == ErrorKind::Unavailable) {
            true => ErrorKind::Unavailable,
            false => ErrorKind::Unusable,
        };
        let words: Vec<_> = failures.into_iter().map(|(_, words)| words).collect();
        Err(Error::new(kind, format!("the database cannot be reached: {}", words.join("; "))))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers: Vec<_> = self.servers.iter().map(name).collect();
        let database = self.servers.first().and_then(Config::get_dbname);
        f.debug_struct("Target")
            .field("servers", &servers)
            .field("database", &database)
            .finish_non_exhaustive()
    }
}

fn name(server: &Config) -> String {
    let port = server.get_ports().first().copied().unwrap_or(5432);
    match server.get_hosts().first() {
        Some(Host::Tcp(host)) => format!("{host}:{port}"),
        Some(Host::Unix(directory)) => format!("{}/.s.PGSQL.{port}", directory.display()),
        None => String::new(),
    }
}

/// Why a server was not connected to, with what to do about it.
fn refused(server: &Config, err: &tokio_postgres::Error) -> (ErrorKind, String) {
    let words = format!("{}: {}", name(server), chain(err));
    let Some(code) = err.code() else {
        let tls = err.to_string().contains("TLS");
        return match tls {
            true => (
                ErrorKind::Unusable,
                format!(
                    "{words}; name the certificate's authority by sslrootcert=FILE, or say sslmode=disable where \
                     nobody else can listen"
                ),
            ),
            false => (ErrorKind::Unavailable, words),
        };
    };
    let class = code.code().get(..2);
    if class == Some("28") {
        (ErrorKind::Unusable, format!("{words}; check the URL's user and password, or PGPASSWORD"))
    } else if *code == SqlState::INVALID_CATALOG_NAME {
        (ErrorKind::Unusable, format!("{words}; create it, or name another"))
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        (ErrorKind::Unusable, words)
    } else {
        (ErrorKind::Unavailable, words)
    }
}

/// An error with its causes: the driver's own words say no more than "db error".
pub(super) fn chain(err: &tokio_postgres::Error) -> String {
    if let Some(db) = err.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut words = err.to_string();
    let mut source = std::error::Error::source(err);
    while let Some(cause) = source {
        words = format!("{words}: {cause}");
        source = cause.source();
    }
    words
}

type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

struct Driving<F> {
    connection: Connection<Socket, Stream>,
    notified: F,
}

impl<F: FnMut(Notification) + Unpin> Future for Driving<F> {
    type Output = Result<(), tokio_postgres::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match ready!(self.connection.poll_message(cx)) {
                Some(Ok(AsyncMessage::Notification(notification))) => (self.notified)(notification),
                Some(Ok(AsyncMessage::Notice(notice))) => {
                    tracing::debug!(notice = notice.message(), "the database says");
                }
                Some(Ok(_)) => {}
                Some(Err(err)) => return Poll::Ready(Err(err)),
                None => return Poll::Ready(Ok(())),
            }
        }
    }
}
