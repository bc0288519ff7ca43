//! Bodies: types, limits, and those that break off.

use futures_util::stream;
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};

use sendoff::Batch;
use tokio::task::JoinSet;

use super::{Answer, Place, full, with_scopes};
use crate::{
    access::Scope,
    api::{Body, BodyError, body::written, problem::TOO_LARGE, read::ROOM},
};

const JOB: &str = r#"{"start":{"simulated":{"delay":"0s"}}}"#;

/// A body of these pieces whose length nobody knows beforehand.
fn pieces(pieces: Vec<Result<&'static [u8], BodyError>>) -> Body {
    let frames = pieces.into_iter().map(|piece| piece.map(|piece| Frame::data(Bytes::from_static(piece))));
    StreamBody::new(stream::iter(frames)).boxed()
}

#[tokio::test]
async fn types_that_are_not_read_are_415() {
    let place = Place::new().await;
    for media in [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/json;charset=\"utf-8\"",
        "application/json; v=1",
    ] {
        place.post_as("/v1/jobs", ("content-type", media), JOB).await.ok();
    }
    for (name, value) in [
        ("content-type", "text/plain"),
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-type", "application/json; charset=latin1"),
        ("content-type", "application/x-ndjson"),
        ("content-type", ""),
        ("content-encoding", "gzip"),
    ] {
        place.post_as("/v1/jobs", (name, value), JOB).await.problem("unsupported_media_type");
    }
    place.post_as("/v1/jobs", ("content-encoding", "identity"), JOB).await.ok();
    place.post_as("/v1/jobs:batch", ("content-type", "application/x-ndjson"), JOB).await.ok();
    place
        .post_as("/v1/jobs:cancel", ("content-type", "text/plain"), "{}")
        .await
        .problem("unsupported_media_type");
}

#[tokio::test]
async fn long_bodies_are_413_whether_they_say_so_or_not() {
    let place = Place::new().await;
    for (path, limit) in [
        ("/v1/jobs", 1 << 20),
        ("/v1/jobs:cancel", 64 << 10),
        ("/v1/jobs/018f2b1e-0000-7000-8000-000000000001:cancel", 64 << 10),
        ("/v1/jobs:batch", 16 << 20),
    ] {
        let whole = Request::post(path).body(full(vec![b' '; limit + 1])).unwrap();
        let problem = Answer::of(place.send(whole).await).await.problem("too_large");
        assert_eq!(problem["limit"], limit);
        static MIB: [u8; 1 << 20] = [b' '; 1 << 20];
        let many = (0..=limit >> 20).map(|_| Ok(&MIB[..])).chain([Ok(&b" "[..])]).collect();
        let many = Request::post(path).body(pieces(many)).unwrap();
        Answer::of(place.send(many).await).await.problem("too_large");
    }
}

#[tokio::test]
async fn a_body_in_pieces_is_one_body() {
    let place = Place::new().await;
    let cut = JOB.as_bytes().chunks(7).map(Ok).collect();
    Answer::of(place.send(Request::post("/v1/jobs").body(pieces(cut)).unwrap()).await).await.ok();
}

#[tokio::test]
async fn a_body_that_breaks_off_is_answered_as_its_carrier_says() {
    let place = Place::new().await;
    let gone = pieces(vec![Ok(b"{\"start\""), Err("the connection was reset".into())]);
    let answer = Answer::of(place.send(Request::post("/v1/jobs").body(gone).unwrap()).await).await;
    assert!(answer.problem("invalid_body")["detail"].as_str().unwrap().contains("reset"));
    let slow = pieces(vec![Err(Box::new(TOO_LARGE.says("as the carrier says")))]);
    let answer = Answer::of(place.send(Request::post("/v1/jobs").body(slow).unwrap()).await).await;
    answer.problem("too_large");
}

#[tokio::test]
async fn long_bodies_that_do_not_come_take_only_so_much_room() {
    let place = Place::new().await;
    let batch = |body: Body| Request::post("/v1/jobs:batch").body(body).unwrap();
    let mut writers = Vec::new();
    let mut waiting = JoinSet::new();
    for _ in 0..ROOM / Batch::MAX_ATOMIC_BYTES {
        let (writer, body) = written(1);
        writers.push(writer);
        let api = place.api.clone();
        let who = Ok(with_scopes(&[Scope::Submit]));
        waiting.spawn(async move { api.handle(batch(body), who).await.status() });
    }
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let (_writer, body) = written(1);
    let refused = place.send(batch(body)).await;
    assert_eq!(refused.headers()["retry-after"], "1");
    Answer::of(refused).await.problem("busy");
    // Bodies that say how short they are need less, and what is no batch needs none of it.
    place.post("/v1/jobs", JOB).await.ok();
    for writer in writers {
        writer.send(Bytes::from_static(b"[]")).await.unwrap();
    }
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.unwrap(), http::StatusCode::OK);
    }
    place.post("/v1/jobs:batch", format!("[{JOB}]")).await.ok();
}
