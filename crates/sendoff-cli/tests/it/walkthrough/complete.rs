//! The page leaves nothing out.

use std::fs;

use serde_json::Value;

use super::{page::Page, path};
use crate::generated::COMMANDS;

const DESCRIPTION: &str =
    include_str!("../../../src/api/tests/snapshots/sendoff__api__tests__description__openapi.snap");

#[test]
fn every_command_and_every_endpoint_is_on_the_page() {
    let mut page = Page::read(&fs::read_to_string(path()).unwrap());
    let (asked, run): (Vec<_>, Vec<_>) =
        page.steps().map(|step| (step.http, step.asked.clone())).partition(|(http, _)| *http);
    let mut missing = Vec::new();
    for command in COMMANDS {
        let words = format!("sendoff {command} ");
        if !run.iter().any(|(_, asked)| format!("{asked} ").contains(&words)) {
            missing.push(words);
        }
    }
    let description: Value = serde_json::from_str(DESCRIPTION.splitn(3, "---\n").nth(2).unwrap()).unwrap();
    for (pattern, operations) in description["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            if !asked.iter().any(|(_, asked)| is_for(asked, method, pattern)) {
                missing.push(format!("{} {pattern}", method.to_uppercase()));
            }
        }
    }
    assert!(missing.is_empty(), "docs/walkthrough.md lacks: {}", missing.join(", "));
}

/// Whether the request is one to this route.
fn is_for(request: &str, method: &str, pattern: &str) -> bool {
    let mut words = request.split_whitespace();
    let asked = words.next().unwrap();
    let path = words.next().unwrap().split('?').next().unwrap();
    let (before, after) = match pattern.split_once('{') {
        Some((before, rest)) => (before, rest.split_once('}').unwrap().1),
        None => return asked.eq_ignore_ascii_case(method) && path == pattern,
    };
    let part = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    asked.eq_ignore_ascii_case(method)
        && part.is_some_and(|part| !part.is_empty() && !part.contains([':', '/']))
}
