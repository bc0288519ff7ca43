//! Where the database is, and how to connect to it.

use std::{fmt, future::Future};

use tokio_postgres::{Client, Config, NoTls};

use crate::error::{Error, ErrorKind, Result};

/// A database, as a URL names it. Shows no password.
#[derive(Clone)]
pub(super) struct Target {
    config: Config,
}

/// One connection: the client, and what drives it.
pub(super) struct Connected<D> {
    pub(super) client: Client,
    pub(super) driver: D,
}

impl Target {
    /// # Errors
    /// [`Error::is_invalid`], without the URL's password.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let config = url.parse().map_err(|err| Error::invalid("the store's URL").with_source(err))?;
        Ok(Self { config })
    }

    /// Opens one connection. Its driver must be polled: it yields notifications and notices, and
    /// ends with the connection.
    pub(super) async fn connect(
        &self,
    ) -> Result<Connected<impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static>> {
        let (client, connection) = self.config.connect(NoTls).await.map_err(|err| {
            Error::new(ErrorKind::Unavailable, "the database cannot be reached").with_source(err)
        })?;
        Ok(Connected { client, driver: connection })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("hosts", &self.config.get_hosts()).finish_non_exhaustive()
    }
}
