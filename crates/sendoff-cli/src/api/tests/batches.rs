//! Batches: atomic ones and streams of any length.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::{Value, json};

use super::{Answer, Place, Revocable, piece};
use crate::{
    access::Scope,
    api::{Body, BodyError, body},
};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const JOB: &str = r#"{"start":{"simulated":{"delay":"0s"}},"delay":"1h"}"#;

#[tokio::test]
async fn an_atomic_batch_is_stored_whole() {
    let place = Place::new().await;
    let with_key = r#"{"start":{"simulated":{"delay":"0s"}},"idempotency_key":"k","delay":"1h"}"#;
    let body = format!("{JOB}\n\n{with_key}\n{with_key}\n");
    let answer = place.post_as("/v1/jobs:batch", NDJSON, body).await.ok();
    assert_eq!(
        (&answer["created"], &answer["existing"], &answer["durability"]),
        (&json!(2), &json!(1), &json!("memory"))
    );
    assert_eq!(answer["items"][1]["guid"], answer["items"][2]["guid"]);
    assert_eq!(answer["items"][2]["created"], false);
    let again = place.post("/v1/jobs:batch?atomic=true", format!("[{JOB},{with_key}]")).await.ok();
    assert_eq!((&again["created"], &again["existing"]), (&json!(1), &json!(1)));
    assert_eq!(place.post("/v1/jobs:batch", "[]").await.ok()["items"], json!([]));
}

#[tokio::test]
async fn an_atomic_batch_with_a_bad_job_leaves_nothing() {
    let place = Place::new().await;
    let keyed =
        |delay: &str| format!(r#"{{"start":{{"simulated":{{"delay":"{delay}"}}}},"idempotency_key":"k"}}"#);
    for (bad, kind, field) in [
        ("{\"start\":{\"simulated\":{}},\"quue\":1}".to_owned(), "invalid_job", "quue"),
        ("nonsense".to_owned(), "invalid_job", ""),
        ("{\"start\":{\"magic\":{}}}".to_owned(), "invalid_job", "start"),
        (format!("{}\n{}", keyed("0s"), keyed("1s")), "conflict", "idempotency_key"),
    ] {
        let (item, line) = if kind == "conflict" { (4, 5) } else { (3, 4) };
        let problem =
            place.post_as("/v1/jobs:batch", NDJSON, format!("{JOB}\n\n{JOB}\n{bad}\n")).await.problem(kind);
        assert_eq!((&problem["item"], &problem["line"]), (&json!(item), &json!(line)), "{problem:#}");
        assert_eq!(problem["field"].as_str().unwrap_or(""), field, "{problem:#}");
    }
    let problem = place.post("/v1/jobs:batch", format!("[{JOB},{{}}]")).await.problem("invalid_job");
    assert_eq!((&problem["item"], &problem["line"]), (&json!(2), &json!(null)));
    for bad in ["", "{}", JOB, "[{]"] {
        place.post("/v1/jobs:batch", bad).await.problem("invalid_body");
    }
    let many = format!("{JOB}\n").repeat(10_001);
    assert_eq!(place.post_as("/v1/jobs:batch", NDJSON, many).await.problem("too_large")["limit"], 10_000);
    place.post("/v1/jobs:batch?atomic=maybe", "[]").await.problem("invalid_parameter");
    assert_eq!(place.get("/v1/stats").await.ok()["counts"], json!({}));
}

#[tokio::test]
async fn an_itemised_batch_has_a_verdict_for_each_job_in_order() {
    let place = Place::new().await;
    let guid = "018f2b1e-0000-7000-8000-000000000001";
    let with_guid =
        |delay| format!(r#"{{"start":{{"simulated":{{"delay":"{delay}"}}}},"guid":"{guid}","delay":"1h"}}"#);
    let mut body = format!("{}\n\n{}\nnonsense\n{}\n", with_guid("0s"), with_guid("0s"), with_guid("1s"));
    body.push_str(&format!("\"{}\"\n", "x".repeat(2 << 20)));
    body.push_str(JOB);
    let answer = place.post_as("/v1/jobs:batch?atomic=false", NDJSON, body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines = answer.lines();
    assert_eq!(lines[0], json!({ "item": 1, "guid": guid, "created": true }));
    assert_eq!(lines[1], json!({ "item": 2, "guid": guid, "created": false }));
    for (at, item, line, kind) in [(2, 3, 4, "invalid_job"), (3, 4, 5, "conflict"), (4, 5, 6, "invalid_job")]
    {
        let problem = &lines[at]["problem"];
        assert_eq!(lines[at]["item"], item);
        assert_eq!((&problem["item"], &problem["line"]), (&json!(item), &json!(line)), "{problem:#}");
        assert_eq!(problem["type"], format!("/problems/{kind}"));
    }
    assert_eq!(lines[3]["problem"]["field"], "guid");
    let words = lines[3]["problem"]["detail"].as_str().unwrap();
    assert!(words.contains("job 1 of the same batch") || words.contains(guid), "{words}");
    assert_eq!(lines[5]["created"], true);
    assert_eq!(
        lines[6],
        json!({ "items": 6, "created": 2, "existing": 1, "refused": 3, "durability": "memory" })
    );
    let array = place.post("/v1/jobs:batch?atomic=false", format!("[{JOB}, 17, {JOB}]")).await.lines();
    assert_eq!(array.len(), 4);
    assert_eq!(array[1]["problem"]["item"], 2);
    place.post("/v1/jobs:batch?atomic=false", "[").await.problem("invalid_body");
}

/// A stream of so many jobs, and how many of them were read.
fn jobs(number: u64) -> (Body, Arc<AtomicU64>) {
    let read = Arc::new(AtomicU64::new(0));
    let counter = read.clone();
    let frames = stream::iter((0..number).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok::<_, BodyError>(Frame::data(Bytes::from(format!("{JOB}\n"))))
    }));
    (StreamBody::new(frames).boxed(), read)
}

async fn itemised(place: &Place, body: Body) -> Response<Body> {
    let request = Request::post("/v1/jobs:batch?atomic=false").header(NDJSON.0, NDJSON.1).body(body).unwrap();
    place.send(request).await
}

#[tokio::test]
async fn a_stream_of_jobs_is_read_only_as_fast_as_its_answers_are() {
    const JOBS: u64 = 100_000;
    let place = Place::new().await;
    let (body, read) = jobs(JOBS);
    let mut answer = itemised(&place, body).await.into_body();
    let (mut lines, mut last) = (0, String::new());
    loop {
        // Let everything run that can: what is read ahead is bounded.
        let mut before = u64::MAX;
        while before != read.load(Ordering::Relaxed) {
            before = read.load(Ordering::Relaxed);
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        assert!(before <= lines + 10_000, "{before} read, {lines} answered");
        let Some(text) = piece(&mut answer).await else { break };
        assert!(text.len() < 200_000);
        lines += text.lines().count() as u64;
        last = text;
    }
    assert_eq!(lines, JOBS + 1);
    assert!(
        last.ends_with(
            "{\"created\":100000,\"durability\":\"memory\",\"existing\":0,\"items\":100000,\"refused\":0}\n"
        ),
        "{last}"
    );
    assert_eq!(place.get("/v1/stats").await.ok()["counts"]["pending"], JOBS);
}

#[tokio::test]
async fn jobs_are_answered_as_they_come() {
    let place = Place::new().await;
    let (writer, body) = body::written(1);
    let mut answer = itemised(&place, body).await.into_body();
    // The second job's line has not ended: its answer comes with the end.
    for (sent, items) in [(format!("{JOB}\n{JOB}"), 1), ("\n".to_owned(), 1), (format!("{JOB}\n{JOB}\n"), 2)]
    {
        writer.send(sent.into()).await.unwrap();
        assert_eq!(piece(&mut answer).await.unwrap().lines().count(), items);
    }
    drop(writer);
    assert!(piece(&mut answer).await.unwrap().contains("\"items\":4"));
}

#[tokio::test]
async fn a_stream_of_jobs_is_taken_no_longer_than_its_token_is_good() {
    let place = Place::new().await;
    let token = Revocable::new(Scope::Submit);
    let (writer, body) = body::written(1);
    let request = Request::post("/v1/jobs:batch?atomic=false").header(NDJSON.0, NDJSON.1).body(body).unwrap();
    let mut answer = place.api.handle(request, Ok(token.shown())).await.into_body();
    writer.send(format!("{JOB}\n").into()).await.unwrap();
    assert!(piece(&mut answer).await.unwrap().contains("\"created\":true"));
    token.revoke();
    writer.send(format!("{JOB}\n").into()).await.unwrap();
    let last: Value = serde_json::from_str(&piece(&mut answer).await.unwrap()).unwrap();
    assert_eq!((&last["items"], &last["problem"]["type"]), (&json!(1), &json!("/problems/unauthorized")));
    assert_eq!(piece(&mut answer).await, None);
    assert_eq!(place.get("/v1/stats").await.ok()["counts"]["pending"], 1);
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_what_was_stored_and_is_read_no_further() {
    let place = Place::new().await;
    let (body, read) = jobs(1_000_000);
    let mut answer = itemised(&place, body).await.into_body();
    let stored = piece(&mut answer).await.unwrap().lines().count() as u64;
    drop(answer);
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let pending = place.get("/v1/stats").await.ok()["counts"]["pending"].as_u64().unwrap();
    assert!((stored..20_000).contains(&pending), "{stored} {pending}");
    assert!(read.load(Ordering::Relaxed) < 20_000);
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_how_far_it_came() {
    let place = Place::new().await;
    let pieces: [Result<_, BodyError>; 2] =
        [Ok(Frame::data(format!("{JOB}\n{JOB}\n").into())), Err("the connection was reset".into())];
    let body = StreamBody::new(stream::iter(pieces)).boxed();
    let answer = itemised(&place, body).await;
    let lines = Answer::of(answer).await.lines();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2]["items"], 2);
    assert_eq!(lines[2]["problem"]["type"], "/problems/invalid_body");
    // At a stop it ends too, although the client would go on.
    let (_writer, body) = body::written(1);
    let answer = itemised(&place, body).await;
    place.api.stop();
    assert_eq!(Answer::of(answer).await.lines()[0]["problem"]["type"], "/problems/stopping");
}
