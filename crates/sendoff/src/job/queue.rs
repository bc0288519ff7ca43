//! What a queue is held to.

use serde::{Deserialize, Serialize};

use crate::time::Span;

/// The limits of one queue. A queue without any starts whatever is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueLimits {
    /// Starts in flight at once, at least 1.
    pub max_in_flight: Option<usize>,
    /// Starts in a time.
    pub rate: Option<Rate>,
    /// Nothing of this queue is started.
    pub paused: bool,
}

/// So many starts in so much time, evenly, with bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Starts, at least 1.
    pub starts: u32,
    /// In this long.
    pub per: Span,
    /// So many may begin at once after a pause, at least 1.
    #[serde(default = "one")]
    pub burst: u32,
}

const fn one() -> u32 {
    1
}
