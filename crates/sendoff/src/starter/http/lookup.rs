//! From a name to its addresses.

use std::{io, net::SocketAddr};

use tokio::net::lookup_host;

/// What answers.
#[derive(Clone, Default)]
pub(super) enum Lookup {
    /// The operating system's resolver.
    #[default]
    System,
    /// A test.
    #[cfg(any(test, feature = "testing"))]
    Scripted(std::sync::Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>),
}

impl Lookup {
    pub(super) async fn addresses(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(lookup_host((name, port)).await?.collect()),
            #[cfg(any(test, feature = "testing"))]
            Self::Scripted(answer) => answer(name, port),
        }
    }
}
