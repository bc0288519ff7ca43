//! What the nodes tell of the jobs.

use std::collections::{BTreeMap, HashMap};

use sendoff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::{caller::Caller, until};

/// Of a record, what is judged.
#[derive(Deserialize, PartialEq, Debug)]
pub(super) struct Record {
    pub(super) guid: Uuid,
    pub(super) queue: String,
    pub(super) state: String,
    pub(super) run_at: Timestamp,
    pub(super) queued_at: Timestamp,
    pub(super) claimed_at: Option<Timestamp>,
    pub(super) starting_at: Option<Timestamp>,
    pub(super) started_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) fence: usize,
    pub(super) crashes: u32,
    pub(super) possible_duplicate: bool,
    pub(super) cancel_requested_at: Option<Timestamp>,
    pub(super) last_error: Option<LastError>,
    pub(super) node: Option<String>,
}

#[derive(Deserialize, PartialEq, Debug)]
pub(super) struct LastError {
    pub(super) class: String,
}

/// The record of this job once it is final.
pub(super) fn ended(caller: &mut Caller, guid: Uuid) -> Record {
    loop {
        let (status, body) = caller.fetch("GET", &format!("/v1/jobs/{guid}?wait=60s"), "").unwrap();
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, 200, "{guid} was acknowledged and is lost: {text}");
        let record: Record = serde_json::from_slice(&body).unwrap();
        if !matches!(record.state.as_str(), "pending" | "starting") {
            return record;
        }
    }
}

/// All records, a page at a time.
pub(super) fn records(caller: &mut Caller) -> HashMap<Uuid, Record> {
    #[derive(Deserialize)]
    struct Page {
        jobs: Vec<Record>,
        next_cursor: Option<String>,
    }
    let (mut records, mut path) = (HashMap::new(), "/v1/jobs?limit=1000".to_owned());
    loop {
        let (status, body) = caller.fetch("GET", &path, "").unwrap();
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let page: Page = serde_json::from_slice(&body).unwrap();
        for record in page.jobs {
            let twice = records.insert(record.guid, record);
            assert!(twice.is_none(), "listed twice: {twice:?}");
        }
        match page.next_cursor {
            Some(cursor) => path = format!("/v1/jobs?limit=1000&cursor={cursor}"),
            None => return records,
        }
    }
}

/// Waits until nothing is to be done any more; the counts by state.
pub(super) fn settled(caller: &mut Caller) -> BTreeMap<String, usize> {
    const LONGEST_PAUSE: usize = 1_500;
    let mut last = (Value::Null, 0);
    loop {
        if let Ok((200, stats)) = caller.ask("GET", "/v1/stats", "") {
            let counts = &stats["counts"];
            if counts["pending"].is_null() && counts["starting"].is_null() {
                return serde_json::from_value(counts.clone()).unwrap();
            }
            last = (stats["counts"].clone(), if last.0 == stats["counts"] { last.1 + 1 } else { 0 });
        } else {
            last.1 += 1;
        }
        assert!(last.1 < LONGEST_PAUSE, "nothing happens any more: {}", last.0);
        // There is nothing to wait at for all jobs together.
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Waits until this node has nothing in flight: it may still have an outcome to tell.
pub(super) fn idle(caller: &mut Caller) {
    until("a node that has nothing in flight", || {
        let (_, text) = caller.fetch("GET", "/metrics", "").unwrap();
        String::from_utf8_lossy(&text)
            .lines()
            .any(|line| ["sendoff_starts_in_flight 0", "sendoff_starts_in_flight 0.0"].contains(&line))
    });
}
