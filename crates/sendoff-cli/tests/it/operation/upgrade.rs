//! Stores of other versions.

use std::os::unix::net::UnixDatagram;

use super::{count, ended};
use crate::harness::{Daemon, Place};

const STORE: &str = "state/sendoff/sendoff.db";
/// Of the jobs of [`of_schema_1`], but for the last digit.
pub(crate) const GUID: &str = "6f1c2d3e-0000-4000-8000-00000000000";

/// A store of the first schema with pending jobs: one due, one of the far future.
pub(crate) fn of_schema_1(place: &Place) {
    std::fs::create_dir_all(place.path("state/sendoff")).unwrap();
    let store = rusqlite::Connection::open(place.path(STORE)).unwrap();
    store.execute_batch(include_str!("../../../../sendoff/src/store/sqlite/sql/0001_jobs.sql")).unwrap();
    store
        .execute_batch(
            "PRAGMA application_id = 0x73656e64; PRAGMA user_version = 1;
             INSERT INTO lane (id, queue, starter, destination, busy) VALUES (1, 'mail', 'simulated', '', 1);
             INSERT INTO counts VALUES ('mail', 0, 2);",
        )
        .unwrap();
    let request = r#"{"start":{"simulated":{"delay":"1ms"}},"queue":"mail"}"#;
    for (id, due) in [(1_u8, 1_700_000_000_000_000_i64), (2, 32_000_000_000_000_000)] {
        let guid = u128::from_str_radix(&format!("{GUID}{id}").replace('-', ""), 16).unwrap().to_be_bytes();
        store
            .execute(
                "INSERT INTO job (id, state, lane, priority, delivery, fence, attempt, max_attempts, queued_at,
                     run_at, next_at, own_guid, guid, request)
                 VALUES (?1, 0, 1, 0, 1, 0, 0, 3, 1700000000000000, ?2, ?2, 0, ?3, ?4)",
                rusqlite::params![id, due, guid, request],
            )
            .unwrap();
        let name = [&[0], &guid[..]].concat();
        store.execute("INSERT INTO name_log (seq, name, job) VALUES (?1, ?2, ?1)", (id, name)).unwrap();
    }
}

#[test]
fn jobs_of_an_older_version_are_kept_and_started() {
    let place = Place::new();
    of_schema_1(&place);
    let manager = UnixDatagram::bind(place.path("notify")).unwrap();
    let mut command = Daemon::command(&place, &[]);
    command.env("NOTIFY_SOCKET", place.path("notify"));
    let daemon = Daemon::spawn(command);
    let record = ended(&daemon, &format!("{GUID}1"));
    assert_eq!((&record["state"], &record["queue"]), (&"started".into(), &"mail".into()), "{record}");
    assert_eq!(count(&daemon, "pending"), 1);
    daemon.until_log("bringing the store up to date");
    // Nobody loses patience while that takes its time.
    let mut told = [0; 256];
    let read = manager.recv(&mut told).unwrap();
    assert!(
        told[..read].starts_with(b"EXTEND_TIMEOUT_USEC="),
        "{:?}",
        String::from_utf8_lossy(&told[..read])
    );
    daemon.kill();
    let daemon = Daemon::start(&place, &[]);
    daemon.ask("POST", &format!("/v1/jobs/{GUID}2:start-now"), "").status(200);
    assert_eq!(ended(&daemon, &format!("{GUID}2"))["state"], "started");
}

#[test]
fn a_newer_store_is_refused_and_left_alone() {
    let place = Place::new();
    of_schema_1(&place);
    let store = rusqlite::Connection::open(place.path(STORE)).unwrap();
    store.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(store);
    let before = std::fs::read(place.path(STORE)).unwrap();
    let refused = place.run(["serve"]).code(4).stderr_has("was written by a newer sendoff (schema 99");
    assert!(refused.stderr.contains("use that version or name another store"), "{refused}");
    assert!(std::fs::read(place.path(STORE)).unwrap() == before);
}
