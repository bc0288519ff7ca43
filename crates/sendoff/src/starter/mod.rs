//! The starters that come with sendoff.

mod handler;
#[cfg(feature = "http")]
mod http;
mod policy;
#[cfg(all(feature = "process", target_os = "linux"))]
mod process;
#[cfg(any(feature = "http", all(feature = "process", target_os = "linux")))]
mod reach;
mod simulated;

pub use handler::{Call, HandlerStarter};
#[cfg(feature = "http")]
pub use http::{Http, HttpHeader, HttpSecret, HttpStarter, HttpStarterBuilder};
pub use policy::{Policy, SharedPolicy};
#[cfg(all(feature = "process", target_os = "linux"))]
pub use process::{Process, ProcessEnv, ProcessOptions, ProcessStarter};
pub use simulated::{Simulated, SimulatedStarter};
