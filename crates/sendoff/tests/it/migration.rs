//! Jobs that move from SQLite to PostgreSQL: all of them, once, whatever interrupts it.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use sendoff::{
    Delivery, ErrorClass, Guid, Job, JobId, JobRecord, Lane, LastError, QueueLimits, Receipt, Scheduler,
    State,
    ports::{Filter, InsertBatch, Inserted, NewJob, PageRequest, Settlement, Store},
    starter::HandlerStarter,
    state::{Begun, Outcome},
    store::{
        PostgresImport, PostgresOptions, PostgresStore, SqliteOptions, SqliteStore,
        transfer::{Migration, Progress, Report, Step},
    },
    testing::model::{at, grant, job, lane},
};

use crate::sqlite_file::{batch, by, open};

fn open_moved(path: &Path) -> SqliteStore {
    let options = SqliteOptions { keep_free_bytes: 0, moved_too: true, ..SqliteOptions::default() };
    SqliteStore::open(path, options).expect("it opens to be read")
}

async fn run(source: &SqliteStore, target: &PostgresImport) -> Report {
    Migration::new(source, Some(target)).run(&mut |_| {}).await.expect("it moves")
}

/// Runs SQL in the database of this URL; the first cell of each row.
fn sql(url: &str, statements: &str) -> Vec<String> {
    let database = url.rsplit('/').next().unwrap();
    let rows = testpg::shared().sql_in(database, statements).unwrap();
    rows.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect()
}

fn settled(id: JobId, outcome: Outcome) -> Settlement {
    let begun = Begun { starting_at: at(20), clock_skew_us: 3 };
    Settlement { id, fence: 1, begun: Some(begun), outcome }
}

fn error(class: ErrorClass) -> LastError {
    LastError { class, message: "it's \"odd\"\n\\ ü".into(), at: at(25) }
}

/// A job in each state, with and without each thing that a job can have; 16 of them.
async fn every_kind(store: &SqliteStore) {
    let jobs = (1..=16).map(|n| {
        let at_most_once = n % 3 == 0;
        Job {
            own_guid: n % 2 == 0,
            idempotency_key: (n % 4 == 1).then(|| format!("key ü {n}").into()),
            delivery: if at_most_once { Delivery::AtMostOnce } else { Delivery::AtLeastOnce },
            priority: (n % 10) as u8,
            lane: match n % 3 {
                0 => lane("default"),
                1 => lane("gpu"),
                _ => Arc::new(Lane {
                    queue: "calls".into(),
                    starter: "http".into(),
                    destination: Some("example.org:443".into()),
                }),
            },
            expires_at: (n == 7 || n == 8).then(|| at(1_000)),
            submitted_by: (n % 2 == 1).then(|| format!("ann-{}", n % 3).into()),
            grant: (n % 5 == 0).then(|| grant(n)),
            ..job(n)
        }
    });
    let mut jobs = batch(jobs);
    jobs.bookmark = Some(("run:nightly".into(), vec![0, 1, 255]));
    assert!(store.insert(jobs).await.unwrap().iter().all(|one| matches!(one, Inserted::Created(_))));
    store.claim((1..=6).map(JobId).collect(), by(10)).await.unwrap();
    let outcomes = vec![
        settled(
            JobId(1),
            Outcome::Started { started_at: at(30), receipt: Receipt { status: Some(204), pid: None } },
        ),
        settled(
            JobId(2),
            Outcome::Started {
                started_at: at(30),
                receipt: Receipt { status: None, pid: Some(4_294_967_295) },
            },
        ),
        settled(JobId(3), Outcome::Unknown { error: error(ErrorClass::Ambiguous) }),
        settled(JobId(4), Outcome::Failed { ambiguous: false, error: error(ErrorClass::Permanent) }),
        settled(
            JobId(5),
            Outcome::Retry { next_at: at(5_000), ambiguous: true, error: error(ErrorClass::NotStarted) },
        ),
    ];
    assert!(store.settle(outcomes, at(40)).await.unwrap().iter().all(|one| one.applied));
    // 6 is at_most_once and left starting; so is 9, with a cancel that came too late; 10 is at_least_once.
    store.claim(vec![JobId(9), JobId(10)], by(50)).await.unwrap();
    store.cancel(vec![job(9).guid, job(11).guid], at(60)).await.unwrap();
    store.reschedule(job(12).guid, at(9_000), at(70)).await.unwrap();
    assert_eq!(store.expire(9, at(2_000)).await.unwrap().ended.len(), 2);
    let two = QueueLimits { max_in_flight: Some(2), paused: true, ..QueueLimits::default() };
    store.set_queue("gpu".into(), Some(two)).await.unwrap();
}

/// A store with every kind of job, one of them quarantined.
async fn source(path: &Path) {
    let store = open(path);
    every_kind(&store).await;
    store.close().await.unwrap();
    let raw = rusqlite::Connection::open(path).unwrap();
    raw.execute_batch("UPDATE job SET quarantined = 1 WHERE id = 13").unwrap();
}

#[tokio::test]
async fn everything_moves_and_a_repeat_only_checks() {
    if !testpg::wanted() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    source(&path).await;
    let url = testpg::shared().new_database().unwrap();
    let store = open(&path);

    // A look changes nothing.
    let look = PostgresImport::look(&url).await.unwrap();
    let report = Migration::new(&store, Some(&look)).check(&mut |_| {}).await.unwrap();
    assert_eq!((report.absent, report.differing, report.left_behind), (16, 0, 0));
    assert!(store.moved().is_none());
    assert_eq!(sql(&url, "SELECT count(*) FROM pg_class WHERE relname = 'job'"), ["0"]);

    let target = PostgresImport::connect(&url).await.unwrap();
    let report = run(&store, &target).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.moved, report.same, report.reclaimed), (16, 16, 3));
    assert_eq!(report.source, report.target);
    assert_eq!((report.total(State::Started), report.total(State::Expired)), (2, 2));
    assert_eq!(report.total(State::Starting), 0);
    drop(store);

    let before = sql(&url, "SELECT string_agg(j::text || xmin::text, ' ' ORDER BY id) FROM sendoff.job j");
    let store = open_moved(&path);
    let report = run(&store, &target).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.moved, report.skipped, report.same), (0, 0, 16));
    let after = sql(&url, "SELECT string_agg(j::text || xmin::text, ' ' ORDER BY id) FROM sendoff.job j");
    assert_eq!(before, after);

    // What goes along.
    let limits = sql(&url, "SELECT limits FROM sendoff.queue_limits WHERE queue = 'gpu'");
    let limits: QueueLimits = serde_json::from_str(&limits[0]).unwrap();
    assert_eq!((limits.max_in_flight, limits.paused), (Some(2), true));
    let bookmark = "SELECT encode(value, 'hex') FROM sendoff.bookmark WHERE name = 'run:nightly'";
    assert_eq!(sql(&url, bookmark), ["0001ff"]);
    // In the order of insertion, and as SQLite has them.
    let texts = sql(&url, "SELECT guid FROM sendoff.job ORDER BY id");
    assert_eq!(texts, (1..=16).map(|n| job(n).guid.to_string()).collect::<Vec<_>>());
    let pid = "SELECT receipt_pid FROM sendoff.job WHERE receipt_pid IS NOT NULL";
    assert_eq!(sql(&url, pid), ["4294967295"]);
    let message = "SELECT DISTINCT error_message FROM sendoff.job WHERE state IN (3, 6) AND error_class = 0";
    assert_eq!(sql(&url, message), [error(ErrorClass::Permanent).message]);
}

#[tokio::test]
async fn a_moved_store_is_refused_and_takes_no_write() {
    if !testpg::wanted() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    source(&path).await;
    let url = testpg::shared().new_database().unwrap();
    let target = PostgresImport::connect(&url).await.unwrap();
    let store = open(&path);
    run(&store, &target).await;
    let refused = store.insert(batch([job(99)])).await.unwrap_err();
    assert!(refused.to_string().contains("were moved to postgres://127.0.0.1"), "{refused}");
    store.close().await.unwrap();
    let refused = SqliteStore::open(&path, SqliteOptions::default()).unwrap_err();
    assert!(refused.is_unusable() && refused.to_string().contains("sendoff migrate"), "{refused}");
    assert!(!refused.to_string().contains("sendoff@"), "{refused}");
    // An older version looks at the application number first.
    let raw = rusqlite::Connection::open(&path).unwrap();
    let number: i32 = raw.query_row("PRAGMA application_id", [], |row| row.get(0)).unwrap();
    assert_ne!(number, 0x7365_6e64);
    drop(raw);
    // A copy is as moved as its original.
    let copy = directory.path().join("copy.db");
    SqliteStore::backup_file(&path, &copy).unwrap();
    assert!(SqliteStore::open(&copy, SqliteOptions::default()).unwrap_err().is_unusable());

    let store = open_moved(&path);
    assert!(store.claim(vec![JobId(15)], by(99)).await.is_err());
    // Another database is told from the one that it went to; that one made anew is not.
    let other = testpg::shared().new_database().unwrap();
    let other = PostgresImport::connect(&other).await.unwrap();
    let refused = Migration::new(&store, Some(&other)).run(&mut |_| {}).await.unwrap_err();
    assert!(refused.to_string().contains("name that database"), "{refused}");
    drop(target);
    sql(&url, "DROP SCHEMA sendoff CASCADE");
    let target = PostgresImport::connect(&url).await.unwrap();
    let report = run(&store, &target).await;
    assert!(report.is_whole() && report.moved == 16, "{report:?}");
}

async fn records(store: &dyn Store) -> Vec<JobRecord> {
    let page = PageRequest { limit: 1_000, ..PageRequest::default() };
    store.list(Filter::default(), page).await.unwrap().records
}

#[tokio::test]
async fn both_stores_tell_the_same_of_each_job() {
    if !testpg::wanted() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    source(&path).await;
    let url = testpg::shared().new_database().unwrap();
    let store = open(&path);
    let import = PostgresImport::connect(&url).await.unwrap();
    assert!(run(&store, &import).await.is_whole());
    let target = PostgresStore::connect(&url, PostgresOptions::default()).await.unwrap();
    assert_eq!(records(&target).await, records(&store).await);
    assert_eq!(target.counts().await.unwrap(), store.counts().await.unwrap());
    assert_eq!(target.queues().await.unwrap(), store.queues().await.unwrap());
    // A job is known there by its guid and by its key, and is not taken in twice.
    let known = Job { idempotency_key: Some("key ü 1".into()), ..job(1) };
    let again = target.insert(batch([known])).await.unwrap();
    assert_eq!(again, [Inserted::Existing(job(1).guid)]);
    target.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_at_work_start_what_comes_once() {
    if !testpg::wanted() {
        return;
    }
    const JOBS: u64 = 5_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let jobs = (1..=JOBS).map(|n| Job {
        lane: Arc::new(Lane { queue: "default".into(), starter: "handler".into(), destination: None }),
        request: r#"{"start":{"handler":{"name":"count"}}}"#.into(),
        ..job(n)
    });
    store.insert(batch(jobs)).await.unwrap();
    let url = testpg::shared().new_database().unwrap();
    let import = PostgresImport::connect(&url).await.unwrap();
    let counts = Arc::new(Mutex::new(HashMap::<Guid, u32>::new()));
    let all = Arc::new(tokio::sync::Notify::new());
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let options =
            PostgresOptions { poll_interval: Duration::from_millis(100), ..PostgresOptions::default() };
        let node = PostgresStore::connect(&url, options).await.unwrap();
        let (counts, all) = (counts.clone(), all.clone());
        let starter = HandlerStarter::new().handler("count", move |guid, _: ()| {
            let mut counts = counts.lock().unwrap();
            *counts.entry(guid).or_insert(0) += 1;
            if counts.len() as u64 == JOBS {
                all.notify_one();
            }
            async { Ok(()) }
        });
        nodes.push(Scheduler::builder().store(Arc::new(node)).starter(starter).start().await.unwrap());
    }
    let report = run(&store, &import).await;
    assert!(report.is_whole() && report.moved == JOBS, "{report:?}");
    all.notified().await;
    for node in nodes {
        node.shutdown(sendoff::DEFAULT_GRACE).await.unwrap();
    }
    let report = run(&store, &import).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.went_on, JOBS);
    assert!(counts.lock().unwrap().values().all(|count| *count == 1));
}

/// `n` pending jobs and one started.
async fn many(path: &Path, n: u64) {
    let store = open(path);
    for from in (1..=n).step_by(5_000) {
        let jobs = (from..=n.min(from + 4_999)).map(|n| NewJob { job: Arc::new(job(n)), claim: None });
        let batch = InsertBatch { jobs: jobs.collect(), atomic: true, bookmark: None, now: at(0) };
        store.insert(batch).await.unwrap();
    }
    store.claim(vec![JobId(1)], by(10)).await.unwrap();
    let started = Outcome::Started { started_at: at(30), receipt: Receipt::default() };
    store.settle(vec![settled(JobId(1), started)], at(40)).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn one_that_is_interrupted_goes_on_where_it_was() {
    if !testpg::wanted() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    many(&path, 9_000).await;
    let url = testpg::shared().new_database().unwrap();
    let mut moved = 0;
    for chunks in 0..3 {
        let store = open_moved(&path);
        let target = PostgresImport::connect(&url).await.unwrap();
        let (stop, mut left): (_, i32) = (tokio::sync::Notify::new(), chunks);
        let mut tell = |progress: Progress| {
            assert_eq!(progress.step, Step::Moving);
            left -= 1;
            if left == 0 {
                stop.notify_one();
            }
        };
        if chunks == 0 {
            stop.notify_one();
        }
        // Dropped at whatever it waits for, with statements under way.
        tokio::select! {
            report = Migration::new(&store, Some(&target)).run(&mut tell) => panic!("{report:?}"),
            () = stop.notified() => {}
        }
        drop(target);
        store.crash();
        let there: u64 = sql(&url, "SELECT count(*) FROM sendoff.job")[0].parse().unwrap();
        assert!(there >= moved, "{there} after {moved}");
        moved = there;
    }
    let store = open_moved(&path);
    let target = PostgresImport::connect(&url).await.unwrap();
    let report = run(&store, &target).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.same, 9_000);
    assert_eq!(report.source, report.target);
    assert!(report.moved + report.skipped < 9_000, "it went on where it was: {report:?}");
    assert_eq!(sql(&url, "SELECT count(*) FROM sendoff.job"), ["9000"]);
}

#[tokio::test]
async fn what_differs_is_named_and_what_went_on_is_not() {
    if !testpg::wanted() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    source(&path).await;
    let url = testpg::shared().new_database().unwrap();
    let target = PostgresImport::connect(&url).await.unwrap();
    let store = open(&path);
    assert!(run(&store, &target).await.is_whole());
    // Claimed, cancelled, rescheduled: as nodes and people do.
    sql(
        &url,
        "INSERT INTO sendoff.node_name (name) VALUES ('n');
         UPDATE sendoff.job SET state = 1, fence = 1, attempt = 1, claimed_at = 5, node = (SELECT id FROM sendoff.node_name WHERE name = 'n')
             WHERE id = 14;
         UPDATE sendoff.job SET state = 4, ended_at = 5 WHERE id = 15;
         UPDATE sendoff.job SET run_at = 77, next_at = 77 WHERE id = 16;
         INSERT INTO sendoff.tally SELECT l.queue, s, n FROM sendoff.job j JOIN sendoff.lane l ON l.id = j.lane,
             (VALUES (0, -1), (1, 1)) AS v (s, n) WHERE j.id = 14;
         INSERT INTO sendoff.tally SELECT l.queue, s, n FROM sendoff.job j JOIN sendoff.lane l ON l.id = j.lane,
             (VALUES (0, -1), (4, 1)) AS v (s, n) WHERE j.id = 15;",
    );
    let report = run(&store, &target).await;
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.same, report.went_on), (13, 3));
    assert_ne!(report.source, report.target);
    // What no step of a job does.
    sql(
        &url,
        "UPDATE sendoff.job SET request = '{}' WHERE id = 1;
         UPDATE sendoff.job SET error_message = 'else' WHERE id = 4;
         DELETE FROM sendoff.job WHERE id = 2;",
    );
    let report = run(&store, &target).await;
    let told: Vec<_> = report.differences.iter().map(|one| (one.guid, &*one.what)).collect();
    let guid = |n| Some(job(n).guid);
    assert_eq!(told[0], (guid(1), "it is otherwise in the target: request"));
    assert_eq!(told[1], (guid(2), "it is not in the target: it was deleted there, or lost"));
    assert_eq!(told[2], (guid(4), "it is otherwise in the target: last_error"));
    assert!(told[3].1.contains("the target counts 1 jobs of queue calls as started, and has 0"), "{told:?}");
    assert_eq!(report.differing, 4);
}

#[tokio::test]
async fn names_that_are_taken_there_and_rows_that_cannot_be_read_are_told() {
    if !testpg::wanted() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let url = testpg::shared().new_database().unwrap();
    let target = PostgresImport::connect(&url).await.unwrap();
    let keyed = |n, key: &str| Job { idempotency_key: Some(key.into()), ..job(n) };
    let two = |n| QueueLimits { max_in_flight: Some(n), ..QueueLimits::default() };
    let first = open(&directory.path().join("first.db"));
    first.insert(batch([keyed(1, "a"), job(2)])).await.unwrap();
    first.set_queue("q".into(), Some(two(1))).await.unwrap();
    assert!(run(&first, &target).await.is_whole());

    let path = directory.path().join("second.db");
    let second = open(&path);
    let other = Job { priority: 9, ..job(2) };
    let jobs = batch([keyed(3, "a"), other, job(4), job(5), keyed(6, "nul\0")]);
    second.insert(jobs).await.unwrap();
    second.set_queue("q".into(), Some(two(2))).await.unwrap();
    second.close().await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("UPDATE job SET request = 'no json' WHERE id = 4").unwrap();
    drop(raw);
    let second = open(&path);
    let look = Migration::new(&second, Some(&target)).check(&mut |_| {}).await.unwrap();
    assert_eq!((look.absent, look.differing, look.left_behind), (1, 2, 2));

    let report = run(&second, &target).await;
    assert_eq!((report.moved, report.skipped, report.left_behind), (1, 2, 2));
    let what: Vec<_> = report.differences.iter().map(|one| &*one.what).collect();
    assert_eq!(what[0], "queue q has other limits in the target already; they stay");
    assert_eq!(what[1], format!("its idempotency key names job {} in the target", job(1).guid));
    assert_eq!(what[2], "it is otherwise in the target: priority");
    assert_eq!(report.differing, 3);
    let reasons: Vec<_> = report.unreadable.iter().map(|one| (one.guid, &*one.reason)).collect();
    assert_eq!(reasons[0].1, "its request cannot be read");
    assert_eq!(reasons[1].1, "its idempotency_key has a NUL, which PostgreSQL cannot hold");
    assert_eq!(
        reasons.iter().map(|one| one.0).collect::<Vec<_>>(),
        [job(5), job(6)].map(|job| Some(job.guid))
    );
}

/// `SENDOFF_MOVE=1000000 cargo test --release -p sendoff --test it migration::rate -- --nocapture`
#[tokio::test]
async fn rate() {
    if !testpg::wanted() {
        return;
    }
    let n: u64 = std::env::var("SENDOFF_MOVE").map_or(4_000, |n| n.parse().expect("a number"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    many(&path, n).await;
    let url = testpg::shared().new_database().unwrap();
    let target = PostgresImport::connect(&url).await.unwrap();
    let report = run(&open(&path), &target).await;
    assert!(report.is_whole() && report.moved == n && report.same == n, "{report:?}");
    let rate = |time: std::time::Duration| (n as f64 / time.as_secs_f64().max(1e-6)).round();
    println!(
        "{n} rows: moved in {:.1?} ({} a second), checked in {:.1?} ({} a second)",
        report.moving,
        rate(report.moving),
        report.checking,
        rate(report.checking)
    );
}
