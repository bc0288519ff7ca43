//! The starters that come with sendoff.

mod handler;
mod simulated;

pub use handler::{Call, HandlerStarter};
pub use simulated::{Simulated, SimulatedStarter};
