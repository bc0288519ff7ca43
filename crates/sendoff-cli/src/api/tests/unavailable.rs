//! A store that cannot be reached for a while.

use std::sync::Arc;

use http::Method;
use sendoff::{
    store::MemoryStore,
    testing::{FlakyStore, Method as Stored, Trouble, Why},
};
use serde_json::{Value, json};

use super::Place;

async fn place() -> (Arc<FlakyStore>, Place) {
    let store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new())));
    let place = Place::on(store.clone(), None).await;
    (store, place)
}

/// Each of these has one call of the store in the way.
#[tokio::test]
async fn every_request_is_told_and_may_be_repeated() {
    let (store, place) = place().await;
    let job = json!({ "start": { "simulated": { "delay": "0s" } }, "delay": "1h" });
    for (stored, method, path, body) in [
        (Stored::Insert, Method::POST, "/v1/jobs".to_owned(), job.clone()),
        (Stored::Insert, Method::POST, "/v1/jobs:batch".into(), json!([job])),
        (Stored::Get, Method::GET, "/v1/jobs/GUID".into(), Value::Null),
        (Stored::Counts, Method::GET, "/v1/stats".into(), Value::Null),
        (Stored::Counts, Method::GET, "/v1/queues".into(), Value::Null),
        (Stored::Cancel, Method::POST, "/v1/jobs:cancel".into(), json!({ "all": true })),
        (Stored::Cancel, Method::POST, "/v1/queues/default:purge".into(), Value::Null),
        (Stored::SetQueue, Method::PUT, "/v1/queues/a".into(), json!({ "max_in_flight": 1 })),
        (Stored::Reschedule, Method::POST, "/v1/jobs/GUID:reschedule".into(), json!({ "delay": "2h" })),
        (Stored::Cancel, Method::POST, "/v1/jobs/GUID:cancel".into(), Value::Null),
    ] {
        let guid = place.submit(json!({ "delay": "1h" })).await;
        let path = path.replace("GUID", &guid);
        let body = if body.is_null() { String::new() } else { body.to_string() };
        store.fail(stored, Why::Unavailable, 1);
        let answer = place.call(method.clone(), &path, &body).await;
        answer.problem("store_unavailable");
        assert_eq!(answer.headers["retry-after"], "2", "{path}");
        place.call(method, &path, body).await.ok();
    }
}

#[tokio::test]
async fn an_itemised_batch_breaks_off_and_says_why() {
    let (store, place) = place().await;
    store.fail(Stored::Insert, Why::Unavailable, 1);
    let job = r#"{"start":{"simulated":{"delay":"0s"}}}"#;
    let answer = place.post("/v1/jobs:batch?atomic=false", format!("[{job},{job}]")).await;
    let lines = answer.lines();
    assert_eq!(lines.len(), 1, "nothing was accepted: {lines:?}");
    assert_eq!(lines[0]["problem"]["type"], "/problems/store_unavailable");
    assert_eq!(lines[0]["items"], 0);
}

#[tokio::test]
async fn a_bulk_cancel_tells_what_it_has_done_and_goes_on_from_there() {
    let (store, place) = place().await;
    let jobs = vec![json!({ "start": { "simulated": { "delay": "0s" } }, "delay": "1h" }); 1_001];
    place.post("/v1/jobs:batch", Value::from(jobs)).await.ok();
    store.plan(Stored::Cancel, [Trouble::None, Trouble::Fails(Why::Unavailable)]);
    let first = place.post("/v1/jobs:cancel", json!({ "all": true })).await.ok();
    assert_eq!(first["cancelled"], 1_000);
    let rest = json!({ "all": true, "cursor": first["next_cursor"] });
    let rest = place.post("/v1/jobs:cancel", rest).await.ok();
    assert_eq!((&rest["cancelled"], &rest["next_cursor"]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn the_daemon_is_healthy_and_not_ready_meanwhile() {
    let (store, place) = place().await;
    store.fail(Stored::Counts, Why::Unavailable, 1);
    // What was found holds for a second, whoever asks.
    let health = place.get("/healthz").await.ok();
    assert_eq!((&health["status"], &health["store_reachable"]), (&json!("ok"), &json!(false)));
    assert_eq!((&health["unknown"], &health["durability"]), (&Value::Null, &json!("memory")));
    assert!(health["degraded"][0].as_str().unwrap().contains("cannot be reached"), "{health}");
    let answer = place.get("/readyz").await;
    answer.problem("store_unavailable");
    assert_eq!(answer.headers["retry-after"], "2");
    let text = place.get("/metrics").await.text;
    assert!(text.contains("\nsendoff_store_reachable 0") && !text.contains("sendoff_jobs{"), "{text}");
}

#[tokio::test]
async fn a_store_that_is_broken_is_no_less_broken() {
    let (store, place) = place().await;
    store.fail(Stored::Counts, Why::Unusable, 1);
    place.get("/healthz").await.problem("store_broken");
}
