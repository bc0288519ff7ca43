//! TLS for TCP callers.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;

use crate::{config::Config, failure::Failure};

/// The certificate in use, which may be renewed while the daemon runs.
#[derive(Clone)]
pub(super) struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Tls {
    /// Reads certificate and key, if there are any.
    pub(super) fn load(config: &Config) -> Result<Option<Self>, Failure> {
        let server = config.tls().map(|(certificate, key)| read(certificate, key)).transpose()?;
        Ok(server.map(|server| Self(Arc::new(RwLock::new(server)))))
    }

    /// Reads both again; connections that stand keep what they have.
    pub(super) fn reload(&self, config: &Config) -> Result<(), Failure> {
        if let Some((certificate, key)) = config.tls() {
            let server = read(certificate, key)?;
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = server;
        }
        Ok(())
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone().into()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, Failure> {
    let wrong = |name: &str, path: &Path, err: &dyn std::fmt::Display| {
        Failure::usage(format!("{name}: {} cannot be used: {err}", path.display()))
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|err| wrong("tls.certificate", certificate, &err))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|err| wrong("tls.key", key, &err))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret))
        .map_err(|err| wrong("tls.certificate", certificate, &err))?;
    Ok(Arc::new(server))
}
