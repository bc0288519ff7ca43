//! Who may call what: each route with each scope.

use std::sync::Arc;

use http::{Method, Request};

use super::{Answer, Place, full, with_scopes};
use crate::{
    access::Scope,
    api::{
        problem::UNAUTHORIZED,
        routes::{ROUTES, scope_name},
    },
};

const ALL: [Scope; 4] = [Scope::Read, Scope::Submit, Scope::Cancel, Scope::Admin];

fn path(pattern: &str) -> String {
    let path = pattern.replace("{guid}", "018f2b1e-0000-7000-8000-000000000001");
    path.replace("{name}", "a").replace("{kind}", "conflict")
}

#[tokio::test]
async fn a_route_is_open_to_its_scope_and_to_admins() {
    let place = Place::new().await;
    for route in ROUTES {
        for scope in ALL {
            // A parameter that no route knows: who may call is told that, and nothing is done.
            let uri = format!("{}?nonsense", path(route.pattern));
            let request = Request::builder().method(route.method.clone()).uri(uri).body(full("")).unwrap();
            let answer = Answer::of(place.api.handle(request, Ok(with_scopes(&[scope]))).await).await;
            let open = route.scope.is_none_or(|needed| scope == needed || scope == Scope::Admin);
            if open {
                answer.problem("invalid_parameter");
            } else {
                assert_eq!(answer.problem("forbidden")["scope"], scope_name(route.scope.unwrap()));
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_caller_is_refused_but_where_anybody_may_call() {
    let place = Place::new().await;
    for route in ROUTES {
        let request = Request::builder().method(route.method.clone()).uri(path(route.pattern));
        let who = Err(UNAUTHORIZED.says("give a token"));
        let answer = place.api.handle(request.body(full("")).unwrap(), who).await;
        if route.scope.is_some() {
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            Answer::of(answer).await.problem("unauthorized");
        } else {
            assert!(answer.status().is_success(), "{}", route.pattern);
        }
    }
}

#[tokio::test]
async fn what_changes_things_needs_more_than_reading() {
    for route in ROUTES {
        let reads = route.scope.is_none_or(|scope| scope == Scope::Read);
        assert_eq!(reads, route.method == Method::GET, "{}", route.pattern);
    }
}

#[tokio::test]
async fn records_name_who_submitted() {
    let place = Place::new().await;
    let who = crate::access::Identity::new("uid:1000", [Scope::Submit], Arc::default());
    let job = r#"{"start":{"simulated":{"delay":"0s"}}}"#;
    let request = Request::post("/v1/jobs").body(full(job)).unwrap();
    let answer = Answer::of(place.api.handle(request, Ok(who)).await).await;
    assert_eq!(answer.ok()["submitted_by"], "uid:1000");
}
