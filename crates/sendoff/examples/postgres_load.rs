//! What the PostgreSQL store does in a second, beside one connection that writes the same rows with
//! the same indexes: `cargo run --release -p sendoff --example postgres_load [jobs]`.
//!
//! It starts a server of its own (fsync on) and stops it at the end.

use std::{sync::Arc, time::Duration};

use sendoff::{
    Delivery, Guid, Job, JobId, Lane, Receipt, Timestamp,
    ports::{InsertBatch, Inserted, NewJob, Settlement, Store},
    state::{Begun, Outcome},
    store::{PostgresOptions, PostgresStore},
    time::{Clock, SystemClock},
};
use testpg::{Installation, Options, Server};
use tokio_postgres::{Client, NoTls, types::Type};

const BATCH: usize = 1_000;
const CALLERS: usize = 64;
const REQUEST: &str =
    r#"{"start":{"http":{"url":"http://127.0.0.1:8080/started","method":"POST"}},"queue":"default"}"#;

const INSERT: &str = "INSERT INTO sendoff.job (state, lane, priority, delivery, fence, attempt, max_attempts,
        queued_at, run_at, next_at, claimed_at, node, own_guid, guid, request)
    SELECT $1, 1, 0, 1, $1, $1, 3, $2, $2, $2, CASE WHEN $1 = 1 THEN $2 END, CASE WHEN $1 = 1 THEN 1 END, true,
        n.guid, n.request
    FROM unnest($3::uuid[], $4::text[]) AS n(guid, request) ON CONFLICT DO NOTHING RETURNING id";
const SETTLE: &str =
    "UPDATE sendoff.job j SET state = 2, starting_at = $2, started_at = $2, ended_at = $2, crashes = 0
    FROM unnest($1::bigint[]) AS u(id) WHERE j.id = u.id AND j.fence = 1 AND j.state = 1 RETURNING j.id";

fn guid(n: u64) -> Guid {
    Guid::from_bytes((u128::from(n) << 64 | u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_be_bytes())
}

/// Makes jobs, each with a guid of its own.
struct Maker {
    lane: Arc<Lane>,
    request: Arc<str>,
    made: u64,
}

impl Maker {
    fn job(&mut self) -> Job {
        self.made += 1;
        let now = SystemClock.now();
        Job {
            guid: guid(self.made),
            own_guid: true,
            idempotency_key: None,
            lane: self.lane.clone(),
            priority: 0,
            delivery: Delivery::AtLeastOnce,
            max_attempts: 3,
            queued_at: now,
            run_at: now,
            expires_at: None,
            request: self.request.clone(),
            submitted_by: None,
            grant: None,
        }
    }

    fn batch(&mut self, jobs: usize, claim: Option<&Arc<str>>) -> InsertBatch {
        let jobs = (0..jobs).map(|_| NewJob { job: Arc::new(self.job()), claim: claim.cloned() }).collect();
        InsertBatch { jobs, atomic: false, bookmark: None, now: SystemClock.now() }
    }
}

fn created(verdicts: &[Inserted]) -> Vec<JobId> {
    let id = |verdict: &Inserted| match verdict {
        Inserted::Created(id) => *id,
        other => panic!("{other:?}"),
    };
    verdicts.iter().map(id).collect()
}

fn later(at: Timestamp) -> Timestamp {
    at.saturating_add(Duration::from_millis(1))
}

fn started(id: JobId) -> Settlement {
    let at = later(SystemClock.now());
    let outcome = Outcome::Started { started_at: at, receipt: Receipt { status: Some(200), pid: None } };
    Settlement { id, fence: 1, begun: Some(Begun { starting_at: at, clock_skew_us: 0 }), outcome }
}

/// Lives: each batch is settled while the next is inserted.
async fn lives(store: &PostgresStore, maker: &mut Maker, jobs: usize) {
    let node = store.fleet().expect("it has one").lease().node().clone();
    let mut before: Vec<JobId> = Vec::new();
    for _ in 0..jobs / BATCH {
        let inserted = store.insert(maker.batch(BATCH, Some(&node)));
        let settled = store.settle(before.iter().map(|id| started(*id)).collect(), SystemClock.now());
        before = created(&inserted.await.expect("insert"));
        settled.await.expect("settle");
    }
    store.settle(before.iter().map(|id| started(*id)).collect(), SystemClock.now()).await.expect("settle");
}

async fn bulk(store: &PostgresStore, maker: &mut Maker, jobs: usize) {
    let mut before = None;
    for _ in 0..jobs / BATCH {
        let next = store.insert(maker.batch(BATCH, None));
        if let Some(before) = before.replace(next) {
            before.await.expect("insert");
        }
    }
    if let Some(last) = before {
        last.await.expect("insert");
    }
}

async fn singles(store: &Arc<PostgresStore>, maker: &mut Maker, jobs: usize) {
    let callers: Vec<Vec<InsertBatch>> =
        (0..CALLERS).map(|_| (0..jobs / CALLERS).map(|_| maker.batch(1, None)).collect()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for batches in callers {
        let store = store.clone();
        tasks.spawn(async move {
            for batch in batches {
                store.insert(batch).await.expect("insert");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
}

async fn raw_insert(client: &Client, maker: &mut Maker, jobs: usize, state: i32) -> Vec<i64> {
    let guids: Vec<uuid::Uuid> =
        (0..jobs).map(|_| uuid::Uuid::from_bytes(*maker.job().guid.as_bytes())).collect();
    let requests = vec![REQUEST; jobs];
    let now = SystemClock.now().as_micros();
    let rows = client
        .query_typed(
            INSERT,
            &[
                (&state, Type::INT4),
                (&now, Type::INT8),
                (&guids, Type::UUID_ARRAY),
                (&requests, Type::TEXT_ARRAY),
            ],
        )
        .await
        .expect("insert");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn raw_settle(client: &Client, ids: &[i64]) {
    let now = later(SystemClock.now()).as_micros();
    let settle = [(&ids as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT8_ARRAY), (&now, Type::INT8)];
    client.query_typed(SETTLE, &settle).await.expect("settle");
}

async fn raw_lives(client: &Client, maker: &mut Maker, jobs: usize) {
    let mut before: Vec<i64> = Vec::new();
    for _ in 0..jobs / BATCH {
        let (begun, inserted, (), committed) = tokio::join!(
            biased;
            client.batch_execute("BEGIN"),
            raw_insert(client, maker, BATCH, 1),
            raw_settle(client, &before),
            client.batch_execute("COMMIT"),
        );
        begun.and(committed).expect("it commits");
        before = inserted;
    }
    raw_settle(client, &before).await;
}

async fn raw_batches(client: &Client, maker: &mut Maker, jobs: usize, batch: usize) {
    for _ in 0..jobs / batch {
        raw_insert(client, maker, batch, 0).await;
    }
}

fn rate(jobs: usize, since: Duration) -> f64 {
    jobs as f64 / (SystemClock.elapsed() - since).as_secs_f64()
}

#[tokio::main]
async fn main() {
    let jobs: usize = std::env::args().nth(1).map_or(100_000, |jobs| jobs.parse().expect("a number of jobs"));
    let installation = Installation::find().expect("PostgreSQL");
    let server = Server::start(&installation, Options::new().set("max_wal_size", "4GB")).expect("a server");
    let (for_store, for_raw) = (server.new_database().expect("one"), server.new_database().expect("two"));
    let store =
        Arc::new(PostgresStore::connect(&for_store, PostgresOptions::default()).await.expect("a store"));
    let tables = PostgresStore::connect(&for_raw, PostgresOptions::default()).await.expect("tables");
    tables.close().await.expect("it closes");
    let (client, connection) = tokio_postgres::connect(&for_raw, NoTls).await.expect("a connection");
    tokio::runtime::Handle::current().spawn(connection);
    let lane = Arc::new(Lane { queue: "default".into(), starter: "http".into(), destination: None });
    let mut maker = Maker { lane, request: REQUEST.into(), made: 0 };

    println!("PostgreSQL {}, {jobs} jobs each, best of three", installation.version());
    let mut best = [[0.0_f64; 2]; 3];
    for _ in 0..3 {
        for (what, pair) in best.iter_mut().enumerate() {
            let since = SystemClock.elapsed();
            match what {
                0 => lives(&store, &mut maker, jobs).await,
                1 => bulk(&store, &mut maker, jobs).await,
                _ => singles(&store, &mut maker, jobs).await,
            }
            pair[0] = pair[0].max(rate(jobs, since));
            let since = SystemClock.elapsed();
            match what {
                0 => raw_lives(&client, &mut maker, jobs).await,
                1 => raw_batches(&client, &mut maker, jobs, BATCH).await,
                _ => raw_batches(&client, &mut maker, jobs, CALLERS).await,
            }
            pair[1] = pair[1].max(rate(jobs, since));
        }
    }
    let names = [
        "lives (claimed as inserted, settled), batches of 1,000",
        "bulk inserts of 1,000",
        "single inserts, 64 callers",
    ];
    for (name, [store, raw]) in names.into_iter().zip(best) {
        println!("{name}: {store:.0}/s, raw {raw:.0}/s, ratio {:.2}", store / raw);
    }
    store.close().await.expect("it closes");
}
