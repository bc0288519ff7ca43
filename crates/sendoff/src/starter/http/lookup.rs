//! From a name to its addresses.

use std::{io, net::SocketAddr};

use tokio::net::lookup_host;

/// Answers for a name and a port.
#[cfg(any(test, feature = "testing"))]
pub(super) type Answer = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// What answers.
#[derive(Clone, Default)]
pub(super) enum Lookup {
    /// The operating system's resolver.
    #[default]
    System,
    /// A test.
    #[cfg(any(test, feature = "testing"))]
    Scripted(std::sync::Arc<Answer>),
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
