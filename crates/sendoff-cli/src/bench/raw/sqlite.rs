//! SQLite by the shortest statements: the same rows, indexes and syncs, in a file whose tables are
//! there already.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    time::Duration,
};

use rusqlite::{Connection, Result, params};
use rustix::time::ClockId;
use uuid::Uuid;

use super::{Row, finish, start_callers};
use crate::bench::sample::{Meter, Sample, clock};

const INSERT: &str =
    "INSERT INTO job (id, state, lane, priority, delivery, fence, attempt, max_attempts, queued_at, run_at,
        next_at, own_guid, guid, request)
     VALUES (?1, 0, 1, 0, 1, 0, 0, 5, ?2, ?3, ?3, 1, ?4, ?5)";
const CLAIM: &str =
    "UPDATE job SET state = 1, fence = fence + 1, attempt = attempt + 1, claimed_at = ?2, node = 1
     WHERE id = ?1 AND state = 0";
const STARTED: &str =
    "UPDATE job SET state = 2, starting_at = ?2, started_at = ?2, wait_us = ?2 - run_at, ended_at = ?2
     WHERE id = ?1 AND fence = 1 AND state = 1";
const READY: &str = "SELECT id FROM job INDEXED BY job_soon
     WHERE state = 0 AND quarantined = 0 AND next_at <= queued_at + 60000000
        AND lane = 1 AND priority = 0 AND next_at <= ?1
     ORDER BY next_at, id LIMIT ?2";

/// One connection, and the row that comes next.
pub(in crate::bench) struct Raw {
    connection: Connection,
    next: i64,
    request: Arc<str>,
}

impl Raw {
    pub(in crate::bench) fn open(file: &Path, request: &str) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768;
             PRAGMA wal_autocheckpoint = 8000;",
        )?;
        let last: Option<i64> = connection.query_row("SELECT max(id) FROM job", [], |row| row.get(0))?;
        Ok(Self { connection, next: last.unwrap_or(0) + 1, request: request.into() })
    }

    /// Rows due after `delay`, in transactions of `batch`.
    pub(in crate::bench) fn fill(&mut self, jobs: u64, batch: u64, delay: Duration) -> Result<Sample> {
        let meter = Meter::start();
        for size in batches(jobs, batch) {
            let guids: Vec<Uuid> = (0..size).map(|_| Uuid::now_v7()).collect();
            self.insert(&guids, delay)?;
        }
        Ok(meter.stop(jobs))
    }

    /// Whole lives: inserted, claimed and started, each in transactions of `batch`.
    pub(in crate::bench) fn lives(&mut self, jobs: u64, batch: u64) -> Result<Sample> {
        let meter = Meter::start();
        for size in batches(jobs, batch) {
            let guids: Vec<Uuid> = (0..size).map(|_| Uuid::now_v7()).collect();
            let ids = self.insert(&guids, Duration::ZERO)?;
            self.update(CLAIM, ids.clone())?;
            self.update(STARTED, ids)?;
        }
        Ok(meter.stop(jobs))
    }

    /// What is due is claimed and started, in transactions of `batch`.
    pub(in crate::bench) fn dispatch(&mut self, jobs: u64, batch: u64) -> Result<Sample> {
        let meter = Meter::start();
        let mut done = 0;
        while done < jobs {
            let ids: Vec<i64> = self
                .connection
                .prepare_cached(READY)?
                .query_map(params![micros(Duration::ZERO), batch.cast_signed()], |row| row.get(0))?
                .collect::<Result<_>>()?;
            if ids.is_empty() {
                break;
            }
            done += ids.len() as u64;
            self.update(CLAIM, ids.iter().copied())?;
            self.update(STARTED, ids.iter().copied())?;
        }
        Ok(meter.stop(done))
    }

    /// Callers that insert one row after the other, due after `delay`; a thread takes what waits into
    /// one transaction. The times are from the call to the answer.
    pub(in crate::bench) async fn calls(
        mut self,
        jobs: u64,
        callers: u64,
        delay: Duration,
    ) -> Result<Sample> {
        let (sender, queue) = mpsc::channel::<Row>();
        let writer = std::thread::spawn(move || {
            while let Ok(first) = queue.recv() {
                let (guids, replies): (Vec<_>, Vec<_>) =
                    std::iter::once(first).chain(queue.try_iter()).unzip();
                self.insert(&guids, delay)?;
                for reply in replies {
                    let _ = reply.send(());
                }
            }
            Ok::<(), rusqlite::Error>(())
        });
        let each = (jobs / callers).max(1);
        let meter = Meter::start();
        let times = finish(start_callers(callers, each, move |row| drop(sender.send(row)))).await;
        let sample = meter.stop(each * callers);
        writer.join().expect("the writer does not panic")?;
        Ok(sample.with_times(times))
    }

    fn insert(&mut self, guids: &[Uuid], delay: Duration) -> Result<std::ops::Range<i64>> {
        let first = self.next;
        self.next += guids.len() as i64;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            let (queued, due) = (micros(Duration::ZERO), micros(delay));
            for (id, guid) in (first..).zip(guids) {
                insert.execute(params![id, queued, due, guid.as_bytes(), &*self.request])?;
            }
        }
        transaction.commit()?;
        Ok(first..self.next)
    }

    fn update(&mut self, statement: &str, ids: impl IntoIterator<Item = i64>) -> Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut update = transaction.prepare_cached(statement)?;
            // Later than what the table's checks compare it with.
            let at = micros(Duration::from_micros(10));
            for id in ids {
                update.execute(params![id, at])?;
            }
        }
        transaction.commit()
    }
}

/// The sizes of batches for so many.
fn batches(jobs: u64, batch: u64) -> impl Iterator<Item = u64> {
    (0..jobs)
        .step_by(usize::try_from(batch.max(1)).unwrap_or(usize::MAX))
        .map(move |first| batch.min(jobs - first))
}

/// The wall clock after `delay`, in microseconds.
fn micros(delay: Duration) -> i64 {
    i64::try_from((clock(ClockId::Realtime) + delay).as_micros()).unwrap_or(i64::MAX)
}
