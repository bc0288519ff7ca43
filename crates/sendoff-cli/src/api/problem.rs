//! Errors on the wire: problem details (RFC 9457).

use std::fmt;

use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Map, Value, json};

use super::Body;

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

    /// As it goes out.
    pub(crate) fn into_response(self) -> Response<Body> {
        let body = json!({
            "type": format!("/problems/{}", self.kind),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let body = Full::new(body.to_string().into()).map_err(|never| match never {}).boxed();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}
