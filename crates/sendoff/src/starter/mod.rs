//! The starters that come with sendoff.

mod handler;
#[cfg(feature = "http")]
mod http;
#[cfg_attr(not(any(feature = "http", feature = "process")), allow(dead_code, reason = "nobody asks it"))]
mod policy;
#[cfg(all(feature = "process", target_os = "linux"))]
mod process;
#[cfg(any(feature = "http", all(feature = "process", target_os = "linux")))]
mod reach;
mod simulated;

pub use handler::{Call, HandlerStarter};
#[cfg(all(feature = "http", feature = "testing"))]
pub(crate) use http::fuzz as http_fuzz;
#[cfg(feature = "http")]
pub use http::{Http, HttpHeader, HttpSecret, HttpStarter, HttpStarterBuilder};
pub use policy::{Policy, SharedPolicy};
#[cfg(all(feature = "process", feature = "testing", target_os = "linux"))]
pub use process::spawn_in_a_loop;
#[cfg(all(feature = "process", target_os = "linux"))]
pub use process::{Process, ProcessEnv, ProcessOptions, ProcessStarter};
pub use simulated::{Simulated, SimulatedStarter};
