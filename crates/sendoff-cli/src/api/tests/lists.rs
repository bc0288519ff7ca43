//! Listings: filters, pages, cursors.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Place;

fn guids(page: &Value) -> Vec<String> {
    page["jobs"].as_array().unwrap().iter().map(|job| job["guid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn filters_narrow_the_listing() {
    let place = Place::new().await;
    let plain = place.submit(json!({ "run_at": "2098-01-01T00:00:00Z" })).await;
    let marked = place
        .submit(json!({ "run_at": "2099-01-01T00:00:00Z", "queue": "q", "labels": { "kind": "a=b" } }))
        .await;
    for (query, expected) in [
        ("", vec![&plain, &marked]),
        ("?order=newest", vec![&marked, &plain]),
        ("?state=pending&submitted_by=token:test", vec![&plain, &marked]),
        ("?state=started", vec![]),
        ("?queue=q", vec![&marked]),
        ("?label=kind=a=b", vec![&marked]),
        ("?label=kind%3Db", vec![]),
        ("?from=2098-06-01T00:00:00Z", vec![&marked]),
        ("?to=2098-06-01T00:00:00Z", vec![&plain]),
        ("?submitted_by=uid:1", vec![]),
        (&format!("?guid_suffix={}", &plain[24..].to_uppercase()), vec![&plain]),
    ] {
        let page = place.get(&format!("/v1/jobs{query}")).await.ok();
        assert_eq!(guids(&page).iter().collect::<Vec<_>>(), expected, "{query}");
        assert_eq!(page["next_cursor"], json!(null));
    }
}

#[tokio::test]
async fn bad_filters_name_the_parameter() {
    let place = Place::new().await;
    for (query, parameter) in [
        ("state=done", "state"),
        ("label=x", "label"),
        ("label==x", "label"),
        ("from=yesterday", "from"),
        ("to=1969-01-01T00:00:00Z", "to"),
        ("guid_suffix=xyz", "guid_suffix"),
        ("guid_suffix=", "guid_suffix"),
        ("order=up", "order"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("quue=a", "quue"),
        ("queue=a&queue=b", "queue"),
    ] {
        let problem = place.get(&format!("/v1/jobs?{query}")).await.problem("invalid_parameter");
        assert_eq!(problem["parameter"], parameter, "{problem:#}");
    }
}

#[tokio::test]
async fn pages_show_each_job_once_while_jobs_come_and_end() {
    let place = Place::new().await;
    for order in ["oldest", "newest"] {
        let queue = format!("q-{order}");
        let mut steady = BTreeSet::new();
        for _ in 0..25 {
            steady.insert(place.submit(json!({ "delay": "1h", "queue": queue })).await);
        }
        let mut leaving = Vec::new();
        for _ in 0..10 {
            leaving.push(place.submit(json!({ "delay": "1h", "queue": queue })).await);
        }
        let path = format!("/v1/jobs?queue={queue}&state=pending&limit=4&order={order}");
        let mut page = place.get(&path).await.ok();
        let mut seen = guids(&page);
        while let Some(cursor) = page["next_cursor"].as_str() {
            place.submit(json!({ "delay": "1h", "queue": queue })).await;
            if let Some(guid) = leaving.pop() {
                place.post(&format!("/v1/jobs/{guid}:cancel"), "").await.ok();
            }
            page = place.get(&format!("{path}&cursor={cursor}")).await.ok();
            seen.extend(guids(&page));
        }
        let distinct: BTreeSet<_> = seen.iter().cloned().collect();
        assert_eq!(distinct.len(), seen.len(), "{order}");
        assert!(distinct.is_superset(&steady), "{order}");
    }
}

#[tokio::test]
async fn a_cursor_goes_only_with_its_request() {
    let place = Place::new().await;
    for _ in 0..3 {
        place.submit(json!({ "delay": "1h" })).await;
    }
    let page = place.get("/v1/jobs?limit=1").await.ok();
    let cursor = page["next_cursor"].as_str().unwrap();
    place.get(&format!("/v1/jobs?limit=2&cursor={cursor}")).await.ok();
    for query in ["order=newest&", "queue=default&", "state=pending&"] {
        place.get(&format!("/v1/jobs?{query}cursor={cursor}")).await.problem("invalid_cursor");
    }
    for bad in ["", "x", "%C3%A9", &cursor[1..], &format!("{cursor}A")] {
        place.get(&format!("/v1/jobs?cursor={bad}")).await.problem("invalid_cursor");
    }
}
