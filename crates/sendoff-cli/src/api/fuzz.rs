//! Requests, and cursors, that hold anything.

use std::{cell::RefCell, sync::Arc, time::Duration};

use futures_util::StreamExt;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use sendoff::{
    Scheduler,
    starter::SimulatedStarter,
    store::MemoryStore,
    testing::fuzz::{parts, texts},
};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{Api, Body, Metrics, cursor, problem};
use crate::access::{Identity, Scope};

/// A request that a cursor belongs to, and a cursor; numbers, and the same request.
pub(crate) fn cursor(data: &[u8]) {
    if let Some([request, cursor]) = texts(data) {
        if let Ok(position) = cursor::read::<2>(cursor, request) {
            assert_eq!(cursor::write(&position, request), cursor);
        }
        if let Ok(position) = cursor::read::<1>(cursor, request) {
            assert_eq!(cursor::write(&position, request), cursor);
        }
    }
    let Some((numbers, request)) = data.split_first_chunk::<16>() else { return };
    let (first, second) = numbers.split_at(8);
    let position = [first, second].map(|bytes| u64::from_le_bytes(bytes.try_into().expect("8 bytes")));
    let request = String::from_utf8_lossy(request);
    let written = cursor::write(&position, &request);
    assert!(
        written.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')),
        "{written}"
    );
    assert_eq!(cursor::read(&written, &request).unwrap_or_else(|problem| panic!("{problem}")), position);
    assert!(cursor::read::<2>(&written, &format!("{request}x")).is_err());
    assert!(cursor::read::<1>(&written, &request).is_err());
}

/// How long an answer is waited for: some take their time, and streams do not end.
const PATIENCE: Duration = Duration::from_millis(20);
/// After so many requests the jobs of before are forgotten.
const LIFE: u32 = 2_000;

struct Place {
    runtime: Runtime,
    api: Arc<Api>,
    left: u32,
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

impl Place {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let api = runtime.block_on(async {
            let metrics = Metrics::new();
            let builder = Scheduler::builder().store(Arc::new(MemoryStore::new())).starter(SimulatedStarter);
            let scheduler = builder.observer(metrics.clone()).start().await.expect("a scheduler");
            Api::new(scheduler, metrics, None)
        });
        Self { runtime, api, left: LIFE }
    }
}

/// Method and target, a line with the name and value of a header, and behind 255 the body.
pub(crate) fn request(data: &[u8]) {
    let [head, body] = parts(data);
    let mut lines = head.split(|&byte| byte == b'\n');
    let mut words = lines.next().unwrap_or_default().splitn(2, |&byte| byte == b' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
    let (Ok(method), Ok(target)) = (Method::from_bytes(method), Uri::try_from(target)) else { return };
    let body: Body = Full::new(Bytes::copy_from_slice(body)).map_err(|never| match never {}).boxed();
    let mut request = Request::builder().method(method).uri(target);
    for line in lines {
        let mut words = line.splitn(2, |&byte| byte == b':');
        if let (Some(name), Some(value)) = (words.next(), words.next()) {
            request = request.header(name, value.trim_ascii());
        }
    }
    let Ok(request) = request.body(body) else { return };
    PLACE.with_borrow_mut(|place| {
        let held = place.get_or_insert_with(Place::new);
        held.runtime.block_on(answered(&held.api, request));
        held.left -= 1;
        if held.left == 0 {
            *place = None;
        }
    });
}

/// Every answer is a success or a problem of the table, in words that can be read.
async fn answered(api: &Arc<Api>, request: Request<Body>) {
    let who = Identity::new("token:test", Scope::ALL, Arc::default());
    let headers_only = request.method() == Method::HEAD;
    let Ok(response) = tokio::time::timeout(PATIENCE, api.handle(request, Ok(who))).await else { return };
    let (head, body) = response.into_parts();
    let media = head.headers.get("content-type").map(|media| media.to_str().expect("a text").to_owned());
    assert!(head.headers.contains_key("x-content-type-options"));
    if headers_only {
        return;
    }
    let mut bytes = Vec::new();
    let mut pieces = body.into_data_stream();
    let mut whole = false;
    while bytes.len() < 1 << 20 {
        match tokio::time::timeout(PATIENCE, pieces.next()).await {
            Ok(Some(piece)) => bytes.extend_from_slice(&piece.expect("bodies of answers do not break off")),
            ended => {
                whole = ended.is_ok();
                break;
            }
        }
    }
    let text = String::from_utf8(bytes).expect("UTF-8");
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|err| panic!("{err}: {text}"));
    match media.as_deref() {
        Some("application/problem+json") => {
            let problem = json(&text);
            let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix("/problems/"));
            let kind = kind.and_then(problem::kind).unwrap_or_else(|| panic!("no kind of the table: {text}"));
            assert!(kind.status == head.status && problem["status"] == head.status.as_u16(), "{text}");
            assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{text}");
            assert!(!head.status.is_server_error(), "nothing is wrong here: {text}");
        }
        Some("application/json") if whole => drop(json(&text)),
        Some("application/x-ndjson") if whole => text.lines().for_each(|line| drop(json(line))),
        _ => {}
    }
    assert!(
        head.status.is_success() || media.as_deref() == Some("application/problem+json"),
        "{}: {text}",
        head.status
    );
}
