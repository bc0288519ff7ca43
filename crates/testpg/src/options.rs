//! What a test may choose about its server.

use std::path::PathBuf;

/// Settings of one server, on top of the usual ones.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) tls: Option<Tls>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Options {
    /// The usual settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more setting of `postgresql.conf`; `ALTER SYSTEM` still overrides it.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Offers TLS with this certificate and key (PEM files; both are copied). Needs an installation
    /// that [has TLS](crate::Installation::has_tls).
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some(Tls { certificate: certificate.into(), key: key.into() });
        self
    }
}

/// One line of `postgresql.conf`.
pub(crate) fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'\n", value.replace('\'', "''"))
}
