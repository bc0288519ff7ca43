//! PostgreSQL by the shortest prepared statements on one connection: the same rows and indexes, in
//! tables that are there already.

use std::{sync::Arc, time::Duration};

use rustix::time::ClockId;
use tokio::sync::mpsc;
use tokio_postgres::{Client, Error, NoTls, Statement, types::Type};
use uuid::Uuid;

use super::{Row, finish, start_callers};
use crate::bench::sample::{Meter, Sample, Times, clock, now};

// $1 queued at, $2 due at, $3 state: 0 or 1.
const INSERT: &str =
    "INSERT INTO sendoff.job (state, lane, priority, delivery, fence, attempt, max_attempts, queued_at, run_at,
        next_at, claimed_at, node, own_guid, guid, request)
    SELECT $3, 1, 0, 1, $3, $3, 5, $1, $2, $2, CASE WHEN $3 = 1 THEN $1 END, CASE WHEN $3 = 1 THEN 1 END,
        true, n.guid, n.request
    FROM unnest($4::uuid[], $5::text[]) AS n (guid, request) RETURNING id";
const CLAIM: &str =
    "UPDATE sendoff.job SET state = 1, fence = fence + 1, attempt = attempt + 1, claimed_at = $1, node = 1
    WHERE id = ANY (ARRAY(SELECT id FROM sendoff.job WHERE lane = 1 AND state = 0 AND NOT quarantined
        ORDER BY priority DESC, next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING id, guid, request, fence";
const STARTED: &str =
    "UPDATE sendoff.job SET state = 2, starting_at = queued_at + 1, started_at = $2, wait_us = 1, ended_at = $2
    WHERE id = ANY ($1) AND state = 1 AND fence = 1";
/// The order of an index is what matters, not what the planner believes of a table that is emptied
/// again and again.
const BY_INDEX: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off";

/// One connection with its statements.
pub(in crate::bench) struct Raw {
    client: Client,
    insert: Statement,
    claim: Statement,
    started: Statement,
    request: Arc<str>,
}

impl Raw {
    /// Connects without TLS. The connection ends with this.
    pub(in crate::bench) async fn connect(url: &str, request: &str) -> Result<Self, Error> {
        let client = connect(url).await?;
        client.batch_execute(BY_INDEX).await?;
        let types = [Type::INT8, Type::INT8, Type::INT4, Type::UUID_ARRAY, Type::TEXT_ARRAY];
        let insert = client.prepare_typed(INSERT, &types).await?;
        let claim = client.prepare_typed(CLAIM, &[Type::INT8, Type::INT8]).await?;
        let started = client.prepare_typed(STARTED, &[Type::INT8_ARRAY, Type::INT8]).await?;
        Ok(Self { client, insert, claim, started, request: request.into() })
    }

    /// Inserted already claimed, then started, in batches.
    pub(in crate::bench) async fn lives(&self, jobs: u64, batch: u64) -> Result<Sample, Error> {
        let meter = Meter::start();
        let mut left = jobs;
        while left > 0 {
            let guids = guids(batch.min(left));
            left -= guids.len() as u64;
            let ids = self.insert(&guids, Duration::ZERO, 1).await?;
            self.started(&ids).await?;
        }
        Ok(meter.stop(jobs))
    }

    /// Rows due after `delay`, in batches.
    pub(in crate::bench) async fn fill(
        &self,
        jobs: u64,
        batch: u64,
        delay: Duration,
    ) -> Result<Sample, Error> {
        let meter = Meter::start();
        let mut left = jobs;
        while left > 0 {
            let guids = guids(batch.min(left));
            left -= guids.len() as u64;
            self.insert(&guids, delay, 0).await?;
        }
        Ok(meter.stop(jobs))
    }

    /// What is due is claimed and started, in batches.
    pub(in crate::bench) async fn dispatch(&self, jobs: u64, batch: u64) -> Result<Sample, Error> {
        let meter = Meter::start();
        let mut done = 0;
        while done < jobs {
            let rows =
                self.client.query(&self.claim, &[&micros(Duration::ZERO), &batch.cast_signed()]).await?;
            let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            if ids.is_empty() {
                break;
            }
            self.started(&ids).await?;
            done += ids.len() as u64;
        }
        Ok(meter.stop(done))
    }

    /// Callers that insert one row after the other; the connection takes what waits into one insert.
    pub(in crate::bench) async fn calls(
        self,
        jobs: u64,
        callers: u64,
        batch: u64,
        delay: Duration,
    ) -> Result<Sample, Error> {
        let each = (jobs / callers).max(1);
        let (sender, mut queue) = mpsc::unbounded_channel::<Row>();
        let meter = Meter::start();
        let tasks = start_callers(callers, each, move |row| drop(sender.send(row)));
        let mut waiting = Vec::new();
        while queue.recv_many(&mut waiting, usize::try_from(batch).unwrap_or(usize::MAX)).await > 0 {
            let (guids, replies): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
            self.insert(&guids, delay, 0).await?;
            for reply in replies {
                let _ = reply.send(());
            }
        }
        let times = finish(tasks).await;
        let sample = meter.stop(each * callers);
        Ok(sample.with_times(times))
    }

    /// How long one insert takes, so many times, with a pause before each.
    pub(in crate::bench) async fn paced(&self, jobs: u64, pause: Duration) -> Result<Times, Error> {
        let mut times = Times::new();
        for _ in 0..jobs {
            tokio::time::sleep(pause).await;
            let began = now();
            self.insert(&guids(1), Duration::ZERO, 1).await?;
            times.add(now() - began);
        }
        Ok(times)
    }

    async fn insert(&self, guids: &[Uuid], delay: Duration, state: i32) -> Result<Vec<i64>, Error> {
        let requests = vec![&*self.request; guids.len()];
        let (queued, due) = (micros(Duration::ZERO), micros(delay));
        let rows = self.client.query(&self.insert, &[&queued, &due, &state, &guids, &requests]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn started(&self, ids: &[i64]) -> Result<(), Error> {
        // Later than what the table's checks compare it with.
        let at = micros(Duration::from_micros(10));
        self.client.execute(&self.started, &[&ids, &at]).await.map(drop)
    }
}

/// Forgets all jobs. What they left to write is written now, and not during the next measurement.
pub(in crate::bench) async fn clean(url: &str) -> Result<(), Error> {
    let client = connect(url).await?;
    client.batch_execute("TRUNCATE sendoff.job, sendoff.tally").await?;
    // Only for who may.
    let _ = client.batch_execute("CHECKPOINT").await;
    Ok(())
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Ends with the client.
    drop(tokio::runtime::Handle::current().spawn(connection));
    Ok(client)
}

fn guids(jobs: u64) -> Vec<Uuid> {
    (0..jobs).map(|_| Uuid::now_v7()).collect()
}

/// The wall clock after `delay`, in microseconds.
fn micros(delay: Duration) -> i64 {
    i64::try_from((clock(ClockId::Realtime) + delay).as_micros()).unwrap_or(i64::MAX)
}
