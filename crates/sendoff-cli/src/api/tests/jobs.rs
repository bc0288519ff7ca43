//! One job from submit to end.

use http::{Method, StatusCode};
use serde_json::json;

use super::Place;

const GUID: &str = "018f2b1e-0000-7000-8000-000000000001";

#[tokio::test]
async fn a_submit_is_answered_with_the_record_and_a_repeat_with_the_first_ones() {
    let place = Place::new().await;
    let job = json!({ "start": { "simulated": { "delay": "1ms" } }, "guid": GUID, "delay": "1h" });
    let first = place.post("/v1/jobs", &job).await;
    assert_eq!(first.status, StatusCode::CREATED);
    assert_eq!(first.headers["location"], format!("/v1/jobs/{GUID}"));
    assert_eq!(first.headers["cache-control"], "no-store");
    assert_eq!(first.headers["x-content-type-options"], "nosniff");
    let record = first.json();
    assert_eq!(
        json!([
            record["guid"],
            record["state"],
            record["created"],
            record["durability"],
            record["submitted_by"]
        ]),
        json!([GUID, "pending", true, "memory", "token:test"])
    );
    assert_eq!(record["started_at"], json!(null), "absent facts are null");
    let again = place.post("/v1/jobs", &job).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.json()["created"], false);
    assert_eq!(again.json()["queued_at"], record["queued_at"]);
    let other = json!({ "start": { "simulated": { "delay": "2ms" } }, "guid": GUID });
    let problem = place.post("/v1/jobs", &other).await.problem("conflict");
    assert_eq!(problem["field"], "guid");
}

#[tokio::test]
async fn the_idempotency_header_is_the_jobs_key() {
    let place = Place::new().await;
    let header = ("idempotency-key", "order-17");
    let job = json!({ "start": { "simulated": { "delay": "0s" } } }).to_string();
    let first = place.post_as("/v1/jobs", header, job.clone()).await.ok();
    let again = place.post_as("/v1/jobs", header, job).await;
    assert_eq!(again.status, StatusCode::OK);
    assert_eq!(again.json()["guid"], first["guid"]);
    let in_both = json!({ "start": { "simulated": { "delay": "0s" } }, "idempotency_key": "order-17" });
    let both = place.post_as("/v1/jobs", header, in_both.to_string()).await.ok();
    assert_eq!(both["guid"], first["guid"]);
    let differs = json!({ "start": { "simulated": { "delay": "0s" } }, "idempotency_key": "order-18" });
    let problem = place.post_as("/v1/jobs", header, differs.to_string()).await.problem("invalid_job");
    assert_eq!(problem["field"], "idempotency_key");
    let other = json!({ "start": { "simulated": { "delay": "1s" } } }).to_string();
    let problem = place.post_as("/v1/jobs", header, other).await.problem("conflict");
    assert_eq!(problem["field"], "idempotency_key");
}

#[tokio::test]
async fn a_bad_job_is_refused_with_its_field_and_a_suggestion() {
    let place = Place::new().await;
    for (job, field, words) in [
        (r#"{"start":{"simulated":{"delay":"0s"}},"quue":"x"}"#, "quue", "did you mean `queue`?"),
        (r#"{"start":{"simulated":{"delay":"0s"}},"delay":"soon"}"#, "delay", "not a duration"),
        (r#"{"start":{"simulated":{"dealy":"0s"}}}"#, "start.simulated.dealy", "did you mean `delay`?"),
        (r#"{"start":{"magic":{}}}"#, "start", "there is no starter"),
        (r#"{"start":{"simulated":{"delay":"0s"}},"priority":10}"#, "priority", "0 and 9"),
    ] {
        let problem = place.post("/v1/jobs", job).await.problem("invalid_job");
        assert_eq!(problem["field"], field, "{problem:#}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem:#}");
    }
    for bad in ["", "{", "[]", "null", "17", r#"{"start":{"simulated":{}},"start":{}}"#] {
        place.post("/v1/jobs", bad).await.problem("invalid_job");
    }
    let deep = format!(r#"{{"start":{{"simulated":{}{}}}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    place.post("/v1/jobs", deep).await.problem("invalid_job");
}

#[tokio::test]
async fn a_wait_ends_when_the_job_is_final_or_after_its_time() {
    let place = Place::new().await;
    let now = place.submit(json!({})).await;
    let record = place.get(&format!("/v1/jobs/{now}?wait=5m")).await.ok();
    assert_eq!(record["state"], "started");
    let late = place.submit(json!({ "delay": "10h" })).await;
    let record = place.get(&format!("/v1/jobs/{late}?wait=1ms")).await.ok();
    assert_eq!(record["state"], "pending");
    let problem = place.get(&format!("/v1/jobs/{late}?wait=6m")).await.problem("invalid_parameter");
    assert_eq!(problem["parameter"], "wait");
    place.get(&format!("/v1/jobs/{GUID}?wait=1s")).await.problem("no_job");
    // A stop ends waits.
    let path = format!("/v1/jobs/{late}?wait=5m");
    let (record, ()) = tokio::join!(place.get(&path), async { place.api.stop() });
    assert_eq!(record.ok()["state"], "pending");
}

#[tokio::test]
async fn a_pending_job_can_be_moved_and_no_other() {
    let place = Place::new().await;
    let guid = place.submit(json!({ "delay": "1h", "expires_in": "1h" })).await;
    let path = format!("/v1/jobs/{guid}");
    let to = json!({ "run_at": "2099-01-01T00:00:00Z" });
    let problem = place.post(&format!("{path}:reschedule"), &to).await.problem("past_deadline");
    assert_eq!(problem["record"]["guid"], *guid);
    place.post(&format!("{path}:reschedule"), json!({ "delay": "30m" })).await.ok();
    for bad in ["{}", r#"{"run_at":"2099-01-01T00:00:00Z","delay":"1s"}"#, r#"{"delay":"3000000d"}"#, "[]"] {
        place.post(&format!("{path}:reschedule"), bad).await.problem("invalid_body");
    }
    let problem = place.post(&format!("{path}:reschedule"), r#"{"dely":"1s"}"#).await.problem("invalid_body");
    assert_eq!(problem["field"], "dely");
    assert!(problem["detail"].as_str().unwrap().contains("did you mean `delay`?"), "{problem:#}");
    place.post(&format!("{path}:start-now"), "{\"x\":1}").await.problem("invalid_body");
    place.post(&format!("{path}:start-now"), "").await.ok();
    assert_eq!(place.get(&format!("{path}?wait=1m")).await.ok()["state"], "started");
    for verb in ["start-now", "reschedule"] {
        let body = if verb == "reschedule" { r#"{"delay":"1s"}"# } else { "" };
        let problem = place.post(&format!("{path}:{verb}"), body).await.problem("not_pending");
        assert_eq!(problem["record"]["state"], "started");
        place.post(&format!("/v1/jobs/{GUID}:{verb}"), body).await.problem("no_job");
    }
}

#[tokio::test]
async fn an_unknown_job_is_resolved_and_no_other() {
    let place = Place::new().await;
    let guid = place.unknown().await;
    assert_eq!(place.get("/healthz").await.ok()["unknown"], 1);
    let path = format!("/v1/jobs/{guid}:resolve");
    place.post(&path, r#"{"to":"gone"}"#).await.problem("invalid_body");
    place.post(&path, "{}").await.problem("invalid_body");
    assert_eq!(place.post(&path, r#"{"to":"failed"}"#).await.ok()["state"], "failed");
    let problem = place.post(&path, r#"{"to":"failed"}"#).await.problem("not_unknown");
    assert_eq!(problem["record"]["state"], "failed");
    place.post(&format!("/v1/jobs/{GUID}:resolve"), r#"{"to":"failed"}"#).await.problem("no_job");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let place = Place::new().await;
    let guid = place.submit(json!({ "delay": "1h" })).await;
    let path = format!("/v1/jobs/{guid}");
    let (get, head) = (place.get(&path).await, place.call(Method::HEAD, &path, "").await);
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    assert_eq!(head.headers["content-length"], get.text.len().to_string());
    assert_eq!(head.headers["content-type"], "application/json");
}
