//! The HTTP API, without the network: a request and who sent it go in, a response comes out.

mod batch;
mod body;
mod cancel;
mod cursor;
mod events;
#[cfg(test)]
pub(crate) mod fuzz;
mod health;
mod jobs;
mod list;
mod metrics;
mod openapi;
pub(crate) mod problem;
mod queues;
mod read;
mod routes;
mod schema;
mod standing;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
use hyper::body::{Body as _, Bytes};
use sendoff::{
    Guid, Scheduler,
    ports::Fleet,
    time::{Clock, SystemClock},
};
use serde::Serialize;
use tokio::sync::{Mutex, Notify, watch};

#[cfg(test)]
pub(crate) use batch::fuzz as batch_fuzz;
pub(crate) use metrics::Metrics;

use crate::access::Identity;
use events::Events;
use problem::{FORBIDDEN, INVALID_GUID, NO_METHOD, NO_ROUTE, Problem};
use read::{Query, Room};
use routes::Route;
use standing::Lookout;

/// What is wrong with a body that breaks off, in words; a [`Problem`] becomes the answer.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A request's or a response's body.
pub(crate) type Body = BoxBody<Bytes, BodyError>;
/// How a route answers.
type Answered = Result<Response<Body>, Problem>;

/// Answers requests.
pub(crate) struct Api {
    scheduler: Scheduler,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    /// Changes of a queue's limits that read them first come one after the other.
    changing_queues: Mutex<()>,
    room: Room,
    lookout: Lookout,
    /// Where the store is shared.
    fleet: Option<Arc<dyn Fleet>>,
    started: Duration,
    stopping: watch::Sender<bool>,
    crowded: Notify,
}

/// A request on its way to the route's handler.
pub(crate) struct Call {
    headers: HeaderMap,
    query: Query,
    /// The variable part of the path, decoded; empty if it has none.
    part: String,
    body: Body,
    /// On routes without a scope: nobody.
    who: Identity,
}

impl Call {
    fn guid(&self) -> Result<Guid, Problem> {
        self.part.parse().map_err(|err| INVALID_GUID.says(format!("{err}")))
    }
}

impl Api {
    /// `metrics` should be the observer of `scheduler` as well, and `fleet` its store's.
    pub(crate) fn new(
        scheduler: Scheduler,
        metrics: Arc<Metrics>,
        fleet: Option<Arc<dyn Fleet>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            events: Arc::new(Events::new(scheduler.clone())),
            scheduler,
            metrics,
            changing_queues: Mutex::new(()),
            room: Room::new(),
            lookout: Lookout::default(),
            fleet,
            started: SystemClock.elapsed(),
            stopping: watch::channel(false).0,
            crowded: Notify::new(),
        })
    }

    /// Ends event streams and waits, and says "not ready", so that connections can close while the
    /// scheduler is being shut down.
    pub(crate) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Answers those who wait for a job with what is known now, so that others get their turn.
    pub(crate) fn end_waits(&self) {
        self.crowded.notify_waiters();
    }

    fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Answers one request. `who` is the caller or why it is not known; routes that need no scope
    /// (health, the API's description) answer all the same.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        request: Request<Body>,
        who: Result<Identity, Problem>,
    ) -> Response<Body> {
        let (head, body) = request.into_parts();
        let in_flight = self.metrics.request_begins();
        let found =
            routes::find(&head.method, head.uri.path()).map(|(route, part)| (route, read::path_part(part)));
        let pattern = found.as_ref().map_or("other", |(route, _)| route.pattern);
        let headers_only = head.method == Method::HEAD;
        let answered = match found {
            Ok((route, part)) => self.call(route, part, head, body, who).await,
            Err(problem) => Err(problem),
        };
        let mut response = answered.unwrap_or_else(Problem::into_response);
        if headers_only {
            without_body(&mut response);
        }
        let headers = response.headers_mut();
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        in_flight.answered(pattern, response.status());
        response
    }

    async fn call(
        self: &Arc<Self>,
        route: &'static Route,
        part: Result<String, Problem>,
        head: Parts,
        body: Body,
        who: Result<Identity, Problem>,
    ) -> Answered {
        let who = match route.scope {
            None => Identity::new("nobody", [], Arc::default()),
            Some(scope) => {
                let who = who?;
                if !who.allows(scope) {
                    let name = scope.as_str();
                    return Err(FORBIDDEN
                        .says(format!("this needs the scope `{name}`, which {} does not have", who.name))
                        .with("scope", name));
                }
                who
            }
        };
        let part = part?;
        let query = Query::parse(head.uri.query(), route.query.iter().map(|parameter| parameter.name))?;
        let call = Call { headers: head.headers, query, part, body, who };
        (route.handler)(self.clone(), call).await
    }
}

/// An answer without a body, as HEAD asks for it.
fn without_body(response: &mut Response<Body>) {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Empty::new().map_err(|never| match never {}).boxed();
}

/// A whole answer.
fn respond(status: StatusCode, media: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = streamed(media, Full::new(body.into()).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}

/// An answer whose body may be written still.
fn streamed(media: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// An answer in JSON.
fn json(status: StatusCode, value: &impl Serialize) -> Answered {
    let text = serde_json::to_vec(value).expect("answers have names for keys, so they have a JSON form");
    Ok(respond(status, "application/json", text))
}

/// Which methods a path has.
fn no_method(method: &Method, path: &str, allowed: &str) -> Problem {
    NO_METHOD.says(format!("{path} has no {method}; it has {allowed}")).with("allow", allowed)
}

fn no_route(path: &str) -> Problem {
    NO_ROUTE.says(format!("there is no {path}; /openapi.json describes every path"))
}
