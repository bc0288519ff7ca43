//! Queues and their limits.

use http::Method;
use serde_json::json;

use super::Place;

#[tokio::test]
async fn a_queue_is_there_as_long_as_it_has_jobs_or_limits() {
    let place = Place::new().await;
    assert_eq!(place.get("/v1/queues").await.ok(), json!({ "queues": [] }));
    place.get("/v1/queues/a").await.problem("no_queue");
    let limits =
        json!({ "max_in_flight": 5, "rate": { "starts": 10, "per": "1s", "burst": 2 }, "paused": false });
    let set = place.call(Method::PUT, "/v1/queues/a", &limits).await.ok();
    assert_eq!(set, json!({ "name": "a", "limits": limits, "counts": {} }));
    assert_eq!(place.get("/v1/queues/a").await.ok(), set);
    place.submit(json!({ "queue": "b", "delay": "1h" })).await;
    let none = json!({ "max_in_flight": null, "rate": null, "paused": false });
    let b = json!({ "name": "b", "limits": none, "counts": { "pending": 1 } });
    assert_eq!(place.get("/v1/queues").await.ok(), json!({ "queues": [set, b] }));
    assert_eq!(place.call(Method::DELETE, "/v1/queues/a", "").await.ok()["limits"], none);
    place.get("/v1/queues/a").await.problem("no_queue");
}

#[tokio::test]
async fn a_pause_keeps_the_other_limits_and_a_resume_takes_only_itself_back() {
    let place = Place::new().await;
    place.call(Method::PUT, "/v1/queues/a", r#"{"max_in_flight":5}"#).await.ok();
    let paused = place.post("/v1/queues/a:pause", "").await.ok();
    assert_eq!(paused["limits"], json!({ "max_in_flight": 5, "rate": null, "paused": true }));
    let waiting = place.submit(json!({ "queue": "a" })).await;
    assert_eq!(place.get(&format!("/v1/jobs/{waiting}")).await.ok()["state"], "pending");
    assert_eq!(place.post("/v1/queues/a:resume", "").await.ok()["limits"]["paused"], false);
    let record = place.get(&format!("/v1/jobs/{waiting}?wait=1m")).await.ok();
    assert_eq!(record["state"], "started");
    // A pause of a queue that nobody limited leaves nothing behind.
    place.post("/v1/queues/c:pause", "").await.ok();
    place.post("/v1/queues/c:resume", "").await.ok();
    place.get("/v1/queues/c").await.problem("no_queue");
}

#[tokio::test]
async fn bad_limits_and_names_are_refused() {
    let place = Place::new().await;
    for bad in ["", "[]", "5", r#"{"max_in_flight":-1}"#, r#"{"max":5}"#, r#"{"rate":{"starts":1}}"#] {
        place.call(Method::PUT, "/v1/queues/a", bad).await.problem("invalid_body");
    }
    place.call(Method::DELETE, "/v1/queues/a", "{\"x\":1}").await.problem("invalid_body");
}
