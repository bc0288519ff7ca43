//! The same rows by the shortest prepared statements: what this database can do at best.

use std::sync::Arc;

use sendoff::time::{Clock, SystemClock};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::{
    BATCH, CALLERS, HOUR, PADDING,
    server::{Server, elapsed},
};

// $1 queued at, $2 due at, $3 state: 0 or 1.
const INSERT: &str = "INSERT INTO sendoff.job (state, lane, priority, delivery, fence, attempt, max_attempts,
        queued_at, run_at, next_at, claimed_at, node, own_guid, guid, request)
    SELECT $3, 1, 0, 1, $3, $3, 5, $1, $2, $2, CASE WHEN $3 = 1 THEN $1 END, CASE WHEN $3 = 1 THEN 1 END,
        true, n.guid, n.request
    FROM unnest($4::uuid[], $5::text[]) AS n (guid, request) RETURNING id";
const CLAIM: &str =
    "UPDATE sendoff.job SET state = 1, fence = fence + 1, attempt = attempt + 1, claimed_at = $1,
        node = 1
    WHERE id = ANY (ARRAY(SELECT id FROM sendoff.job WHERE lane = 1 AND state = 0 AND NOT quarantined
        ORDER BY priority DESC, next_at, id LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING id, guid, request, fence";
const STARTED: &str =
    "UPDATE sendoff.job SET state = 2, starting_at = queued_at + 1, started_at = $2, wait_us = 1,
        ended_at = $2
    WHERE id = ANY ($1) AND state = 1 AND fence = 1";
/// The order of an index is what matters, not what the planner believes of a table that is emptied
/// again and again.
const BY_INDEX: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off";

pub(crate) struct Raw<'a> {
    server: &'a Server,
    request: Arc<str>,
}

struct Session {
    client: Client,
    insert: Statement,
    claim: Statement,
    started: Statement,
    request: Arc<str>,
}

impl<'a> Raw<'a> {
    pub(crate) fn new(server: &'a Server) -> Self {
        let request = format!(r#"{{"start":{{"simulated":{{"delay":"0s"}}}},"labels":{{"n":"{PADDING}"}}}}"#);
        Self { server, request: request.into() }
    }

    /// Inserted already claimed, then started; each connection one batch after the other.
    pub(crate) fn lives(&self, connections: usize, jobs: usize) -> f64 {
        self.each(connections, jobs, async |session, batch| {
            let ids = session.insert(&guids(batch), 0, 1).await;
            session.started(&ids).await;
            batch
        })
    }

    pub(crate) fn fill(&self, jobs: usize) {
        self.each(1, jobs, async |session, batch| session.insert(&guids(batch), 0, 0).await.len());
    }

    /// Claimed, then started.
    pub(crate) fn dispatch(&self, connections: usize, jobs: usize) -> f64 {
        self.each(connections, jobs, async |session, batch| {
            let ids = session.claim(batch).await;
            session.started(&ids).await;
            ids.len()
        })
    }

    pub(crate) fn batches(&self, jobs: usize) -> f64 {
        self.each(1, jobs, async |session, batch| session.insert(&guids(batch), HOUR, 0).await.len())
    }

    /// Callers that insert one job after the other; one connection takes what waits in one insert.
    pub(crate) fn singles(&self, jobs: usize) -> f64 {
        let session = self.session();
        let each = jobs / CALLERS;
        let began = elapsed();
        self.server.runtime.block_on(async {
            let (sender, mut queue) = mpsc::unbounded_channel::<(Uuid, oneshot::Sender<()>)>();
            let mut callers = JoinSet::new();
            for _ in 0..CALLERS {
                let sender = sender.clone();
                callers.spawn(async move {
                    for _ in 0..each {
                        let (reply, answer) = oneshot::channel();
                        sender.send((Uuid::now_v7(), reply)).expect("the writer lives");
                        answer.await.expect("an answer");
                    }
                });
            }
            drop(sender);
            callers.spawn(async move {
                let mut waiting = Vec::new();
                while queue.recv_many(&mut waiting, BATCH).await > 0 {
                    let (guids, replies): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
                    session.insert(&guids, HOUR, 0).await;
                    for reply in replies {
                        let _ = reply.send(());
                    }
                }
            });
            callers.join_all().await;
        });
        (each * CALLERS) as f64 / (elapsed() - began).as_secs_f64()
    }

    /// Jobs a second of `work` on so many connections, each in batches until it has done its part.
    fn each<F>(&self, connections: usize, jobs: usize, work: F) -> f64
    where
        F: AsyncFn(&Session, usize) -> usize,
    {
        let sessions: Vec<Session> = (0..connections).map(|_| self.session()).collect();
        let began = elapsed();
        let part = jobs / connections;
        self.server.runtime.block_on(futures_util::future::join_all(sessions.iter().map(async |session| {
            let mut done = 0;
            while done < part {
                let now_done = work(session, BATCH.min(part - done)).await;
                assert!(now_done > 0, "there is nothing left after {done}");
                done += now_done;
            }
        })));
        jobs as f64 / (elapsed() - began).as_secs_f64()
    }

    fn session(&self) -> Session {
        let client = self.server.connect();
        let request = self.request.clone();
        self.server.runtime.block_on(async {
            use tokio_postgres::types::Type;
            client.batch_execute(BY_INDEX).await.expect("settings");
            let types = [Type::INT8, Type::INT8, Type::INT4, Type::UUID_ARRAY, Type::TEXT_ARRAY];
            let insert = client.prepare_typed(INSERT, &types).await.expect("the table's columns");
            let claim =
                client.prepare_typed(CLAIM, &[Type::INT8, Type::INT8]).await.expect("the table's columns");
            let started = client.prepare_typed(STARTED, &[Type::INT8_ARRAY, Type::INT8]);
            let started = started.await.expect("the table's columns");
            Session { client, insert, claim, started, request }
        })
    }
}

impl Session {
    async fn insert(&self, guids: &[Uuid], due: u64, state: i32) -> Vec<i64> {
        let requests = vec![&*self.request; guids.len()];
        let due = now() + due as i64 * 1_000_000;
        let rows = self.client.query(&self.insert, &[&now(), &due, &state, &guids, &requests]).await;
        rows.expect("it inserts").iter().map(|row| row.get(0)).collect()
    }

    async fn claim(&self, jobs: usize) -> Vec<i64> {
        let rows = self.client.query(&self.claim, &[&now(), &(jobs as i64)]).await.expect("it claims");
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn started(&self, ids: &[i64]) {
        // Later than what it is compared with by the table's checks.
        let now = now() + 10;
        let done = self.client.execute(&self.started, &[&ids, &now]).await.expect("it updates");
        assert_eq!(done, ids.len() as u64);
    }
}

fn guids(jobs: usize) -> Vec<Uuid> {
    (0..jobs).map(|_| Uuid::now_v7()).collect()
}

fn now() -> i64 {
    SystemClock.now().as_micros()
}
