//! What tests of stores and engines share. Behind the feature `testing`; not for production builds.

pub mod conformance;
mod flaky;
mod fleet;
pub mod fuzz;
pub mod model;
mod scripted;
mod turns;

pub use crate::mutant::Mutant;
pub use flaky::{FlakyStore, Held, Method, Trouble, Why};
pub use fleet::{FleetNode, FleetOf};
pub use scripted::{Answer, HeldAttempt, HeldAttempts, Plan, Scripted, ScriptedStarter, Seen};
pub use turns::Turns;
