//! The HTTP API, without the network: a request and who sent it go in, a response comes out.

pub(crate) mod problem;

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Bytes;
use sendoff::Scheduler;

use crate::access::Identity;
use problem::Problem;

/// What is wrong with a body that breaks off, in words.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A request's or a response's body.
pub(crate) type Body = BoxBody<Bytes, BodyError>;

/// Answers requests.
pub(crate) struct Api {
    scheduler: Scheduler,
}

impl Api {
    pub(crate) fn new(scheduler: Scheduler) -> Arc<Self> {
        Arc::new(Self { scheduler })
    }

    /// Answers one request. `who` is the caller or why it is not known; routes that need no scope
    /// (health, the API's description) answer all the same.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        _request: Request<Body>,
        who: Result<Identity, Problem>,
    ) -> Response<Body> {
        if let Err(problem) = who {
            return problem.into_response();
        }
        let _ = &self.scheduler;
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
        response
    }
}
