//! The stream of events.

use std::time::Duration;

use http::Request;
use serde_json::{Value, json};

use super::{Answer, Place, Revocable, full, piece};
use crate::{
    access::Scope,
    api::{Body, events},
};

/// A listener that reads event by event.
struct Listener {
    body: Body,
    text: String,
}

impl Listener {
    async fn new(place: &Place, query: &str, last: Option<&str>) -> Self {
        let mut request = Request::get(format!("/v1/events{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = place.send(request.body(full("")).unwrap()).await;
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body(), text: String::new() }
    }

    /// Id, name and data of the next event, none at the end.
    async fn next(&mut self) -> Option<(u64, String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if event.starts_with(':') {
                    continue;
                }
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                let id = field("id: ").parse().unwrap();
                return Some((
                    id,
                    field("event: ").to_owned(),
                    serde_json::from_str(field("data: ")).unwrap(),
                ));
            }
            self.text.push_str(&piece(&mut self.body).await?);
        }
    }
}

#[tokio::test]
async fn listeners_are_told_what_they_asked_for() {
    let place = Place::new().await;
    let mut all = Listener::new(&place, "", None).await;
    let mut ends = Listener::new(&place, "?state=started&queue=a", None).await;
    let b = place.submit(json!({ "queue": "b" })).await;
    place.get(&format!("/v1/jobs/{b}?wait=1m")).await.ok();
    let a = place.submit(json!({ "queue": "a" })).await;
    let mut one = Listener::new(&place, &format!("?guid={a}"), None).await;
    let (_, name, data) = ends.next().await.unwrap();
    assert_eq!((name.as_str(), &data["guid"], &data["state"]), ("job", &json!(a), &json!("started")));
    assert_eq!((&data["queue"], &data["attempt"]), (&json!("a"), &json!(1)));
    let (first, _, data) = all.next().await.unwrap();
    assert_eq!(data["guid"], *b);
    let (second, _, _) = all.next().await.unwrap();
    assert_eq!(second, first + 1);
    place.api.stop();
    while let Some((_, _, data)) = one.next().await {
        assert_eq!(data["guid"], *a);
    }
    while all.next().await.is_some() {}
}

#[tokio::test]
async fn a_listener_that_comes_back_goes_on_where_it_was() {
    let place = Place::new().await;
    let mut first = Listener::new(&place, "?state=started", None).await;
    for _ in 0..3 {
        place.submit(json!({})).await;
    }
    let (seen, _, _) = first.next().await.unwrap();
    let missed = [first.next().await.unwrap(), first.next().await.unwrap()];
    drop(first);
    let mut again = Listener::new(&place, "?state=started", Some(&seen.to_string())).await;
    assert_eq!([again.next().await.unwrap(), again.next().await.unwrap()], missed);
    // A number of another life, and one that is still to come.
    for last in ["7", "99999999999999999"] {
        let mut lost = Listener::new(&place, "", Some(last)).await;
        let (_, name, data) = lost.next().await.unwrap();
        assert_eq!((name.as_str(), data), ("lagged", json!({ "missed": null })));
    }
    for (query, header, parameter) in
        [("?guid=x", "1", "guid"), ("?state=x", "1", "state"), ("", "x", "Last-Event-ID")]
    {
        let request = Request::get(format!("/v1/events{query}"))
            .header("last-event-id", header)
            .body(full(""))
            .unwrap();
        let problem = Answer::of(place.send(request).await).await.problem("invalid_parameter");
        assert_eq!(problem["parameter"], parameter);
    }
}

#[tokio::test]
async fn a_slow_listener_is_told_how_much_it_missed() {
    let place = Place::new().await;
    let mut slow = Listener::new(&place, "", None).await;
    let mut fast = Listener::new(&place, "", None).await;
    let jobs = events::KEPT + 1_000;
    let mut last = 0;
    for _ in 0..jobs {
        place.submit(json!({ "delay": "1h" })).await;
        let (number, name, _) = fast.next().await.unwrap();
        assert_eq!(name, "job");
        last = number;
    }
    let (mut number, mut missed, mut told) = (0, 0, 0);
    while number < last {
        let (at, name, data) = slow.next().await.unwrap();
        number = at;
        match name.as_str() {
            "lagged" => missed += data["missed"].as_u64().unwrap(),
            _ => told += 1,
        }
    }
    assert!(missed > 0);
    assert_eq!(missed + told, jobs as u64);
}

#[tokio::test]
async fn streams_end_with_the_scheduler_and_their_number_is_limited() {
    let place = Place::new().await;
    let mut streams = Vec::new();
    for _ in 0..events::STREAMS {
        streams.push(Listener::new(&place, "", None).await);
    }
    place.get("/v1/events").await.problem("too_many_streams");
    place.scheduler.shutdown(std::time::Duration::ZERO).await.unwrap();
    for stream in &mut streams {
        assert!(stream.next().await.is_none());
    }
}

#[tokio::test]
async fn a_listener_that_wants_nothing_of_what_happens_hears_that_the_daemon_lives() {
    let place = Place::new().await;
    let silent = place.submit(json!({ "delay": "1h" })).await;
    let mut quiet = Listener::new(&place, &format!("?guid={silent}"), None).await;
    assert_eq!(piece(&mut quiet.body).await.unwrap(), ":\n\n");
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let others = async {
        for _ in 0..100 {
            place.submit(json!({ "delay": "1h" })).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    tokio::select! {
        beat = piece(&mut quiet.body) => assert_eq!(beat.unwrap(), ":\n\n"),
        () = others => panic!("nothing came"),
    }
    assert!(began.elapsed() <= Duration::from_secs(20));
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let place = Place::new().await;
    let token = Revocable::new(Scope::Read);
    let request = Request::get("/v1/events").body(full("")).unwrap();
    let mut body = place.api.handle(request, Ok(token.shown())).await.into_body();
    assert!(piece(&mut body).await.is_some());
    token.revoke();
    place.submit(json!({})).await;
    assert_eq!(piece(&mut body).await, None);
}
