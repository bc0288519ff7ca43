//! Paths, methods and the states of the daemon.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

use super::Place;
use crate::api::{problem, routes::ROUTES};

#[tokio::test]
async fn a_path_that_is_none_is_404_and_a_wrong_method_405() {
    let place = Place::new().await;
    for path in ["/", "/v1", "/v1/", "/v1/jobs/", "/v1/jobs/a/b", "/v2/jobs", "//", "/v1/jobs:x"] {
        place.get(path).await.problem("no_route");
    }
    let guid = "018f2b1e-0000-7000-8000-000000000001";
    for (method, path, allow) in [
        (Method::DELETE, "/v1/jobs".to_owned(), "POST, GET, HEAD"),
        (Method::GET, "/v1/jobs:batch".to_owned(), "POST"),
        (Method::GET, format!("/v1/jobs/{guid}:cancel"), "POST"),
        (Method::PATCH, "/v1/queues/a".to_owned(), "GET, HEAD, PUT, DELETE"),
        (Method::GET, "/v1/queues/a:pause".to_owned(), "POST"),
        (Method::OPTIONS, "/healthz".to_owned(), "GET, HEAD"),
    ] {
        let answer = place.call(method, &path, "").await;
        answer.problem("no_method");
        assert_eq!(answer.headers["allow"], allow, "{path}");
    }
}

#[tokio::test]
async fn odd_paths_are_refused_and_never_break_anything() {
    let place = Place::new().await;
    for (path, kind) in [
        ("/v1/jobs/17", "invalid_guid"),
        ("/v1/jobs/..", "invalid_guid"),
        ("/v1/jobs/%2e%2e%2Fetc", "invalid_guid"),
        ("/v1/jobs/%ff", "invalid_path"),
        ("/v1/jobs/%00", "invalid_path"),
        ("/v1/jobs/%", "invalid_path"),
        ("/v1/queues/%2F", "no_queue"),
        ("/v1/queues/%c3%28", "invalid_path"),
        ("/v1/queues/a%3Apause", "no_queue"),
        ("/problems/%F0%9F%92%A9", "no_problem"),
    ] {
        place.get(path).await.problem(kind);
    }
}

#[tokio::test]
async fn unknown_parameters_are_refused_on_every_route() {
    let place = Place::new().await;
    for route in ROUTES {
        let path = route.pattern.replace("{guid}", "018f2b1e-0000-7000-8000-000000000001");
        let path = path.replace("{name}", "a").replace("{kind}", "conflict");
        let answer = place.call(route.method.clone(), &format!("{path}?nonsense=1"), "").await;
        assert_eq!(answer.problem("invalid_parameter")["parameter"], "nonsense", "{path}");
    }
}

#[tokio::test]
async fn a_stopped_scheduler_is_503_and_not_ready() {
    let place = Place::new().await;
    let ready = place.get("/readyz").await.ok();
    assert_eq!((&ready["ready"], &ready["durability"]), (&json!(true), &json!("memory")));
    place.api.stop();
    place.get("/readyz").await.problem("stopping");
    place.scheduler.shutdown(Duration::ZERO).await.unwrap();
    let job = json!({ "start": { "simulated": { "delay": "0s" } } });
    let answer = place.post("/v1/jobs", job).await;
    answer.problem("stopping");
    assert_eq!(answer.headers["retry-after"], "5");
}

#[tokio::test]
async fn each_kind_of_problem_is_explained() {
    let place = Place::new().await;
    for kind in problem::KINDS {
        let page = place.get(&format!("/problems/{}", kind.name)).await.ok();
        assert_eq!(page["status"], kind.status.as_u16());
        assert!(page["about"].as_str().unwrap().ends_with('.'), "{page}");
    }
}

#[tokio::test]
async fn statistics_and_metrics_say_what_there_is() {
    let place = Place::new().await;
    place.submit(json!({ "delay": "1h", "queue": "later" })).await;
    let now = place.submit(json!({})).await;
    place.get(&format!("/v1/jobs/{now}?wait=1m")).await.ok();
    let stats = place.get("/v1/stats").await.ok();
    assert_eq!(stats["counts"], json!({ "pending": 1, "started": 1 }));
    assert_eq!(stats["queues"]["later"], json!({ "pending": 1 }));
    assert_eq!(stats["oldest_overdue_seconds"], 0.0);
    assert_eq!((&stats["in_flight"], &stats["durability"]), (&json!(0), &json!("memory")));
    assert!(stats["next_due"].is_string());
    let metrics = place.get("/metrics").await;
    assert_eq!(metrics.status, StatusCode::OK);
    for line in [
        r#"sendoff_jobs{queue="later",state="pending"} 1"#,
        r#"sendoff_http_requests_total{route="/v1/jobs",status="201"} 2"#,
        "sendoff_http_requests_in_flight 1",
        "sendoff_oldest_overdue_seconds 0.0",
    ] {
        assert!(metrics.text.lines().any(|known| known == line), "{line} is not in\n{}", metrics.text);
    }
}
