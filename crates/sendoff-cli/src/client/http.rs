//! Calls to the daemon. One that was lost is made again if that can do no harm.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use sendoff::time::{Clock, SystemClock};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::{task::JoinSet, time::timeout};

use super::{connect::Daemon, problem::Problem};
use crate::{args::Connect, failure::Failure};

/// How long a call is repeated while the daemon is busy, restarts, or lost the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first pause before a repetition; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an answer may take, beyond what the call itself asks the daemon to wait.
const ANSWER: Duration = Duration::from_secs(60);

/// Calls the daemon, over as many connections as there are calls at once.
pub(super) struct Client {
    daemon: Daemon,
    idle: Mutex<Vec<Connection>>,
    drivers: Mutex<JoinSet<()>>,
}

type Connection = SendRequest<Full<Bytes>>;

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    method: Method,
    path: String,
    body: Bytes,
    content_type: Option<&'static str>,
    headers: HeaderMap,
    /// A second time changes nothing more.
    repeatable: bool,
    /// The answer comes in lines, of which the last says whether it broke off.
    in_lines: bool,
    patience: Duration,
}

impl Call {
    /// One that changes nothing.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    /// One that may be made twice, unless it is [`Self::only_once`].
    pub(super) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            body: Bytes::new(),
            content_type: None,
            headers: HeaderMap::new(),
            repeatable: true,
            in_lines: false,
            patience: ANSWER,
        }
    }

    pub(super) fn post(path: impl Into<String>) -> Self {
        Self::new(Method::POST, path)
    }

    pub(super) fn json(self, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("what is sent has a JSON form");
        self.body("application/json", body)
    }

    pub(super) fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        (self.content_type, self.body) = (Some(content_type), body.into());
        self
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = value.parse() {
            self.headers.insert(name, value);
        }
        self
    }

    /// A second time might do more than the first.
    pub(super) fn only_once(mut self) -> Self {
        self.repeatable = false;
        self
    }

    /// Its answer is one line for each item, and a last one.
    pub(super) fn in_lines(mut self) -> Self {
        self.in_lines = true;
        self
    }

    /// The daemon itself is asked to wait so long.
    pub(super) fn waiting(mut self, longer: Duration) -> Self {
        self.patience = ANSWER + longer;
        self
    }
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

impl Answer {
    /// The body of a success.
    ///
    /// # Errors
    /// The daemon refused; or what it says is of another version.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        self.success()?;
        serde_json::from_slice(&self.body).map_err(|err| strange(&err))
    }

    /// # Errors
    /// The daemon refused.
    pub(super) fn success(&self) -> Result<(), Failure> {
        self.problem().map_or(Ok(()), |problem| Err(problem.failure()))
    }

    /// Why it refused.
    pub(super) fn problem(&self) -> Option<Problem> {
        (!self.status.is_success()).then(|| Problem::of(self.status, &self.body))
    }

    /// The problem at which an answer in lines broke off.
    fn broke_off(&self) -> Option<Problem> {
        let last = self.body.split(|&byte| byte == b'\n').rfind(|line| !line.is_empty())?;
        let last: Value = serde_json::from_slice(last).ok()?;
        last.get("items").and(last.get("problem")).map(Problem::within)
    }

    /// How long to wait before the call is worth repeating, if it is.
    fn pause(&self, call: &Call, pause: Duration) -> Option<Duration> {
        if call.in_lines && self.status.is_success() {
            let passing = ["busy", "stopping", "store_unavailable", "commit_unknown"];
            return self.broke_off().filter(|problem| passing.contains(&problem.kind())).map(|_| pause);
        }
        if self.status != StatusCode::SERVICE_UNAVAILABLE && self.status != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        if Problem::of(self.status, &self.body).kind() == "commit_unknown" {
            return call.repeatable.then_some(pause);
        }
        self.retry_after.map(|after| after.max(pause))
    }
}

/// The daemon's answer makes no sense to this version.
pub(super) fn strange(err: &dyn std::fmt::Display) -> Failure {
    Failure::store(format!("the daemon's answer cannot be read: {err}; are both of the same version?"))
}

/// Why there is no answer.
enum Lost {
    /// The call did not get away.
    Unreachable(Failure),
    /// It may have been heard.
    Broken(String),
}

/// Why an answer without end did not begin.
pub(super) struct NotOpen {
    pub(super) failure: Failure,
    /// It may be otherwise in a moment.
    pub(super) passing: bool,
}

impl Client {
    /// # Errors
    /// Exit 2: what says where the daemon is cannot be used.
    pub(super) fn of(args: &Connect) -> Result<Self, Failure> {
        Ok(Self { daemon: Daemon::of(args)?, idle: Mutex::default(), drivers: Mutex::default() })
    }

    /// Makes a call, and makes it again for some seconds while its answer is lost or the daemon
    /// says that it is busy.
    ///
    /// # Errors
    /// Exit 4: there is no answer.
    pub(super) async fn call(&self, call: &Call) -> Result<Answer, Failure> {
        let began = SystemClock.elapsed();
        let mut pause = PAUSE;
        let mut was_there = false;
        loop {
            let left = PATIENCE.saturating_sub(SystemClock.elapsed().saturating_sub(began));
            let wait = match self.attempt(call).await {
                Ok(answer) => match answer.pause(call, pause) {
                    Some(wait) if wait <= left => wait,
                    _ => return Ok(answer),
                },
                // Where nobody was from the first, nobody is expected.
                Err(Lost::Unreachable(failure)) if !was_there || left.is_zero() => return Err(failure),
                Err(Lost::Unreachable(_)) => pause,
                Err(Lost::Broken(why)) if !call.repeatable => {
                    return Err(Failure::store(format!(
                        "{}: {why}; it may have done what was asked: look before you ask again",
                        self.daemon
                    )));
                }
                Err(Lost::Broken(why)) if left.is_zero() => {
                    return Err(Failure::store(format!("{}: {why}", self.daemon)));
                }
                Err(Lost::Broken(_)) => pause,
            };
            was_there = true;
            tokio::time::sleep(wait.min(left)).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, Lost> {
        let exchange = async {
            let (response, connection) = self.exchange(call).await?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|err| Lost::Broken(broken(&err)))?.to_bytes();
            lock(&self.idle).push(connection);
            let seconds =
                head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            Ok(Answer { status: head.status, retry_after: seconds.map(Duration::from_secs), body })
        };
        let late = || Lost::Broken(format!("no answer within {} s", call.patience.as_secs()));
        timeout(call.patience, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    /// Makes a call whose answer has no end.
    ///
    /// # Errors
    /// It gets no answer, or the daemon refuses.
    pub(super) async fn open(&self, call: &Call) -> Result<Incoming, NotOpen> {
        let passing = |failure| NotOpen { failure, passing: true };
        let opened = timeout(call.patience, self.exchange(call)).await;
        let (response, _) = opened
            .unwrap_or_else(|_| Err(Lost::Broken(format!("no answer within {} s", call.patience.as_secs()))))
            .map_err(|lost| match lost {
                Lost::Unreachable(failure) => passing(failure),
                Lost::Broken(why) => passing(Failure::store(format!("{}: {why}", self.daemon))),
            })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let body = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let passing = status == StatusCode::SERVICE_UNAVAILABLE;
        Err(NotOpen { failure: Problem::of(status, &body).failure(), passing })
    }

    async fn exchange(&self, call: &Call) -> Result<(Response<Incoming>, Connection), Lost> {
        // An idle connection may have been closed just now: one that must not be used in vain is new.
        let mut connection = match self.take_idle().await.filter(|_| call.repeatable) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let response = connection.send_request(self.request(call)).await;
        response.map(|response| (response, connection)).map_err(|err| Lost::Broken(broken(&err)))
    }

    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = lock(&self.idle).pop()?;
            if connection.ready().await.is_ok() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, Lost> {
        let stream = self.daemon.connect().await.map_err(Lost::Unreachable)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|err| Lost::Unreachable(Failure::store(format!("{}: {err}", self.daemon))))?;
        let mut drivers = lock(&self.drivers);
        while drivers.try_join_next().is_some() {}
        // What ends a connection is told to the call that uses it.
        drivers.spawn(async { drop(driver.await) });
        Ok(connection)
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        let path = format!("{}{}", self.daemon.prefix, call.path);
        *request.uri_mut() = path.parse().expect("paths are made of encoded parts");
        let headers = request.headers_mut();
        headers.extend(call.headers.clone());
        let host = self.daemon.authority.parse().expect("a URL's host is plain text");
        headers.insert(header::HOST, host);
        let agent = http::HeaderValue::from_static(concat!("sendoff/", env!("CARGO_PKG_VERSION")));
        headers.insert(header::USER_AGENT, agent);
        if let Some(content_type) = call.content_type {
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        }
        if let Some(bearer) = &self.daemon.bearer {
            headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        request
    }
}

fn broken(err: &hyper::Error) -> String {
    if err.is_incomplete_message() || err.is_closed() {
        "the daemon closed the connection without an answer".into()
    } else {
        format!("the connection broke: {err}")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A path of a queue or a job with its name encoded.
pub(super) fn path(before: &str, name: &str, after: &str) -> String {
    let mut path = String::from(before);
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte))
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path.push_str(after);
    path
}

/// A path with those parameters that are given.
pub(super) fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}
