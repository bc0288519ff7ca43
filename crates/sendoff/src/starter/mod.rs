//! The starters that come with sendoff.

mod handler;
#[cfg(feature = "http")]
mod http;
mod simulated;

pub use handler::{Call, HandlerStarter};
#[cfg(feature = "http")]
pub use http::{Http, HttpStarter, HttpStarterBuilder};
pub use simulated::{Simulated, SimulatedStarter};
