//! TLS to the database. Whatever the mode, a certificate is verified wherever there is one.

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, ErrorKind, Result};

/// What a URL says of TLS.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) verify: Verify,
    /// A PEM file of the authorities to trust; none: those of the web.
    pub(super) roots: Option<PathBuf>,
}

/// When to use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verify {
    NoTls,
    /// If the server offers it.
    IfOffered,
    Always,
}

impl Tls {
    pub(super) fn mode(&self) -> SslMode {
        match self.verify {
            Verify::NoTls => SslMode::Disable,
            Verify::IfOffered => SslMode::Prefer,
            Verify::Always => SslMode::Require,
        }
    }
}

/// # Errors
/// Unusable if the file of authorities cannot be read or holds none.
pub(super) fn connector(tls: &Tls) -> Result<MakeRustlsConnect> {
    let mut roots = RootCertStore::empty();
    match &tls.roots {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unusable =
                |why: &str| Error::new(ErrorKind::Unusable, format!("sslrootcert {}: {why}", path.display()));
            let certificates = CertificateDer::pem_file_iter(path)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|err| unusable("cannot be read as PEM").with_source(err))?;
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(unusable("holds no certificate that can be used"));
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|err| Error::new(ErrorKind::Unusable, "TLS cannot be set up").with_source(err))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
