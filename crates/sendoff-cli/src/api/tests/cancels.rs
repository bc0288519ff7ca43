//! Cancels, of one and of many.

use serde_json::json;

use super::Place;

#[tokio::test]
async fn a_cancel_says_what_became_of_the_job() {
    let place = Place::new().await;
    let guid = place.submit(json!({ "delay": "1h" })).await;
    for _ in 0..2 {
        let answer = place.post(&format!("/v1/jobs/{guid}:cancel"), "").await.ok();
        assert_eq!((&answer["outcome"], &answer["maybe_started"]), (&json!("cancelled"), &json!(false)));
        assert_eq!(answer["record"]["state"], "cancelled");
    }
    let slow = place.submit(json!({ "start": { "simulated": { "delay": "1h" } } })).await;
    let problem = place.post(&format!("/v1/jobs/{slow}:cancel"), "").await.problem("too_late");
    assert_eq!(
        (&problem["cancel_requested"], &problem["record"]["state"]),
        (&json!(true), &json!("starting"))
    );
    let done = place.submit(json!({})).await;
    place.get(&format!("/v1/jobs/{done}?wait=1m")).await.ok();
    let problem = place.post(&format!("/v1/jobs/{done}:cancel"), "").await.problem("too_late");
    assert_eq!(problem["cancel_requested"], false);
    place.post("/v1/jobs/018f2b1e-0000-7000-8000-000000000001:cancel", "").await.problem("no_job");
    place.post("/v1/jobs/17:cancel", "").await.problem("invalid_guid");
}

#[tokio::test]
async fn a_bulk_cancel_needs_a_filter_or_all() {
    let place = Place::new().await;
    for body in ["{}", r#"{"filter":{}}"#, r#"{"all":false}"#, r#"{"filter":null}"#] {
        place.post("/v1/jobs:cancel", body).await.problem("no_filter");
    }
    for body in [
        "",
        "[]",
        r#"{"filter":{"stat":"x"}}"#,
        r#"{"filter":{"label":"x"}}"#,
        r#"{"all":true,"filter":{"queue":"x"}}"#,
    ] {
        place.post("/v1/jobs:cancel", body).await.problem("invalid_body");
    }
    place.post("/v1/jobs:cancel", r#"{"all":true,"cursor":"x"}"#).await.problem("invalid_cursor");
}

#[tokio::test]
async fn a_bulk_cancel_reaches_what_is_pending_or_starting_and_matches() {
    let place = Place::new().await;
    for n in 0..2_500 {
        place.submit(json!({ "delay": "1h", "queue": "a", "labels": { "odd": (n % 2).to_string() } })).await;
    }
    let slow = json!({ "start": { "simulated": { "delay": "1h" } }, "queue": "a" });
    let slow = place.submit(slow).await;
    let other = place.submit(json!({ "delay": "1h", "queue": "b" })).await;
    let counts = |cancelled: u64, too_late: u64| json!({ "cancelled": cancelled, "maybe_started": 0, "too_late": too_late, "next_cursor": null });
    let body = json!({ "filter": { "queue": "a", "label": "odd=1" } });
    assert_eq!(place.post("/v1/jobs:cancel", body).await.ok(), counts(1_250, 0));
    let body = json!({ "filter": { "queue": "a" } });
    assert_eq!(place.post("/v1/jobs:cancel", &body).await.ok(), counts(1_250, 1));
    assert_eq!(place.post("/v1/jobs:cancel", &body).await.ok(), counts(0, 0));
    let record = place.get(&format!("/v1/jobs/{slow}")).await.ok();
    assert!(record["cancel_requested_at"].is_string());
    assert_eq!(place.get(&format!("/v1/jobs/{other}")).await.ok()["state"], "pending");
    assert_eq!(place.post("/v1/jobs:cancel", r#"{"all":true}"#).await.ok(), counts(1, 0));
}

#[tokio::test]
async fn a_stop_breaks_a_bulk_cancel_off_with_a_cursor_that_goes_on() {
    let place = Place::new().await;
    for _ in 0..2_500 {
        place.submit(json!({ "delay": "1h" })).await;
    }
    place.api.stop();
    let (mut calls, mut cancelled) = (0, 0);
    let mut body = json!({ "all": true });
    loop {
        let counts = place.post("/v1/jobs:cancel", &body).await.ok();
        calls += 1;
        cancelled += counts["cancelled"].as_u64().unwrap();
        if counts["next_cursor"].is_null() {
            break;
        }
        let with_filter = json!({ "filter": { "queue": "a" }, "cursor": counts["next_cursor"] });
        place.post("/v1/jobs:cancel", with_filter).await.problem("invalid_cursor");
        body["cursor"] = counts["next_cursor"].clone();
        // What came after the first call is left alone.
        place.submit(json!({ "delay": "1h" })).await;
    }
    assert_eq!(cancelled, 2_500);
    assert!(calls > 2, "{calls}");
}

#[tokio::test]
async fn a_purge_cancels_what_is_pending_in_the_queue() {
    let place = Place::new().await;
    for queue in ["a", "a", "b"] {
        place.submit(json!({ "delay": "1h", "queue": queue })).await;
    }
    place.submit(json!({ "start": { "simulated": { "delay": "1h" } }, "queue": "a" })).await;
    let counts = place.post("/v1/queues/a:purge", "").await.ok();
    assert_eq!((&counts["cancelled"], &counts["too_late"]), (&json!(2), &json!(0)));
    let queue = place.get("/v1/queues/a").await.ok();
    assert_eq!(queue["counts"], json!({ "starting": 1, "cancelled": 2 }));
    place.post("/v1/queues/a:purge", r#"{"cursor":"x"}"#).await.problem("invalid_cursor");
    place.post("/v1/queues/a:purge", r#"{"x":1}"#).await.problem("invalid_body");
}
