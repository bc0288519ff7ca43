//! The SQLite store as it was and as it may be found: an older schema, grants and limits that cannot
//! be read.

use std::{path::Path, sync::Arc};

use sendoff::{
    Grant, Job, JobId, QueueLimits, Reach, State,
    ports::{CancelVerdict, Filter, Inserted, PageRequest, Prune, Store},
    store::SqliteStore,
    testing::model::{at, grant, job},
};

use crate::sqlite_file::{batch, by, open};

/// A store as the first schema left it, with a row in each state that matters: pending, starting,
/// started and unknown; and names both of sendoff's making and of clients'.
fn of_schema_1(path: &Path) {
    let raw = rusqlite::Connection::open(path).unwrap();
    raw.execute_batch(include_str!("../../src/store/sqlite/sql/0001_jobs.sql")).unwrap();
    raw.execute_batch(
        "PRAGMA application_id = 0x73656e64; PRAGMA user_version = 1;
         INSERT INTO lane (id, queue, starter, destination, busy) VALUES (1, 'default', 'simulated', '', 1);
         INSERT INTO actor (id, name) VALUES (1, 'node-1'), (2, 'ann');
         INSERT INTO counts VALUES ('default', 0, 1), ('default', 1, 1), ('default', 2, 1), ('default', 6, 1);",
    )
    .unwrap();
    for (n, state) in [(1_i64, 0), (2, 1), (3, 2), (4, 6)] {
        let of = job(n.cast_unsigned());
        let (ended, started) = ((state > 1).then_some(5), (state == 2).then_some(4));
        let micros = |n: i64| at(n).as_micros();
        raw.execute(
            "INSERT INTO job (id, state, lane, priority, delivery, fence, attempt, max_attempts, queued_at,
                 run_at, next_at, ended_at, claimed_at, node, starting_at, started_at, submitted_by,
                 own_guid, guid, request)
             VALUES (?1, ?2, 1, 3, 1, ?3, ?3, 3, ?4, ?4, ?4, ?5, ?6, ?7, ?8, ?9, 2, 0, ?10, ?11)",
            rusqlite::params![
                n,
                state,
                i32::from(state > 0),
                micros(0),
                ended.map(micros),
                (state > 0).then_some(micros(1)),
                (state > 0).then_some(1),
                started.map(micros),
                started.map(micros),
                of.guid.as_bytes(),
                of.request,
            ],
        )
        .unwrap();
        let name = [&[0], &of.guid.as_bytes()[..]].concat();
        raw.execute("INSERT INTO name_log (seq, name, job) VALUES (?1, ?2, ?1)", (n, name)).unwrap();
    }
}

#[tokio::test]
async fn a_store_of_the_first_schema_is_brought_up_to_date() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    of_schema_1(&path);
    for _ in 0..2 {
        let store = open(&path);
        let page = store.list(Filter::default(), PageRequest::default()).await.unwrap();
        let states: Vec<_> = page.records.iter().map(|record| record.state).collect();
        assert_eq!(states, [State::Pending, State::Starting, State::Started, State::Unknown]);
        for (n, record) in (1..).zip(&page.records) {
            assert_eq!((record.guid, record.quarantined, record.priority), (job(n).guid, false, 3));
            assert_eq!(store.get(job(n).guid).await.unwrap().as_ref(), Some(record));
        }
        let filter = Filter { state: Some(State::Unknown), ..Filter::default() };
        assert_eq!(store.list(filter, PageRequest::default()).await.unwrap().records, page.records[3..]);
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.unfinished(), counts.quarantined), (2, 0));
        assert!(store.queues().await.unwrap().is_empty());
    }
    let store = open(&path);
    assert_eq!(store.reclaim(9, at(9)).await.unwrap(), 1);
    let claimed = store.claim(vec![JobId(1), JobId(2)], by(10)).await.unwrap();
    for claimed in claimed {
        // Nothing was granted then, and nothing was refused.
        assert_eq!(claimed.expect("it can be claimed").job.grant, None);
    }
    let new = Job { grant: Some(grant(5)), ..job(5) };
    let [Inserted::Created(id)] = store.insert(batch([new])).await.unwrap()[..] else {
        panic!("not created")
    };
    drop(store);
    let raw = rusqlite::Connection::open(&path).unwrap();
    let version: u32 = raw.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    let check: String = raw.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!((version, &*check), (3, "ok"));
    drop(raw);
    let claimed = open(&path).claim(vec![id], by(11)).await.unwrap();
    assert_eq!(claimed[0].as_ref().expect("it can be claimed").job.grant, Some(grant(5)));
}

#[tokio::test]
async fn a_grant_that_cannot_be_decoded_allows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let jobs = (0..5).map(|n| Job { grant: (n > 0).then(|| grant(n)), ..job(n) });
    store.insert(batch(jobs)).await.unwrap();
    store.close().await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    // Cut off; gone; and with a word that this version does not know.
    raw.execute_batch(
        r#"UPDATE granted SET reach = substr(reach, 1, 20) WHERE id = 1;
           DELETE FROM granted WHERE id = 2;
           UPDATE granted SET reach = '{"only_on":"sunday",' || substr(reach, 2) WHERE id = 3;"#,
    )
    .unwrap();
    drop(raw);
    let store = open(&path);
    let quarantined = async |store: &SqliteStore| {
        let page = store.list(Filter::default(), PageRequest::default()).await.unwrap();
        page.records.iter().map(|record| record.quarantined).collect::<Vec<_>>()
    };
    assert_eq!(quarantined(&store).await, [false, true, true, true, false]);
    assert_eq!(store.counts().await.unwrap().quarantined, 0, "not met yet");
    let claimed = store.claim((1..=5).map(JobId).collect(), by(1)).await.unwrap();
    let grants: Vec<_> = claimed.iter().map(|claimed| Some(claimed.as_ref()?.job.grant.clone())).collect();
    assert_eq!(grants, [Some(None), None, None, None, Some(Some(grant(4)))]);
    assert_eq!(quarantined(&store).await, [false, true, true, true, false]);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.quarantined, counts.total(State::Pending)), (3, 3));
    assert!(store.due(None, at(9), 9).await.unwrap().is_empty());
    // An operator can be rid of them.
    let guids = (1..4).map(|n| job(n).guid).collect();
    let verdicts = store.cancel(guids, at(2)).await.unwrap();
    assert!(
        verdicts.iter().all(|verdict| matches!(verdict, CancelVerdict::Cancelled { .. })),
        "{verdicts:?}"
    );
    let all = Prune { before: at(3), submitted_by: None, unknown_too: false, limit: 9 };
    assert_eq!(store.prune(all).await.unwrap(), 3);
    assert_eq!(store.counts().await.unwrap().quarantined, 0);
}

#[tokio::test]
async fn a_grant_that_has_no_text_is_refused_alone() {
    use std::os::unix::ffi::OsStringExt;
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    let path = std::ffi::OsString::from_vec(vec![b'/', 0xff]).into();
    let reach = Reach { programs: vec![path], ..Reach::default() };
    let odd = Job { grant: Some(Arc::new(Grant { local: false, reach })), ..job(2) };
    let refused = store.insert(batch([job(1), odd]));
    let other = store.insert(batch([job(3)]));
    assert!(refused.await.unwrap_err().is_invalid());
    assert!(matches!(other.await.unwrap()[..], [Inserted::Created(_)]));
    assert!(store.get(job(1).guid).await.unwrap().is_none());
}

#[tokio::test]
async fn a_queue_whose_limits_cannot_be_read_is_paused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let two = QueueLimits { max_in_flight: Some(2), ..QueueLimits::default() };
    store.set_queue("a".into(), Some(two)).await.unwrap();
    store.set_queue("b".into(), Some(two)).await.unwrap();
    store.close().await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch(r#"UPDATE queue_limits SET limits = '{"max_per_day":2}' WHERE queue = 'a'"#).unwrap();
    drop(raw);
    let store = open(&path);
    let queues = store.queues().await.unwrap();
    assert_eq!((queues["a"].paused, queues["b"]), (true, two));
    store.set_queue("a".into(), Some(two)).await.unwrap();
    assert_eq!(store.queues().await.unwrap()["a"], two);
}
