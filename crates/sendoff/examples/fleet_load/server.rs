//! The database: a server of this program's own, or one that was given.

use std::{thread, time::Duration};

use sendoff::{
    ports::Store,
    store::{PostgresOptions, PostgresStore},
    time::{Clock, SystemClock},
};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// What a database for this has set; `--set` comes after it.
const SETTINGS: &[(&str, &str)] =
    &[("shared_buffers", "512MB"), ("max_wal_size", "4GB"), ("checkpoint_timeout", "15min")];
/// Of the clock in which /proc counts.
const TICKS: f64 = 100.0;

pub(crate) struct Server {
    pub(crate) runtime: Runtime,
    url: String,
    admin: Client,
    own: Option<testpg::Server>,
}

impl Server {
    /// # Panics
    /// If there is no server, or the database holds jobs.
    pub(crate) fn new(url: Option<String>, settings: &[(String, String)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (url, own) = match url {
            Some(url) => (url, None),
            None => {
                let mut options = testpg::Options::new();
                let given = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                for (name, value) in SETTINGS.iter().copied().chain(given) {
                    options = options.set(name, value);
                }
                let installation = testpg::Installation::find().expect("a PostgreSQL");
                let own = testpg::Server::start(&installation, options).expect("it starts");
                (own.new_database().expect("a database"), Some(own))
            }
        };
        runtime.block_on(async {
            let store = PostgresStore::connect(&url, PostgresOptions::default()).await.expect("it connects");
            store.close().await.expect("it closes");
        });
        let admin = runtime.block_on(connect(&url));
        let server = Self { runtime, url, admin, own };
        assert!(server.number("SELECT count(*) FROM sendoff.job") == 0.0, "the database holds jobs");
        server
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn connect(&self) -> Client {
        self.runtime.block_on(connect(&self.url))
    }

    pub(crate) fn version(&self) -> String {
        let rows = self.runtime.block_on(self.admin.query("SELECT version()", &[])).expect("an answer");
        rows[0].get(0)
    }

    /// Forgets all jobs. What they left to write is written now, not during the next measurement.
    pub(crate) fn clean(&self) {
        let all = "TRUNCATE sendoff.job, sendoff.tally";
        self.runtime.block_on(self.admin.batch_execute(all)).expect("nobody uses it");
        // Only for who may.
        let _ = self.runtime.block_on(self.admin.batch_execute("CHECKPOINT"));
    }

    /// Everything that is left to do after many inserts is done now.
    pub(crate) fn settle(&self) {
        let _ = self.runtime.block_on(self.admin.batch_execute("VACUUM ANALYZE sendoff.job"));
        let _ = self.runtime.block_on(self.admin.batch_execute("VACUUM ANALYZE sendoff.tally"));
        let _ = self.runtime.block_on(self.admin.batch_execute("CHECKPOINT"));
        thread::sleep(Duration::from_secs(5));
    }

    pub(crate) fn wait_started(&self, jobs: usize) {
        let began = elapsed();
        let started = "SELECT coalesce(sum(n), 0)::float8 FROM sendoff.tally WHERE state = 2";
        while self.number(started) < jobs as f64 {
            assert!(elapsed() - began < Duration::from_secs(300), "{} started", self.number(started));
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Seconds from the first claim to the last outcome.
    pub(crate) fn span_of_dispatch(&self) -> f64 {
        self.number("SELECT (max(ended_at) - min(claimed_at))::float8 / 1e6 FROM sendoff.job")
    }

    pub(crate) fn extra_claims(&self) -> f64 {
        self.number("SELECT coalesce(sum(fence - 1), 0)::float8 FROM sendoff.job")
    }

    /// Bytes of WAL so far.
    pub(crate) fn wal(&self) -> f64 {
        self.number("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8")
    }

    /// Bytes of the jobs' table and its indexes.
    pub(crate) fn size(&self) -> f64 {
        self.number("SELECT pg_total_relation_size('sendoff.job')::float8")
    }

    /// The part of all jobs that the busiest node started.
    pub(crate) fn largest_share(&self) -> f64 {
        self.number(
            "SELECT max(n)::float8 / sum(n)::float8 FROM (SELECT count(*) AS n FROM sendoff.job GROUP BY node) AS by",
        )
    }

    /// For so many seconds: cores that the database used, if that can be known, and its transactions
    /// a second.
    pub(crate) fn spent(&self, seconds: u64) -> (Option<f64>, f64) {
        let transactions = "SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database
                            WHERE datname = current_database()";
        let (cpu, before) = (self.cpu(), self.number(transactions));
        thread::sleep(Duration::from_secs(seconds));
        let after = self.number(transactions);
        let cpu = self.cpu().zip(cpu).map(|(after, before)| (after - before) / seconds as f64);
        (cpu, (after - before) / seconds as f64)
    }

    /// Seconds that the server's processes have run, those that ended included.
    fn cpu(&self) -> Option<f64> {
        let postmaster = self.own.as_ref()?.pid()?;
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let mut ticks = 0.0;
        for process in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            let Ok(line) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
            // The second field is the name in brackets, which may hold blanks and brackets itself.
            let Some((_, rest)) = line.rsplit_once(')') else { continue };
            let fields: Vec<f64> =
                rest.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect();
            if process == postmaster {
                ticks += fields[11..15].iter().sum::<f64>();
            } else if fields[1] == f64::from(postmaster) {
                ticks += fields[11..13].iter().sum::<f64>();
            }
        }
        Some(ticks / TICKS)
    }

    fn number(&self, query: &str) -> f64 {
        let query = format!("SELECT ({query})::float8");
        let rows = self.runtime.block_on(self.admin.query(&query, &[])).expect("an answer");
        rows[0].get(0)
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("it connects");
    // Ends with the client.
    drop(tokio::runtime::Handle::current().spawn(connection));
    client
}

pub(crate) fn elapsed() -> Duration {
    SystemClock.elapsed()
}
