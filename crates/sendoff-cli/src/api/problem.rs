//! Errors on the wire: problem details (RFC 9457).

use http::StatusCode;
use serde_json::{Map, Value};

/// An answer that says what went wrong and what to do.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Stable; the last part of the problem's `type`, `/problems/{kind}`.
    pub(crate) kind: &'static str,
    /// What to do, in words.
    pub(crate) detail: String,
    /// Further members: `record`, `field`, `guid`, …
    pub(crate) members: Map<String, Value>,
    /// Seconds for a Retry-After header.
    pub(crate) retry_after: Option<u64>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), members: Map::new(), retry_after: None }
    }

    /// With one more member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }
}
