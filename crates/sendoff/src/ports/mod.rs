//! Layer 2: the traits that the engine stands on.

mod fleet;
mod observer;
mod starter;
mod store;

pub use fleet::{ClaimVerdict, Fleet, Lease, NodeRecord, NodeState, Wake, Wanted};
pub use observer::{AttemptSeen, Observer};
pub(crate) use starter::AttemptClock;
pub use starter::{
    Answers, Attempt, Checked, Refusal, Running, StartError, StartErrorClass, StartFuture, StartMany,
    Starter, StarterDefaults,
};
pub use store::*;
