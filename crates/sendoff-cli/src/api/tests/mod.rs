//! The API without the network: a memory store, simulated starts, requests as values.

mod batches;
mod bodies;
mod cancels;
mod description;
mod events;
mod fleet;
mod jobs;
mod lists;
mod queues;
mod refusals;
mod scopes;
mod unavailable;

use std::sync::Arc;

use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use sendoff::{
    Grant, Receipt, Scheduler,
    ports::{Attempt, Checked, Fleet, Refusal, StartError, StartFuture, Starter, StarterDefaults, Store},
    starter::SimulatedStarter,
    store::MemoryStore,
};
use serde_json::{Value, json, value::RawValue};

use super::{Api, Body, Metrics};
use crate::access::{Identity, Keyring, Scope, Token, Tokens};

/// Begins, and then nobody knows: under at_most_once its jobs become unknown.
struct Doubtful;

impl Starter for Doubtful {
    fn name(&self) -> &str {
        "doubtful"
    }

    fn defaults(&self) -> StarterDefaults {
        StarterDefaults::default()
    }

    fn check(&self, _: &RawValue, _: Option<&Grant>) -> Result<Checked, Refusal> {
        Ok(Checked::default())
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        Box::pin(async move {
            attempt.begin()?;
            Err::<Receipt, _>(StartError::ambiguous("nobody knows"))
        })
    }
}

/// A token of a file, until it is revoked.
struct Revocable {
    dir: tempfile::TempDir,
    keyring: Arc<Keyring>,
    secret: String,
}

impl Revocable {
    fn new(scope: Scope) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (token, secret) = Token::new("t", vec![scope], sendoff::Timestamp::MIN, None).unwrap();
        let path = dir.path().join("tokens");
        Tokens::change(&path, |tokens| {
            tokens.all.push(token);
            Ok(())
        })
        .unwrap();
        Self { dir, keyring: Arc::new(Keyring::open(path).unwrap()), secret }
    }

    fn shown(&self) -> Identity {
        let known = self.keyring.find(&self.secret).unwrap();
        Identity::of_token(known, self.keyring.clone(), Arc::default())
    }

    fn revoke(&self) {
        let path = self.dir.path().join("tokens");
        Tokens::change(&path, |tokens| {
            tokens.all.clear();
            Ok(())
        })
        .unwrap();
        self.keyring.look_again();
    }
}

/// An API on an empty store.
pub(super) struct Place {
    pub(super) api: Arc<Api>,
    pub(super) scheduler: Scheduler,
}

/// A whole answer.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    async fn of(response: Response<Body>) -> Self {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await.expect("bodies of answers do not break off").to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Self { status: head.status, headers: head.headers, text }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {}", self.text))
    }

    fn lines(&self) -> Vec<Value> {
        self.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// A problem of this kind; its members.
    #[track_caller]
    fn problem(&self, kind: &str) -> Value {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text);
        let problem = self.json();
        assert_eq!(problem["type"], format!("/problems/{kind}"), "{problem:#}");
        assert_eq!(problem["status"], self.status.as_u16());
        assert_eq!(super::problem::kind(kind).expect("a kind of the table").status, self.status);
        problem
    }

    #[track_caller]
    fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.text);
        self.json()
    }
}

fn full(bytes: impl Into<hyper::body::Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

fn with_scopes(scopes: &[Scope]) -> Identity {
    Identity::new("token:test", scopes, Arc::default())
}

impl Place {
    pub(super) async fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()), None).await
    }

    /// An API on this store, for this node of a fleet.
    async fn on(store: Arc<dyn Store>, fleet: Option<Arc<dyn Fleet>>) -> Self {
        let metrics = Metrics::new();
        let scheduler = Scheduler::builder()
            .store(store)
            .starter(SimulatedStarter)
            .starter(Doubtful)
            .observer(metrics.clone())
            .start()
            .await
            .unwrap();
        Self { api: Api::new(scheduler.clone(), metrics, fleet), scheduler }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.api.handle(request, Ok(with_scopes(&[Scope::Admin]))).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "").await
    }

    async fn post(&self, path: &str, body: impl ToString) -> Answer {
        self.call(Method::POST, path, body).await
    }

    async fn call(&self, method: Method, path: &str, body: impl ToString) -> Answer {
        let request = Request::builder().method(method).uri(path).body(full(body.to_string())).unwrap();
        Answer::of(self.send(request).await).await
    }

    async fn post_as(&self, path: &str, header: (&str, &str), body: impl Into<hyper::body::Bytes>) -> Answer {
        let request = Request::post(path).header(header.0, header.1).body(full(body)).unwrap();
        Answer::of(self.send(request).await).await
    }

    /// Submits a job; its guid.
    async fn submit(&self, rest: Value) -> String {
        let mut job = json!({ "start": { "simulated": { "delay": "0s" } } });
        job.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let answer = self.post("/v1/jobs", job).await.ok();
        answer["guid"].as_str().unwrap().to_owned()
    }

    /// A job that is unknown by now.
    async fn unknown(&self) -> String {
        let job = json!({ "start": { "doubtful": {} }, "delivery": "at_most_once" });
        let guid = self.post("/v1/jobs", job).await.ok()["guid"].as_str().unwrap().to_owned();
        let record = self.get(&format!("/v1/jobs/{guid}?wait=1m")).await.ok();
        assert_eq!(record["state"], "unknown");
        guid
    }
}

/// The next piece of a body as text.
async fn piece(body: &mut Body) -> Option<String> {
    let frame = body.into_data_stream().next().await?;
    Some(String::from_utf8(frame.unwrap().to_vec()).unwrap())
}
