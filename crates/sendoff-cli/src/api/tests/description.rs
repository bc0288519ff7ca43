//! The description of the API.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Place;
use crate::api::{openapi, problem::KINDS, routes::ROUTES};

#[tokio::test]
async fn the_description_is_the_golden_file() {
    let place = Place::new().await;
    let served = place.get("/openapi.json").await.ok();
    assert_eq!(served, openapi::describe());
    insta::assert_snapshot!("openapi", format!("{served:#}"));
}

#[test]
fn every_kind_of_problem_belongs_to_a_route() {
    let of_routes: BTreeSet<_> =
        ROUTES.iter().flat_map(|route| route.kinds()).map(|kind| kind.name).collect();
    for kind in KINDS {
        assert!(of_routes.contains(kind.name) || kind.name == "no_method", "{}", kind.name);
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, value)| match value {
                Value::String(to) if name == "$ref" => found.push(to.clone()),
                _ => references(value, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let description = openapi::describe();
    let mut found = Vec::new();
    references(&description, &mut found);
    assert!(!found.is_empty());
    for to in found {
        let pointer = to.strip_prefix('#').unwrap();
        assert!(description.pointer(pointer).is_some(), "{to}");
    }
}
