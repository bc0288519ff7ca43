//! Real PostgreSQL servers for tests, benchmarks and examples: found or fetched, started in a
//! moment, killed and promoted at will, and never alive longer than the process that started them.
//! Linux only.

mod error;
mod failover;
mod installation;
mod options;
mod place;
mod pooler;
mod port;
mod processes;
mod proxy;
mod server;
mod session;
mod watchdog;
mod wheel;

use std::sync::OnceLock;

pub use error::{Error, Result};
pub use installation::Installation;
pub use options::Options;
pub use pooler::Pooler;
pub use proxy::Proxy;
pub use server::Server;
pub use session::Session;

/// Whether tests shall use a server at all. Not with `SENDOFF_TEST_PG=off`, which it then says in a line: the test
/// returns.
pub fn wanted() -> bool {
    let off = std::env::var_os("SENDOFF_TEST_PG").is_some_and(|value| value == "off");
    if off {
        println!("skipped: SENDOFF_TEST_PG=off");
    }
    !off
}

/// This process's one server for all tests that need only a database of their own, started on first use.
///
/// # Panics
/// If no server can be started; the message says the cure.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| {
        Installation::find()
            .and_then(|installation| Server::start(&installation, Options::new()))
            .unwrap_or_else(|error| panic!("{error}"))
    })
}
