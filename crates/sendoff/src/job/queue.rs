//! What a queue is held to.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    time::Span,
};

/// The limits of one queue. A queue without any starts whatever is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct QueueLimits {
    /// Starts in flight at once, at least 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = usize::MAX)))]
    pub max_in_flight: Option<usize>,
    /// Starts in a time.
    pub rate: Option<Rate>,
    /// Nothing of this queue is started.
    pub paused: bool,
}

impl QueueLimits {
    /// Refuses limits under which nothing would ever start.
    ///
    /// # Errors
    /// [`Error::is_invalid`], naming the field.
    pub fn check(&self) -> Result<()> {
        let refuse = |field: &str, why: &str| Err(Error::invalid(format!("{field}: {why}")));
        if self.max_in_flight == Some(0) {
            return refuse("max_in_flight", "it must be at least 1; pause the queue to start nothing");
        }
        match self.rate {
            Some(Rate { starts: 0, .. }) => {
                refuse("rate.starts", "it must be at least 1; pause the queue to start nothing")
            }
            Some(Rate { burst: 0, .. }) => refuse("rate.burst", "it must be at least 1"),
            Some(Rate { per, .. }) if per.duration().is_zero() => {
                refuse("rate.per", "it must be longer than 0s")
            }
            _ => Ok(()),
        }
    }
}

/// So many starts in so much time, evenly, with bursts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Starts, at least 1.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = u32::MAX)))]
    pub starts: u32,
    /// In this long, more than 0 s.
    pub per: Span,
    /// So many may begin at once after a pause, at least 1.
    #[serde(default = "one")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = u32::MAX)))]
    pub burst: u32,
}

const fn one() -> u32 {
    1
}
