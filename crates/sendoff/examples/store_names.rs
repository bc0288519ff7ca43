//! What names that clients choose cost the SQLite store, beside bare SQLite with the same rows.
//!
//! `cargo run --release --example store_names -- [JOBS] [CONTENDER]...`
//!
//! A contender is `v7` (sendoff's own guids), `v4` (random guids that clients chose), `keys` (own
//! guids, and keys that clients chose); each with `plain-` before it (every name goes to its index
//! with its own commit) or `raw-` (bare SQLite). All take turns batch by batch, so that their
//! ratios hold on a busy machine. Each is filled with JOBS final jobs; then whole lives (insert,
//! claim, started) in batches of 1,000 are measured, each awaited before the next; then 64 callers
//! that each insert one job after the other. The files are made in the current directory.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rusqlite::{Connection, params};
use sendoff::{
    Delivery, Guid, Job, JobId, Lane, Receipt,
    ports::{Claim, InsertBatch, Inserted, NewJob, Settlement, Store},
    state::{Outcome, begin},
    store::{SqliteOptions, SqliteStore},
    time::Timestamp,
};
use tokio::sync::oneshot;

const BATCH: u64 = 1_000;
const MEASURED: u64 = 100_000;
const CALLERS: u64 = 64;
const SINGLES: u64 = 128_000;
/// In which the contenders take turns.
const ROUNDS: u64 = 10;
/// Row numbers above belong to the callers.
const JOBS_LIMIT: u64 = 1 << 32;
const SCHEMA: &str = include_str!("../src/store/sqlite/sql/0001_jobs.sql");

#[derive(Clone, Copy, PartialEq)]
enum Names {
    /// sendoff's own guids, which ascend.
    V7,
    /// Random guids that clients chose.
    V4,
    /// sendoff's own guids, and keys that clients chose.
    Keys,
}

struct Contender {
    word: String,
    names: Names,
    side: Side,
    lives: Spent,
    singles: Duration,
    longest: Duration,
}

enum Side {
    Store(Arc<SqliteStore>),
    // None only while the callers' writer has it.
    Raw(Option<Connection>),
}

impl Contender {
    fn new(word: &str, directory: &Path) -> Self {
        let (kind, names) = word.split_once('-').unwrap_or(("store", word));
        let names = match names {
            "v7" => Names::V7,
            "v4" => Names::V4,
            "keys" => Names::Keys,
            other => panic!("{other} is none of v7, v4, keys"),
        };
        let path = directory.join(word);
        let mut options = SqliteOptions::default();
        let side = match kind {
            "raw" => Side::Raw(Some(raw(&path))),
            _ => {
                if kind == "plain" {
                    options.names_in_memory = 1;
                }
                Side::Store(Arc::new(SqliteStore::open(&path, options).expect("it opens")))
            }
        };
        let zero = Duration::ZERO;
        Self { word: word.to_owned(), names, side, lives: Spent::default(), singles: zero, longest: zero }
    }

    async fn live(&mut self, first: u64) {
        match &self.side {
            Side::Store(store) => lives(store, first, self.names, &mut self.lives).await,
            Side::Raw(conn) => {
                raw_lives(conn.as_ref().expect("it is here"), first, self.names, &mut self.lives);
            }
        }
    }

    /// One job after the other from each caller, numbered from `first`.
    async fn call(&mut self, first: u64, each: u64) {
        let (sender, queue) = mpsc::channel();
        let (mut store, mut writer) = (None, None);
        match &mut self.side {
            Side::Store(shared) => store = Some(shared.clone()),
            Side::Raw(conn) => {
                let conn = conn.take().expect("it is here");
                let next_id = (first + JOBS_LIMIT).cast_signed();
                writer = Some(std::thread::spawn(move || raw_writer(conn, next_id, &queue)));
            }
        }
        let names = self.names;
        let began = now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let (store, sender) = (store.clone(), sender.clone());
                spawn(async move {
                    let mut longest = Duration::ZERO;
                    for n in 0..each {
                        let called = now();
                        let n = (1 << 40) + first + n * CALLERS + caller;
                        let job = job(n, names);
                        if let Some(store) = &store {
                            let jobs = vec![NewJob { job: Arc::new(job), claim: None }];
                            let batch = InsertBatch { jobs, atomic: true, bookmark: None, now: at(n) };
                            store.insert(batch).await.expect("insert");
                        } else {
                            let (reply, answer) = oneshot::channel();
                            sender.send((job, reply)).expect("send");
                            answer.await.expect("an answer");
                        }
                        longest = longest.max(called.elapsed());
                    }
                    longest
                })
            })
            .collect();
        for caller in callers {
            self.longest = self.longest.max(caller.await.expect("no panic"));
        }
        self.singles += began.elapsed();
        drop(sender);
        if let (Side::Raw(conn), Some(writer)) = (&mut self.side, writer) {
            *conn = Some(writer.join().expect("no panic"));
        }
    }
}

fn main() {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let jobs: u64 =
        if words.is_empty() { 200_000 } else { words.remove(0).parse().expect("JOBS is a number") };
    assert!(jobs < JOBS_LIMIT);
    if words.is_empty() {
        words = ["v7", "raw-v7"].map(str::to_owned).to_vec();
    }
    let directory = tempfile::tempdir_in(".").expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(measure(jobs, &words, directory.path()));
}

async fn measure(jobs: u64, words: &[String], directory: &Path) {
    let mut contenders: Vec<_> = words.iter().map(|word| Contender::new(word, directory)).collect();
    for first in (0..jobs + MEASURED).step_by(BATCH as usize) {
        for contender in &mut contenders {
            if first == jobs {
                contender.lives = Spent::default();
            }
            contender.live(first).await;
        }
    }
    for round in 0..ROUNDS {
        for contender in &mut contenders {
            contender.call(round * (SINGLES / ROUNDS), SINGLES / ROUNDS / CALLERS).await;
        }
    }
    for Contender { word, lives, singles, longest, .. } in &contenders {
        lives.print(word);
        println!("{word}: {} inserts/s by {CALLERS} callers, longest {longest:?}", rate(SINGLES, *singles));
    }
    println!("memory of this process: {} MiB", memory() / 1024);
    for Contender { word, side, .. } in contenders {
        let Side::Store(store) = side else { continue };
        let began = now();
        store.close().await.expect("close");
        let closed = began.elapsed();
        drop(store);
        let began = now();
        let store = SqliteStore::open(directory.join(&word), SqliteOptions::default()).expect("it opens");
        println!("{word}: closed in {closed:?}, opened in {:?}", began.elapsed());
        store.close().await.expect("close");
    }
}

async fn lives(store: &SqliteStore, first: u64, names: Names, spent: &mut Spent) {
    let new = |n| NewJob { job: Arc::new(job(n, names)), claim: None };
    let batch = InsertBatch {
        jobs: (first..first + BATCH).map(new).collect(),
        atomic: true,
        bookmark: None,
        now: at(first),
    };
    let began = now();
    let inserted = store.insert(batch).await.expect("insert");
    spent.insert += began.elapsed();
    let ids: Vec<JobId> = inserted
        .iter()
        .map(|verdict| match verdict {
            Inserted::Created(id) => *id,
            other => panic!("not created: {other:?}"),
        })
        .collect();
    let began = now();
    let claimed =
        store.claim(ids, Claim { node: "node".into(), now: at(first + BATCH) }).await.expect("claim");
    spent.claim += began.elapsed();
    let settlement = |claimed: Option<sendoff::ports::Claimed>| {
        let claimed = claimed.expect("it is due");
        let begun = begin(at(first + BATCH), claimed.job.queued_at, claimed.claimed_at);
        let outcome = Outcome::Started { started_at: begun.starting_at, receipt: Receipt::default() };
        Settlement { id: claimed.id, fence: claimed.fence, begun: Some(begun), outcome }
    };
    let settlements = claimed.into_iter().map(settlement).collect();
    let began = now();
    let settled = store.settle(settlements, at(first + BATCH)).await.expect("settle");
    spent.settle += began.elapsed();
    assert!(settled.iter().all(|settled| settled.applied));
    spent.jobs += BATCH;
}

/// The same rows and indexes, by the shortest statements; names of clients in plain unique indexes.
fn raw(path: &Path) -> Connection {
    let conn = Connection::open(path).expect("it opens");
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768;
         PRAGMA wal_autocheckpoint = 8000;",
    )
    .expect("pragmas");
    conn.execute_batch(SCHEMA).expect("the schema");
    conn.execute_batch(
        "CREATE UNIQUE INDEX raw_guid ON job (guid) WHERE own_guid = 0;
         CREATE UNIQUE INDEX raw_key ON job (idempotency_key) WHERE idempotency_key IS NOT NULL;",
    )
    .expect("the indexes of names");
    conn
}

/// Group commit: what waits goes into one transaction.
fn raw_writer(
    conn: Connection,
    mut id: i64,
    queue: &mpsc::Receiver<(Job, oneshot::Sender<()>)>,
) -> Connection {
    while let Ok(first) = queue.recv() {
        let mut replies = Vec::new();
        conn.execute_batch("BEGIN IMMEDIATE").expect("begin");
        let mut next = Some(first);
        while let Some((job, reply)) = next {
            id += 1;
            raw_insert(&conn, id, &job);
            replies.push(reply);
            next = queue.try_recv().ok();
        }
        conn.execute_batch("COMMIT").expect("commit");
        for reply in replies {
            let _ = reply.send(());
        }
    }
    conn
}

fn raw_insert(conn: &Connection, id: i64, job: &Job) {
    conn.prepare_cached(
        "INSERT INTO job (id, state, lane, priority, delivery, fence, attempt, max_attempts, queued_at, run_at,
             next_at, own_guid, guid, idempotency_key, request)
         VALUES (?1, 0, 1, 0, 1, 0, 0, 5, ?2, ?3, ?3, ?4, ?5, ?6, ?7)",
    )
    .expect("prepare")
    .execute(params![
        id,
        job.queued_at.as_micros(),
        job.run_at.as_micros(),
        job.own_guid,
        job.guid.as_bytes(),
        job.idempotency_key,
        job.request
    ])
    .expect("insert");
}

fn raw_lives(conn: &Connection, first: u64, names: Names, spent: &mut Spent) {
    let jobs: Vec<Job> = (first..first + BATCH).map(|n| job(n, names)).collect();
    let ids = first.cast_signed() + 1..=(first + BATCH).cast_signed();
    let began = now();
    conn.execute_batch("BEGIN IMMEDIATE").expect("begin");
    for (id, job) in ids.clone().zip(&jobs) {
        raw_insert(conn, id, job);
    }
    conn.execute_batch("COMMIT").expect("commit");
    spent.insert += began.elapsed();
    let began = now();
    conn.execute_batch("BEGIN IMMEDIATE").expect("begin");
    for id in ids.clone() {
        conn.prepare_cached(
            "UPDATE job SET state = 1, fence = fence + 1, attempt = attempt + 1, claimed_at = ?2, node = 1
             WHERE id = ?1 AND state = 0",
        )
        .expect("prepare")
        .execute(params![id, at(first + BATCH).as_micros()])
        .expect("claim");
    }
    conn.execute_batch("COMMIT").expect("commit");
    spent.claim += began.elapsed();
    let began = now();
    conn.execute_batch("BEGIN IMMEDIATE").expect("begin");
    for id in ids {
        conn.prepare_cached(
            "UPDATE job SET state = 2, starting_at = ?2, started_at = ?2, wait_us = ?2 - run_at, ended_at = ?2
             WHERE id = ?1 AND fence = 1 AND state = 1",
        )
        .expect("prepare")
        .execute(params![id, at(first + 2 * BATCH).as_micros()])
        .expect("settle");
    }
    conn.execute_batch("COMMIT").expect("commit");
    spent.settle += began.elapsed();
    spent.jobs += BATCH;
}

#[derive(Default)]
struct Spent {
    jobs: u64,
    insert: Duration,
    claim: Duration,
    settle: Duration,
}

impl Spent {
    fn print(&self, who: &str) {
        println!(
            "{who}: {} lives/s; insert {}/s, claim {}/s, settle {}/s",
            rate(self.jobs, self.insert + self.claim + self.settle),
            rate(self.jobs, self.insert),
            rate(self.jobs, self.claim),
            rate(self.jobs, self.settle)
        );
    }
}

fn rate(jobs: u64, spent: Duration) -> u64 {
    (jobs as f64 / spent.as_secs_f64()) as u64
}

fn at(n: u64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + n.cast_signed()).expect("this century")
}

/// The n-th job: 200 bytes of request.
fn job(n: u64, names: Names) -> Job {
    thread_local! {
        static LANE: Arc<Lane> =
            Arc::new(Lane { queue: "default".into(), starter: "simulated".into(), destination: None });
    }
    let scattered = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(n);
    let mut guid = match names {
        Names::V4 => scattered.to_be_bytes(),
        Names::V7 | Names::Keys => (u128::from(n) << 80 | u128::from(n)).to_be_bytes(),
    };
    guid[6] = guid[6] & 0xf | if names == Names::V4 { 0x40 } else { 0x70 };
    Job {
        guid: Guid::from_bytes(guid),
        own_guid: names != Names::V4,
        idempotency_key: (names == Names::Keys).then(|| format!("order {scattered:032x}").into()),
        lane: LANE.with(Clone::clone),
        priority: 0,
        delivery: Delivery::AtLeastOnce,
        max_attempts: 5,
        queued_at: at(n),
        run_at: at(n),
        expires_at: None,
        request: format!(r#"{{"start":{{"simulated":{{"delay":"1ms"}}}},"labels":{{"n":"{n:0>140}"}}}}"#)
            .into(),
        submitted_by: None,
        grant: None,
    }
}

/// KiB resident.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

#[expect(clippy::disallowed_methods, reason = "it measures, it does not schedule")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "there is no scheduler here")]
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(task)
}
