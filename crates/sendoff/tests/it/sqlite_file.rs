//! The SQLite store as a file: who may open what, what a damaged row or disk does, copies.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use sendoff::{
    Error, Job, JobId, State,
    ports::{
        CancelVerdict, Claim, Filter, InsertBatch, Inserted, NewJob, PageRequest, Prune, Settlement, Store,
    },
    state::Outcome,
    store::{SqliteOptions, SqliteStore},
    testing::model::{at, job},
};

fn roomy() -> SqliteOptions {
    SqliteOptions { keep_free_bytes: 0, ..SqliteOptions::default() }
}

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, roomy()).expect("it opens")
}

fn refused(path: &Path) -> Error {
    SqliteStore::open(path, roomy()).expect_err("it must not open")
}

pub(crate) fn batch(jobs: impl IntoIterator<Item = Job>) -> InsertBatch {
    let jobs = jobs.into_iter().map(|job| NewJob { job: Arc::new(job), claim: None }).collect();
    InsertBatch { jobs, atomic: true, bookmark: None, now: at(0) }
}

async fn insert(store: &SqliteStore, n: u64) -> JobId {
    match store.insert(batch([job(n)])).await.expect("insert")[..] {
        [Inserted::Created(id)] => id,
        ref other => panic!("not created: {other:?}"),
    }
}

pub(crate) fn by(micros: i64) -> Claim {
    Claim { node: "node".into(), now: at(micros) }
}

fn released(id: JobId, fence: u32) -> Settlement {
    Settlement { id, fence, begun: None, outcome: Outcome::Released { next_at: at(5), error: None } }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_new_store_is_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/on/the/way/store.db");
    let store = open(&path);
    insert(&store, 1).await;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for beside in ["store.db.lock", "store.db-wal", "store.db-shm"] {
        assert_eq!(mode(&path.with_file_name(beside)), 0o600, "{beside}");
    }
}

#[tokio::test]
async fn one_owner_at_a_time_whatever_name_leads_to_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let first = open(&path);
    insert(&first, 1).await;
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(refused(&link).is_locked());
    drop(first);
    assert_eq!(open(&link).counts().await.unwrap().total(State::Pending), 1);
    // And a planted lock file harms nobody.
    let victim = directory.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, directory.path().join("other.db.lock")).unwrap();
    assert!(refused(&directory.path().join("other.db")).is_unusable());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}

/// What a killed owner was just starting holds its descriptors for a moment longer.
#[test]
fn a_lock_that_outlives_its_owner_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let lock = directory.path().join("store.db.lock");
    fs::write(&lock, format!("{}\n", dead.id())).unwrap();
    let orphan = fs::File::open(&lock).unwrap();
    rustix::fs::flock(&orphan, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (tell, opened) = std::sync::mpsc::channel();
    let opening = path.clone();
    std::thread::spawn(move || tell.send(SqliteStore::open(opening, roomy()).map(drop)));
    let early = opened.recv_timeout(std::time::Duration::from_millis(50));
    assert!(early.is_err(), "neither open nor refused while the orphan lives: {early:?}");
    drop(orphan);
    opened.recv().unwrap().unwrap();
    assert_eq!(fs::read_to_string(&lock).unwrap(), format!("{}\n", std::process::id()));
}

/// A process that another thread is just starting has one until its exec.
#[test]
fn a_copy_of_the_lock_does_not_outlive_the_store() {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let lock = directory.path().join("store.db.lock");
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    let [ref held] =
        descriptors.filter(|fd| fs::read_link(fd).is_ok_and(|to| to == lock)).collect::<Vec<_>>()[..]
    else {
        panic!("it holds the lock by one descriptor")
    };
    let held = held.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let _copy = pidfd_getfd(own, held, PidfdGetfdFlags::empty()).unwrap();
    drop(store);
    drop(open(&path));
}

#[tokio::test]
async fn one_owner_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let first = open(&path);
    let err = refused(&path);
    assert!(err.is_locked() && err.is_unusable(), "{err:?}");
    assert!(err.to_string().contains(&format!("process {}", std::process::id())), "{err}");
    // The refused one did no harm.
    insert(&first, 1).await;
    first.close().await.unwrap();
    let second = open(&path);
    assert!(first.counts().await.unwrap_err().is_closed());
    drop(second);
    // A left-over lock file says nothing.
    assert!(path.with_file_name("store.db.lock").exists());
    let third = open(&path);
    assert_eq!(third.counts().await.unwrap().total(State::Pending), 1);
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);

    fs::write(
        path("text"),
        "this is a text that is no database, long enough for a header of 100 bytes. ".repeat(9),
    )
    .unwrap();
    let text = fs::read(path("text")).unwrap();
    let err = refused(&path("text"));
    assert!(err.is_unusable() && err.to_string().contains("not an SQLite database"), "{err}");
    assert!(err.to_string().contains("text"), "the path is missing: {err}");
    assert_eq!(fs::read(path("text")).unwrap(), text);

    let err = refused(directory.path());
    assert!(err.is_unusable() && err.to_string().contains("directory"), "{err}");

    let err = refused(&path("text").join("store.db"));
    assert!(err.is_unusable() && err.to_string().contains("directory cannot be"), "{err}");

    let err = refused(Path::new("/proc/sendoff-store.db"));
    assert!(err.is_unusable() && err.to_string().contains("may write to"), "{err}");

    let other = rusqlite::Connection::open(path("other.db")).unwrap();
    other.execute_batch("CREATE TABLE theirs (x); PRAGMA user_version = 1").unwrap();
    let err = refused(&path("other.db"));
    assert!(err.is_unusable() && err.to_string().contains("another program"), "{err}");
    let tables: i64 = other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_an_empty_file_is_a_new_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    fs::write(&path, "").unwrap();
    let store = open(&path);
    insert(&store, 1).await;
    store.close().await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA user_version = 1000").unwrap();
    drop(raw);
    let err = refused(&path);
    assert!(err.is_newer() && err.to_string().contains("schema 1000"), "{err}");
}

#[tokio::test]
async fn a_row_that_cannot_be_decoded_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let (mut ids, lane) = (Vec::new(), job(0).lane);
    for n in 0..4 {
        ids.push(insert(&store, n).await);
    }
    store.close().await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("UPDATE job SET request = '{' WHERE id = 1; UPDATE job SET next_at = -5 WHERE id = 2;")
        .unwrap();
    drop(raw);
    let store = open(&path);
    let headers =
        |headers: Vec<sendoff::Header>| -> Vec<JobId> { headers.iter().map(|header| header.id).collect() };
    // A header does not show that the request is damaged; the claim does.
    assert_eq!(headers(store.due(None, at(0), 9).await.unwrap()), [ids[0], ids[2], ids[3]]);
    assert_eq!(headers(store.ready(lane.clone(), at(0), 2).await.unwrap()), [ids[0], ids[2]]);
    let claimed = store.claim(vec![ids[0], ids[2]], by(1)).await.unwrap();
    assert!(claimed[0].is_none() && claimed[1].is_some());
    assert_eq!(headers(store.due(None, at(0), 9).await.unwrap()), [ids[3]]);
    assert!(store.claim(vec![ids[1]], by(1)).await.unwrap()[0].is_none());

    let page = store.list(Filter::default(), PageRequest::default()).await.unwrap();
    let quarantined: Vec<_> = page.records.iter().map(|record| record.quarantined).collect();
    assert_eq!(quarantined, [true, true, false, false]);
    assert!(store.get(job(0).guid).await.unwrap().unwrap().quarantined);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.total(State::Pending), counts.quarantined), (3, 2));
    let verdicts = store.cancel(vec![job(0).guid], at(2)).await.unwrap();
    assert!(matches!(verdicts[..], [CancelVerdict::Cancelled { .. }]), "{verdicts:?}");
}

#[tokio::test]
async fn a_row_that_cannot_be_decoded_is_left_out_of_a_run_of_claims() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let verdicts = store.insert(batch((0..20).map(job))).await.unwrap();
    let mut ids: Vec<_> = (0..20)
        .map(|n| verdicts[n].clone())
        .map(|verdict| match verdict {
            Inserted::Created(id) => id,
            other => panic!("not created: {other:?}"),
        })
        .collect();
    drop(store);
    let conn = rusqlite::Connection::open(&path).unwrap();
    conn.execute("UPDATE job SET request = 'not JSON' WHERE id = ?1", [ids[7].0.cast_signed()]).unwrap();
    drop(conn);
    let store = open(&path);
    // One is claimed already, and one comes twice.
    assert!(store.claim(vec![ids[3]], by(1)).await.unwrap()[0].is_some());
    ids.push(ids[0]);
    let claimed = store.claim(ids, by(2)).await.unwrap();
    let lost: Vec<_> = (0..21).filter(|n| claimed[*n].is_none()).collect();
    assert_eq!(lost, [3, 7, 20]);
    assert!(claimed.iter().flatten().all(|claimed| claimed.fence == 1 && claimed.attempt == 1));
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.total(State::Starting), counts.total(State::Pending), counts.quarantined), (19, 1, 1));
}

#[tokio::test]
async fn queues_without_jobs_leave_no_counts_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    insert(&store, 1).await;
    store.cancel(vec![job(1).guid], at(1)).await.unwrap();
    let all = Prune { before: at(2), submitted_by: None, unknown_too: false, limit: 10 };
    assert_eq!(store.prune(all).await.unwrap(), 1);
    store.close().await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    let rows: i64 = raw.query_row("SELECT count(*) FROM counts", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn nobody_waits_for_a_row_that_cannot_be_decoded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    for n in 0..4 {
        insert(&store, n).await;
    }
    store.close().await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("UPDATE job SET next_at = -5").unwrap();
    drop(raw);
    let builder = sendoff::Scheduler::builder().store(std::sync::Arc::new(open(&path)));
    let starter = sendoff::testing::ScriptedStarter::by_script(|_| sendoff::testing::Plan::STARTED);
    let scheduler = builder.starter(starter.clone()).start().await.unwrap();
    let idle = tokio::time::timeout(std::time::Duration::from_secs(60), scheduler.idle()).await;
    idle.expect("they are not waited for").unwrap();
    assert_eq!(scheduler.counts().await.unwrap().total(State::Pending), 4);
    assert_eq!(starter.begun_in_all().0, 0);
}

#[tokio::test]
async fn a_full_disk_refuses_what_does_not_fit_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = SqliteStore::open(&path, SqliteOptions { max_pages: Some(120), ..roomy() }).unwrap();
    let id = insert(&store, 0).await;
    // Two calls of one group: what does not fit does not take the other along.
    let too_much = store.insert(batch((1..5_000).map(job)));
    let fits = store.insert(batch([job(10_000)]));
    let err = too_much.await.unwrap_err();
    assert!(err.is_full(), "{err:?}");
    assert!(matches!(fits.await.unwrap()[..], [Inserted::Created(_)]));
    assert_eq!(store.counts().await.unwrap().total(State::Pending), 2);
    assert!(store.get(job(1).guid).await.unwrap().is_none());
    let claimed = store.claim(vec![id], by(1)).await.unwrap();
    let fence = claimed[0].as_ref().expect("it can be claimed").fence;
    assert!(store.settle(vec![released(id, fence)], at(2)).await.unwrap()[0].applied);
    drop(store);
    assert_eq!(open(&path).counts().await.unwrap().total(State::Pending), 2);
}

#[tokio::test]
async fn a_job_that_the_table_refuses_takes_its_own_call_along_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    let claimed_before = insert(&store, 0).await;
    assert!(store.claim(vec![claimed_before], by(1)).await.unwrap()[0].is_some());
    // In the middle of those that one statement inserts.
    let bad = (1..40).map(|n| Job { max_attempts: u32::from(n != 30), ..job(n) });
    let before = store.insert(batch((100..125).map(job)));
    let bad = store.insert(batch(bad));
    let after = store.insert(batch((200..225).map(job)));
    assert!(bad.await.unwrap_err().is_invalid());
    for answer in [before.await, after.await] {
        assert!(answer.unwrap().iter().all(|verdict| matches!(verdict, Inserted::Created(_))));
    }
    assert!(store.get(job(1).guid).await.unwrap().is_none());
    // What was remembered of it went with the group that was undone.
    assert!(store.settle(vec![released(claimed_before, 1)], at(2)).await.unwrap()[0].applied);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.total(State::Pending), counts.total(State::Starting)), (51, 0));
}

#[tokio::test]
async fn little_room_refuses_new_jobs_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    let id = insert(&store, 1).await;
    drop(store);
    let greedy = SqliteOptions { keep_free_bytes: u64::MAX, keep_free_percent: 101, ..roomy() };
    let store = SqliteStore::open(&path, greedy).unwrap();
    let err = store.insert(batch([job(2)])).await.unwrap_err();
    assert!(err.is_full() && err.to_string().contains("free some space"), "{err}");
    assert!(store.claim(vec![id], by(1)).await.unwrap()[0].is_some());
    let verdicts = store.cancel(vec![job(1).guid], at(2)).await.unwrap();
    assert!(matches!(verdicts[..], [CancelVerdict::TooLate(_)]));
    assert!(store.settle(vec![released(id, 1)], at(3)).await.unwrap()[0].applied);
}

#[tokio::test]
async fn a_damaged_file_poisons_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    store.insert(batch((0..2_000).map(job))).await.unwrap();
    store.close().await.unwrap();
    let store = open(&path);
    // Not a way to treat a database: it stands for a disk that gives back something else.
    let bytes = fs::read(&path).unwrap();
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2..].fill(0xa5);
    fs::write(&path, &damaged).unwrap();
    let err = store.claim((1..=2_000).map(JobId).collect(), by(1)).await.unwrap_err();
    assert!(err.is_fatal(), "{err:?}");
    let err = store.insert(batch([job(9_999)])).await.unwrap_err();
    assert!(err.is_fatal(), "poisoned for good: {err:?}");
    assert!(store.close().await.unwrap_err().is_fatal());
    fs::write(&path, &bytes).unwrap();
}

#[tokio::test]
async fn a_backup_is_whole_new_and_private() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory.path().join("store.db"));
    store.insert(batch((0..500).map(job))).await.unwrap();
    let to = directory.path().join("copy.db");
    // Called after the insert, before its answer.
    let last = store.insert(batch([job(500)]));
    store.backup(to.clone()).await.unwrap();
    last.await.unwrap();
    insert(&store, 501).await;
    assert_eq!(mode(&to), 0o600);
    let err = store.backup(to.clone()).await.unwrap_err();
    assert!(err.is_unusable() && err.to_string().contains("exists already"), "{err}");
    let err = store.backup(directory.path().join("nowhere/copy.db")).await.unwrap_err();
    assert!(err.is_unusable(), "{err:?}");
    let copy = open(&to);
    assert_eq!(copy.counts().await.unwrap().total(State::Pending), 501);
    assert!(copy.get(job(500).guid).await.unwrap().is_some());
    assert!(copy.get(job(501).guid).await.unwrap().is_none());
    let left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{left:?}");
}

#[tokio::test]
async fn a_dropped_store_has_done_what_was_called() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let store = open(&path);
    drop((0..100).map(|n| store.insert(batch([job(n)]))).collect::<Vec<_>>());
    drop(store);
    assert!(!path.with_file_name("store.db-wal").exists(), "the log is put away");
    assert_eq!(open(&path).counts().await.unwrap().total(State::Pending), 100);
}

#[tokio::test]
async fn own_guids_and_names_are_found_wherever_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let options = SqliteOptions { names_in_memory: 10, ..roomy() };
    let own = |n: u64| {
        let mut bytes = *job(n).guid.as_bytes();
        bytes[6] = 0x70 | (bytes[6] & 0xf);
        Job { guid: sendoff::Guid::from_bytes(bytes), own_guid: true, ..job(n) }
    };
    let keyed = |n: u64| Job { idempotency_key: Some(format!("key {n}").into()), ..own(n) };
    let mut store = SqliteStore::open(&path, options.clone()).unwrap();
    for n in 0..200 {
        let theirs = if n % 3 == 0 { job(n) } else { keyed(n) };
        store.insert(batch([theirs])).await.unwrap();
        if n % 50 == 49 {
            store.crash();
            store = SqliteStore::open(&path, options.clone()).unwrap();
        }
    }
    for n in 0..200 {
        let (known, again) = if n % 3 == 0 { (job(n), job(n)) } else { (own(n), keyed(n)) };
        assert_eq!(store.get(known.guid).await.unwrap().expect("it is there").guid, known.guid);
        // Under a new guid of ours, so that only the key tells.
        let again = if n % 3 == 0 { again } else { Job { guid: own(n + 1_000).guid, ..again } };
        assert_eq!(store.insert(batch([again])).await.unwrap(), [Inserted::Existing(known.guid)], "{n}");
        // A client that names one of our guids.
        let named = Job { own_guid: false, ..known.clone() };
        assert_eq!(store.insert(batch([named])).await.unwrap(), [Inserted::Existing(known.guid)], "{n}");
    }
}
