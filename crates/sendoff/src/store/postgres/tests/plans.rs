//! What statements on jobs cost must not grow with the jobs: each walks an index, whatever the
//! database knows of the table.

use std::sync::Arc;

use serde_json::Value;
use testpg::{Installation, Options, Server};
use tokio_postgres::{Client, types::Type};

use super::Db;
use crate::{
    job::{JobId, Lane},
    ports::{Filter, PageRequest},
    state::State,
    store::postgres::{ask::BY_INDEX, sql::TEXTS},
    time::{Clock, SystemClock, Timestamp},
};

/// In the middle of the rows' times.
const NOW: i64 = 1_700_000_000_000_000;

fn rows() -> i64 {
    std::env::var("SENDOFF_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(200_000)
}

/// Rows with the numbers from one on to another: the older ones final, the newer ones pending,
/// half of them due; a few starting, unknown, damaged.
fn fill(from: i64, to: i64, all: i64) -> String {
    format!(
        "INSERT INTO sendoff.job (id, state, lane, priority, delivery, fence, attempt, max_attempts, queued_at,
             run_at, next_at, expires_at, ended_at, claimed_at, started_at, node, submitted_by, own_guid, guid,
             quarantined, request)
         SELECT n, state, n % 1000 + 1, n % 10, 1, 1, 1, 3, {NOW} - 2000000000 + n, at, at,
             CASE WHEN n % 50 = 0 THEN at + 1000000 END, CASE WHEN state > 1 THEN at END,
             CASE WHEN state = 1 THEN at END, CASE WHEN state = 2 THEN at END, CASE WHEN state = 1 THEN 1 END,
             n % 10 + 1, true, md5(n::text)::uuid, state = 0 AND n % 100000 = 99999,
             '{{\"start\":{{\"simulated\":{{\"n\":' || n || '}}}}}}'
         FROM (SELECT n, {NOW} - 1000000000 + (hashint8(n)::bigint + 2147483648) % 2000000000 AS at,
                   CASE WHEN n % 1000 = 998 THEN 6 WHEN n % 10000 = 7777 THEN 1
                       WHEN n <= {all} * 6 / 10 THEN 2 ELSE 0 END AS state
               FROM generate_series({from}::bigint, {to}) AS n) AS made"
    )
}

async fn server_with_rows(installation: &Installation) -> (Server, Db) {
    let options = Options::new()
        .set("autovacuum", "off")
        .set("shared_buffers", "512MB")
        .set("maintenance_work_mem", "512MB")
        .set("max_wal_size", "8GB");
    let server = Server::start(installation, options).unwrap();
    let db = Db::at(&server.new_database().unwrap()).await;
    let all = rows();
    let texts = "INSERT INTO sendoff.lane (queue, starter, destination)
                     SELECT 'queue-' || n % 50, 'http', '=host-' || n || ':443' FROM generate_series(1, 1000) AS n;
                 INSERT INTO sendoff.actor (name) SELECT 'actor-' || n FROM generate_series(1, 10) AS n;
                 INSERT INTO sendoff.node_name (name) VALUES ('node-1');
                 INSERT INTO sendoff.node_name (name) VALUES ('node-2');
                 INSERT INTO sendoff.node (id, host, pid, boot_id, pid_namespace, pid_started, version, dead_at)
                     VALUES (1, 'h', 1, 'b', 'n', 1, '0', now()), (2, 'h', 2, 'b', 'n', 2, '0', NULL)";
    db.client.batch_execute(texts).await.unwrap();
    db.client.batch_execute(&fill(1, all / 100, all)).await.unwrap();
    // What is known of the table is from when nothing waited in it.
    db.client.batch_execute("ANALYZE").await.unwrap();
    db.client.batch_execute(&fill(all / 100 + 1, all, all)).await.unwrap();
    (server, db)
}

/// A plausible value of this type, as SQL.
fn value(of: &Type) -> String {
    match *of {
        Type::INT8 => NOW.to_string(),
        Type::INT4 | Type::INT2 => "1".to_owned(),
        Type::BOOL => "true".to_owned(),
        Type::UUID => "md5('1')::uuid".to_owned(),
        Type::INT8_ARRAY => "(SELECT array_agg(n) FROM generate_series(1::bigint, 1000) AS n)".to_owned(),
        Type::INT4_ARRAY => "(SELECT array_agg(n) FROM generate_series(1, 1000) AS n)".to_owned(),
        Type::INT2_ARRAY => "(SELECT array_agg(n::smallint) FROM generate_series(1, 1000) AS n)".to_owned(),
        Type::BOOL_ARRAY => "(SELECT array_agg(true) FROM generate_series(1, 1000) AS n)".to_owned(),
        Type::UUID_ARRAY => {
            "(SELECT array_agg(md5(n::text)::uuid) FROM generate_series(1, 1000) AS n)".to_owned()
        }
        Type::TEXT_ARRAY => "(SELECT array_agg(n::text) FROM generate_series(1, 1000) AS n)".to_owned(),
        Type::BYTEA => "'\\x00'".to_owned(),
        Type::BYTEA_ARRAY => "ARRAY['\\x00'::bytea]".to_owned(),
        Type::TEXT | Type::VARCHAR => "'x'".to_owned(),
        _ => format!("NULL::{of}"),
    }
}

async fn plan(client: &Client, text: &str, params: &[Type], mode: &str) -> Value {
    let values: Vec<_> = params.iter().map(value).collect();
    // Subqueries may be no arguments of EXECUTE, so that they are evaluated before.
    let mut arguments = Vec::new();
    for (value, param) in values.iter().zip(params) {
        let query = format!("SELECT quote_nullable(({value})::text)");
        let literal = client.query_one(&query, &[]).await.unwrap().get::<_, String>(0);
        arguments.push(format!("{literal}::{param}", param = sql_type(param)));
    }
    let arguments = match arguments.is_empty() {
        true => String::new(),
        false => format!("({})", arguments.join(", ")),
    };
    let types = match params.is_empty() {
        true => String::new(),
        false => format!("({})", params.iter().map(sql_type).collect::<Vec<_>>().join(", ")),
    };
    client
        .batch_execute(&format!("DEALLOCATE ALL; PREPARE it {types} AS {text}; BEGIN; {BY_INDEX}; SET LOCAL plan_cache_mode = {mode}"))
        .await
        .unwrap();
    let explained =
        client.query_one(&format!("EXPLAIN (FORMAT JSON) EXECUTE it {arguments}"), &[]).await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    serde_json::from_str(&explained.get::<_, Json>(0).0).unwrap()
}

fn sql_type(of: &Type) -> String {
    match of.name().strip_prefix('_') {
        Some(element) => format!("{element}[]"),
        None => of.name().to_owned(),
    }
}

/// JSON as its text.
struct Json(String);

impl<'a> tokio_postgres::types::FromSql<'a> for Json {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSON
    }
}

/// What is wrong with a plan; how many scans of jobs are in it.
struct Look {
    faults: Vec<String>,
    scans: usize,
}

impl Look {
    /// `sorted`: below a sort without a limit in between; `limited`: below a limit.
    fn walk(&mut self, node: &Value, sorted: bool, limited: bool) {
        let kind = node["Node Type"].as_str().unwrap_or_default();
        if node["Relation Name"] == "job" && kind.contains("Scan") {
            self.scans += 1;
            let index = node["Index Name"].as_str().unwrap_or_default();
            // These two hold few rows.
            let little = ["job_starting", "job_quarantined"].contains(&index);
            if !kind.starts_with("Index") {
                self.faults.push(format!("{kind} of job"));
            } else if node["Index Cond"].is_null() && !little && !limited {
                self.faults.push(format!("all of {index}"));
            }
            if sorted && !little && !looks_up(node) {
                self.faults.push(format!("a sort over {index}"));
            }
        }
        let (sorted, limited) = match kind {
            "Sort" | "Incremental Sort" | "Aggregate" => (kind != "Aggregate" || sorted, false),
            "Limit" => (false, true),
            _ => (sorted, limited),
        };
        for below in node["Plans"].as_array().into_iter().flatten() {
            self.walk(below, sorted, limited);
        }
    }
}

/// Whether an index scan is for rows that are named.
fn looks_up(node: &Value) -> bool {
    let condition = node["Index Cond"].as_str().unwrap_or_default();
    condition.contains("id = ") || condition.contains("= ANY")
}

/// All statements on jobs, with plans for any values and for some.
async fn check(db: &Db, known: &str) {
    let mut faults = Vec::new();
    let mut scans = 0;
    // The check of a move reads everything, once.
    let judged = |(name, text): &&(&str, &str)| text.contains("sendoff.job") && *name != "Miscounted";
    for (name, text) in TEXTS.iter().filter(judged) {
        let prepared = db.client.prepare(text).await.unwrap_or_else(|err| panic!("{name}: {err:?}"));
        for mode in ["force_generic_plan", "force_custom_plan"] {
            let plan = plan(&db.client, text, prepared.params(), mode).await;
            let mut look = Look { faults: Vec::new(), scans: 0 };
            look.walk(&plan[0]["Plan"], false, false);
            scans += look.scans;
            if !look.faults.is_empty() {
                faults.push(format!("{name}, {mode}: {}", look.faults.join(", ")));
            }
        }
    }
    assert!(faults.is_empty(), "{known}:\n{}", faults.join("\n"));
    assert!(scans > 30, "{known}: {scans}");
}

/// The milliseconds that a read takes, at best of three.
async fn timed<T>(what: &str, read: impl AsyncFn() -> T) -> T {
    let mut best = std::time::Duration::MAX;
    let mut last = None;
    for _ in 0..3 {
        let begin = SystemClock.elapsed();
        last = Some(read().await);
        best = best.min(SystemClock.elapsed() - begin);
    }
    println!("{what}: {:.2} ms", best.as_secs_f64() * 1e3);
    last.unwrap()
}

async fn measure(db: &Db) {
    let reader = db.reader();
    let now = Timestamp::from_micros(NOW).unwrap();
    let lane = Arc::new(Lane {
        queue: "queue-7".into(),
        starter: "http".into(),
        destination: Some("host-7:443".into()),
    });
    let due = timed("due, 1,000", async || reader.due(None, now, 1000).await.unwrap().found).await;
    assert_eq!(due.len(), 1000.min(due.len().max(1)));
    let after = due.last().map(|header| (header.next_at, header.id));
    timed("due, the next 1,000", async || reader.due(after, now, 1000).await.unwrap()).await;
    let ready = timed("ready, 100", async || reader.ready(&lane, now, 100).await.unwrap().found).await;
    assert!(!ready.is_empty());
    timed("lanes, 100", async || reader.lanes(None, 100).await.unwrap()).await;
    let all = timed("lanes, all 1,000", async || reader.lanes(None, 2000).await.unwrap()).await;
    assert!(all.len() > 100, "{}", all.len());
    let middle = Some(JobId(u64::try_from(rows() / 2).unwrap()));
    for (what, state) in [
        ("any", None),
        ("starting", Some(State::Starting)),
        ("unknown", Some(State::Unknown)),
        ("pending, none here", Some(State::Pending)),
    ] {
        for newest_first in [false, true] {
            let page = PageRequest { after: middle, newest_first, limit: 100, row_budget: 10_000 };
            let filter = Filter { state, ..Filter::default() };
            timed(&format!("list {what}, newest first {newest_first}"), async || {
                reader.list(&filter, page).await.unwrap()
            })
            .await;
        }
    }
    timed("counts", async || reader.counts().await.unwrap()).await;
    let ids = "(SELECT array_agg(id) FROM (SELECT id FROM sendoff.job WHERE state = 0 AND NOT quarantined
                    ORDER BY next_at LIMIT 500) AS x)";
    let nows = format!("(SELECT array_agg({NOW}::bigint) FROM generate_series(1, 500))");
    let now = NOW.to_string();
    for (what, name, arguments) in [
        ("claim 500 by id", "Claim", ["2", ids, &nows, "true"].as_slice()),
        ("claim 500 of a lane", "ClaimOthers", &["2", "8", &now, "500", "true", "2"]),
        ("expire 500", "Expire", &[&now, "500"]),
        ("the next deadline", "NextDeadline", &[]),
        ("reclaim 500", "Reclaim", &["500", &now, "3", "5", "'poison'", "4", "'crash'"]),
        ("prune 500", "PruneEnded", &[&now, "NULL", "500"]),
        ("prune 500 of one submitter", "PruneEnded", &[&now, "3", "500"]),
    ] {
        let (_, text) = TEXTS.iter().find(|(known, _)| *known == name).unwrap();
        let spent = spent(&db.client, text, arguments).await;
        println!("{what}: {spent:.2} ms in the database");
    }
}

/// The milliseconds that the database takes to plan and run a statement, whose work is undone.
async fn spent(client: &Client, text: &str, arguments: &[&str]) -> f64 {
    let types = client.prepare(text).await.unwrap();
    let mut literals = Vec::new();
    for (argument, of) in arguments.iter().zip(types.params()) {
        let of = sql_type(of);
        let query = format!("SELECT quote_nullable(({argument})::{of}::text) || '::{of}'");
        literals.push(client.query_one(&query, &[]).await.unwrap().get::<_, String>(0));
    }
    let literals = match literals.is_empty() {
        true => String::new(),
        false => format!("({})", literals.join(", ")),
    };
    let mut best = f64::MAX;
    for _ in 0..3 {
        client
            .batch_execute(&format!("DEALLOCATE ALL; PREPARE it AS {text}; BEGIN; {BY_INDEX}"))
            .await
            .unwrap();
        let query = format!("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE it {literals}");
        let explained = client.query_one(&query, &[]).await.unwrap();
        client.batch_execute("ROLLBACK").await.unwrap();
        let plan: Value = serde_json::from_str(&explained.get::<_, Json>(0).0).unwrap();
        best = best
            .min(plan[0]["Planning Time"].as_f64().unwrap() + plan[0]["Execution Time"].as_f64().unwrap());
    }
    best
}

#[tokio::test]
async fn statements_on_jobs_walk_an_index() {
    if !testpg::wanted() {
        return;
    }
    for installation in Installation::all().unwrap() {
        println!("PostgreSQL {}, {} rows", installation.version(), rows());
        let (_server, db) = server_with_rows(&installation).await;
        check(&db, "known from when nothing waited").await;
        let forget = "DELETE FROM pg_statistic WHERE starelid = 'sendoff.job'::regclass;
                      UPDATE pg_class SET reltuples = CASE WHEN current_setting('server_version_num')::int < 140000
                          THEN 0 ELSE -1 END, relpages = 0
                      WHERE relnamespace = 'sendoff'::regnamespace";
        db.client.batch_execute(forget).await.unwrap();
        check(&db, "never analysed").await;
        measure(&db).await;
        db.client.batch_execute("VACUUM ANALYZE").await.unwrap();
        check(&db, "freshly analysed").await;
        measure(&db).await;
    }
}
