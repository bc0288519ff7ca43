//! Bare SQLite: the same rows and indexes by the shortest prepared statements, one thread that
//! writes, checkpoints beside it. It keeps no counts, reads no row for a start and answers with
//! nothing but "done".

use std::{
    cell::Cell,
    path::Path,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::{Connection, params};
use sendoff::{
    Job,
    time::{Clock, SystemClock},
};
use tokio::{sync::oneshot, task::JoinSet};

use crate::{HOUR, ours};

const INSERT: &str = "INSERT INTO job (id, state, lane, priority, delivery, fence, attempt, max_attempts,
         queued_at, run_at, next_at, own_guid, guid, request)
     VALUES (?1, 0, 1, ?2, 1, 0, 0, ?3, ?4, ?5, ?5, 1, ?6, ?7)";
const CLAIM: &str =
    "UPDATE job SET state = 1, fence = fence + 1, attempt = attempt + 1, claimed_at = ?2, node = 1
     WHERE id = ?1 AND state = 0";
const STARTED: &str =
    "UPDATE job SET state = 2, starting_at = ?2, started_at = ?2, wait_us = ?2 - run_at, ended_at = ?2
     WHERE id = ?1 AND fence = 1 AND state = 1";
const DUE: &str = "SELECT id FROM job WHERE state = 0 AND quarantined = 0 ORDER BY next_at, id LIMIT ?1";

const CHECKPOINT_EVERY: Duration = Duration::from_millis(100);
/// Now and then the writer itself, so that the log begins anew: one that grows costs longer syncs.
const CHECKPOINT_COMMITS: u32 = 512;
const CHECKPOINT_ROWS: usize = 60_000;

pub(crate) struct Raw {
    conn: Connection,
    next_id: i64,
    /// Commits and rows since the writer's last checkpoint.
    written: Cell<(u32, usize)>,
    /// Dropped to end the thread that checkpoints.
    checkpoints: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Raw {
    /// On a store's file, made if it is not there, so that the schema is the same.
    pub(crate) fn new(path: &Path) -> Self {
        drop(ours::open(path));
        let connect = || {
            let conn = Connection::open(path).expect("it opens");
            conn.execute_batch(
                "PRAGMA synchronous = FULL; PRAGMA cache_size = -32768; PRAGMA wal_autocheckpoint = 0;",
            )
            .expect("pragmas");
            conn
        };
        let (conn, beside) = (connect(), connect());
        let (checkpoints, stop) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            while stop.recv_timeout(CHECKPOINT_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                checkpoint(&beside);
            }
        });
        let last = conn.query_row("SELECT coalesce(max(id), 0) FROM job", [], |row| row.get::<_, i64>(0));
        let next_id = last.expect("the last row") + 1;
        Self { conn, next_id, written: Cell::default(), checkpoints: Some(checkpoints), thread: Some(thread) }
    }

    pub(crate) fn due(&self, limit: usize) -> Vec<i64> {
        let mut due = self.conn.prepare(DUE).expect("prepare");
        let ids = due.query_map([limit as i64], |row| row.get(0)).expect("due");
        ids.collect::<rusqlite::Result<_>>().expect("due")
    }

    /// One transaction; their numbers.
    pub(crate) fn insert(&mut self, jobs: &[Arc<Job>]) -> std::ops::Range<i64> {
        let first = self.next_id;
        self.next_id += jobs.len() as i64;
        self.transaction(INSERT, (first..).zip(jobs), |st, (id, job)| {
            let values = params![
                id,
                job.priority,
                job.max_attempts,
                job.queued_at.as_micros(),
                job.run_at.as_micros(),
                job.guid.as_bytes(),
                job.request
            ];
            st.execute(values)
        });
        first..self.next_id
    }

    pub(crate) fn claim(&self, ids: &[i64]) {
        let now = SystemClock.now().as_micros();
        self.transaction(CLAIM, ids, |st, id| st.execute([*id, now]));
    }

    pub(crate) fn started(&self, ids: &[i64]) {
        let now = SystemClock.now().as_micros();
        self.transaction(STARTED, ids, |st, id| st.execute([*id, now]));
    }

    fn transaction<T>(
        &self,
        text: &str,
        rows: impl IntoIterator<Item = T>,
        run: impl Fn(&mut rusqlite::CachedStatement<'_>, T) -> rusqlite::Result<usize>,
    ) {
        self.execute("BEGIN IMMEDIATE");
        let mut statement = self.conn.prepare_cached(text).expect("prepare");
        let (commits, mut written) = self.written.get();
        for row in rows {
            assert_eq!(run(&mut statement, row).expect("a write"), 1);
            written += 1;
        }
        self.execute("COMMIT");
        self.written.set((commits + 1, written));
        if commits >= CHECKPOINT_COMMITS || written >= CHECKPOINT_ROWS {
            checkpoint(&self.conn);
            self.written.take();
        }
    }

    fn execute(&self, text: &str) {
        self.conn.prepare_cached(text).expect("prepare").execute([]).expect(text);
    }

    /// Group commit: so many callers give jobs to the thread that writes; what waits goes into one
    /// transaction. As the store does, it lets callers that were just answered come back first.
    pub(crate) async fn calls(self, callers: usize, jobs: usize) -> Self {
        let (sender, queue) = mpsc::channel::<(Arc<Job>, oneshot::Sender<()>)>();
        let writer = std::thread::spawn(move || self.write(&queue));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let sender = sender.clone();
            tasks.spawn(async move {
                for _ in 0..jobs / callers {
                    let (reply, answer) = oneshot::channel();
                    sender.send((Arc::new(crate::job(HOUR)), reply)).expect("send");
                    answer.await.expect("an answer");
                }
            });
        }
        tasks.join_all().await;
        drop(sender);
        writer.join().expect("no panic")
    }

    fn write(mut self, queue: &mpsc::Receiver<(Arc<Job>, oneshot::Sender<()>)>) -> Self {
        let mut last = 0;
        while let Ok((job, reply)) = queue.recv() {
            let (mut jobs, mut replies) = (vec![job], vec![reply]);
            let mut yields = 0;
            loop {
                match queue.try_recv() {
                    Ok((job, reply)) => {
                        jobs.push(job);
                        replies.push(reply);
                    }
                    Err(_) if jobs.len() < last / 2 && yields < 4 => {
                        yields += 1;
                        std::thread::yield_now();
                    }
                    Err(_) => break,
                }
            }
            last = jobs.len();
            self.insert(&jobs);
            for reply in replies {
                let _ = reply.send(());
            }
        }
        self
    }
}

fn checkpoint(conn: &Connection) {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).expect("a checkpoint");
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.checkpoints = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
