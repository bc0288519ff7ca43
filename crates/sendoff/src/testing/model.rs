//! A plain model of a store, kept beside the real one.
//!
//! [`Model`] makes each call on the store under test and on its own list of jobs, to which it
//! applies [`Life::apply`], and panics where the answers differ. So a test only says what it does,
//! and the literal expectations of the conformance cases come on top.

mod expect;
mod verify;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;

use crate::{
    guid::Guid,
    job::{Delivery, Grant, Job, JobId, JobRecord, Lane, QueueLimits, Reach},
    ports::{
        CancelVerdict, Changed, Claim, Claimed, Expired, InsertBatch, Inserted, NewJob, Prune, Settled,
        Settlement, Store,
    },
    state::{Life, Past, Refused, Resolution, State, Transition},
    time::Timestamp,
};

/// Makes stores to test.
pub trait Factory: Send + Sync {
    /// Opens a new, empty store.
    fn open(&self) -> BoxFuture<'_, Box<dyn Subject>>;
}

/// A store under test, with whatever it stands on (a directory that goes when this is dropped).
pub trait Subject: Send + Sync {
    /// The store.
    fn store(&self) -> &dyn Store;

    /// Ends the store as a crash of the process would, without closing it, and opens it again.
    fn crash_and_reopen(&mut self) -> BoxFuture<'_, ()>;
}

/// The store under test and the jobs that should be in it.
pub struct Model {
    subject: Box<dyn Subject>,
    /// In the order of insertion.
    rows: Vec<Row>,
    bookmarks: BTreeMap<String, Vec<u8>>,
    queues: BTreeMap<Arc<str>, QueueLimits>,
    highest: Option<JobId>,
}

/// A job that should be in the store.
#[derive(Debug, Clone)]
pub struct Row {
    /// The store's number for it.
    pub id: JobId,
    /// Its unchanging part.
    pub job: Arc<Job>,
    /// Its changing part.
    pub life: Life,
    /// The fence of the attempt that was under way when the store was opened.
    orphan: Option<u32>,
}

/// The instant so many microseconds into the tests' time.
///
/// # Panics
/// Outside the years 1970 to 9999.
pub fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_700_000_000_000_000 + micros).expect("between 1970 and 9999")
}

/// The n-th job: its own guid, request and labels, accepted and due at `at(0)`, at_least_once with
/// three attempts, in the lane `default`.
pub fn job(n: u64) -> Job {
    // Scattered, so that the order of guids is not the order of insertion.
    let scattered = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 64 | u128::from(n);
    let parity = if n.is_multiple_of(2) { "even" } else { "odd" };
    let request =
        format!(r#"{{"start":{{"simulated":{{"n":{n}}}}},"labels":{{"n":"{n}","parity":"{parity}"}}}}"#);
    Job {
        guid: Guid::from_bytes(scattered.to_be_bytes()),
        own_guid: false,
        idempotency_key: None,
        lane: lane("default"),
        priority: 0,
        delivery: Delivery::AtLeastOnce,
        max_attempts: 3,
        queued_at: at(0),
        run_at: at(0),
        expires_at: None,
        request: request.into(),
        submitted_by: None,
        grant: None,
    }
}

/// The lane of the simulated starter in this queue.
pub fn lane(queue: &str) -> Arc<Lane> {
    Arc::new(Lane { queue: queue.into(), starter: "simulated".into(), destination: None })
}

/// The n-th grant, made anew with each call.
///
/// # Panics
/// If there are more than 255.
pub fn grant(n: u64) -> Arc<Grant> {
    let reach = Reach {
        networks: vec![format!("10.{n}.0.0/16").parse().expect("n is at most 255")],
        programs: vec![format!("/opt/it's \"{n}\"").into()],
        env: if n.is_multiple_of(2) { vec!["APP_*".to_owned()] } else { Vec::new() },
        ..Reach::default()
    };
    Arc::new(Grant { local: n.is_multiple_of(2), reach })
}

/// The node that claims.
pub const NODE: &str = "node-1";

impl Row {
    /// Takes a step in the model.
    fn apply(&mut self, now: Timestamp, step: &Transition) -> Result<State, Refused> {
        self.life.apply(&self.job.facts(), now, step)
    }

    /// The record that the store should give.
    pub fn record(&self) -> JobRecord {
        let Self { job, life, .. } = self;
        let past = life.past.as_deref().cloned().unwrap_or_default();
        let Past { claimed_at, node, starting_at, started_at, wait_us, clock_skew_us, receipt, last_error } =
            past;
        JobRecord {
            guid: job.guid,
            queue: job.lane.queue.clone(),
            state: life.state,
            starter: job.lane.starter.clone(),
            target: job.lane.destination.clone(),
            delivery: job.delivery,
            priority: job.priority,
            labels: expect::labels(&job.request),
            run_at: life.run_at,
            next_at: life.next_at,
            expires_at: job.expires_at,
            queued_at: job.queued_at,
            claimed_at,
            starting_at,
            started_at,
            ended_at: life.ended_at,
            wait_us,
            took_us: started_at.and_then(|at| Some(at.micros_since(starting_at?))),
            attempt: life.attempt,
            max_attempts: job.max_attempts,
            crashes: life.crashes,
            fence: life.fence,
            node,
            receipt,
            last_error,
            possible_duplicate: life.possible_duplicate,
            cancel_requested_at: life.cancel_requested_at,
            quarantined: false,
            clock_skew_us,
            submitted_by: job.submitted_by.clone(),
        }
    }
}

impl Model {
    /// A new, empty store and its model.
    pub async fn new(factory: &dyn Factory) -> Self {
        let subject = factory.open().await;
        Self { subject, rows: Vec::new(), bookmarks: BTreeMap::new(), queues: BTreeMap::new(), highest: None }
    }

    /// The store under test. What is written here without the model's knowledge is a difference.
    pub fn store(&self) -> &dyn Store {
        self.subject.store()
    }

    /// The jobs that should be in the store, in the order of insertion.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The job of this number.
    ///
    /// # Panics
    /// If there is none.
    pub fn row(&self, id: JobId) -> &Row {
        self.rows.iter().find(|row| row.id == id).expect("the model has a row of this number")
    }

    fn row_of(&self, guid: Guid) -> Option<usize> {
        self.rows.iter().position(|row| row.job.guid == guid)
    }

    /// Inserts jobs.
    pub async fn insert(&mut self, batch: InsertBatch) -> Vec<Inserted> {
        let InsertBatch { jobs, atomic, bookmark, now } = batch.clone();
        let (expected, failed) = self.expect_inserted(&jobs, atomic);
        let verdicts = self.store().insert(batch).await.expect("insert");
        assert_eq!(verdicts.len(), expected.len(), "a verdict for each job");
        for (item, (verdict, expected)) in verdicts.iter().zip(&expected).enumerate() {
            assert!(expected.matches(verdict), "job {item} of the batch: {verdict:?}, expected {expected:?}");
            let Inserted::Created(id) = *verdict else { continue };
            assert!(self.highest < Some(id), "{id:?} is not higher than those before it");
            self.highest = Some(id);
            let NewJob { job, claim } = &jobs[item];
            let mut row = Row { id, job: job.clone(), life: Life::new(job.run_at), orphan: None };
            if let Some(node) = claim {
                row.apply(now, &Transition::Claim { node: node.clone() })
                    .expect("only due jobs are claimed at once");
            }
            self.rows.push(row);
        }
        if !failed {
            self.bookmarks.extend(bookmark);
        }
        self.check(jobs.iter().map(|new| new.job.guid)).await;
        verdicts
    }

    /// Inserts one pending job, which must be new.
    pub async fn submit(&mut self, job: Job) -> JobId {
        let now = job.queued_at;
        let jobs = vec![NewJob { job: Arc::new(job), claim: None }];
        match self.insert(InsertBatch { jobs, atomic: false, bookmark: None, now }).await[..] {
            [Inserted::Created(id)] => id,
            ref other => panic!("not created: {other:?}"),
        }
    }

    /// Claims jobs.
    pub async fn claim(&mut self, ids: &[JobId], now: Timestamp) -> Vec<Option<Claimed>> {
        let by = Claim { node: NODE.into(), now };
        let answers = self.store().claim(ids.to_vec(), by).await.expect("claim");
        assert_eq!(answers.len(), ids.len(), "an answer for each row");
        for (id, answer) in ids.iter().zip(&answers) {
            let step = Transition::Claim { node: NODE.into() };
            let Some(row) = self.rows.iter_mut().find(|row| row.id == *id) else {
                assert!(answer.is_none(), "{id:?} is not there and was claimed");
                continue;
            };
            match (row.apply(now, &step), answer) {
                (Ok(_), Some(claimed)) => row.check_claimed(claimed, now),
                (Err(_), None) => {}
                (expected, _) => panic!(
                    "claim at {now:?}: {answer:?}, expected {expected:?} for {:?} with {:?}",
                    row.life,
                    row.job.facts()
                ),
            }
        }
        self.check_ids(ids).await;
        answers
    }

    /// Settles attempts.
    pub async fn settle(&mut self, settlements: Vec<Settlement>, now: Timestamp) -> Vec<Settled> {
        let ids: Vec<_> = settlements.iter().map(|settlement| settlement.id).collect();
        let answers = self.store().settle(settlements.clone(), now).await.expect("settle");
        assert_eq!(answers.len(), ids.len(), "an answer for each settlement");
        for (settlement, answer) in settlements.into_iter().zip(&answers) {
            let Settlement { id, fence, begun, outcome } = settlement;
            let Some(row) = self.rows.iter_mut().find(|row| row.id == id) else {
                assert!(!answer.applied, "{id:?} is not there and was settled");
                continue;
            };
            let before = row.life.clone();
            let step = Transition::Settle { fence, begun, outcome };
            let expected = match row.apply(now, &step) {
                Ok(state) => Settled { state, applied: true },
                Err(refused) => Settled { state: refused.state, applied: false },
            };
            assert_eq!(*answer, expected, "{step:?} of {before:?}");
        }
        self.check_ids(&ids).await;
        answers
    }

    /// Cancels jobs.
    pub async fn cancel(&mut self, guids: &[Guid], now: Timestamp) -> Vec<CancelVerdict> {
        let answers = self.store().cancel(guids.to_vec(), now).await.expect("cancel");
        assert_eq!(answers.len(), guids.len(), "a verdict for each guid");
        for (guid, answer) in guids.iter().zip(&answers) {
            let expected = match self.row_of(*guid) {
                None => CancelVerdict::NotFound,
                Some(place) => {
                    let row = &mut self.rows[place];
                    let was = row.life.state;
                    let state = row.apply(now, &Transition::Cancel);
                    let record = Box::new(row.record());
                    if state == Ok(State::Cancelled) {
                        CancelVerdict::Cancelled { id: (was == State::Pending).then_some(row.id), record }
                    } else {
                        CancelVerdict::TooLate(record)
                    }
                }
            };
            assert_eq!(*answer, expected);
        }
        self.check(guids.iter().copied()).await;
        answers
    }

    /// Reschedules a job.
    pub async fn reschedule(&mut self, guid: Guid, run_at: Timestamp, now: Timestamp) -> Option<Changed> {
        let answer = self.store().reschedule(guid, run_at, now).await.expect("reschedule");
        self.changed(guid, now, &Transition::Reschedule { run_at }, answer).await
    }

    /// Resolves an unknown job.
    pub async fn resolve(&mut self, guid: Guid, to: Resolution, now: Timestamp) -> Option<Changed> {
        let answer = self.store().resolve(guid, to, now).await.expect("resolve");
        self.changed(guid, now, &Transition::Resolve { to }, answer).await
    }

    async fn changed(
        &mut self,
        guid: Guid,
        now: Timestamp,
        step: &Transition,
        answer: Option<Changed>,
    ) -> Option<Changed> {
        let expected = self.row_of(guid).map(|place| {
            let row = &mut self.rows[place];
            let applied = row.apply(now, step).is_ok();
            let header = (row.life.state == State::Pending).then(|| row.header());
            Changed { applied, header, record: row.record() }
        });
        assert_eq!(answer, expected, "{step:?}");
        self.check([guid]).await;
        answer
    }

    /// Expires jobs: as many as the limit allows, whichever.
    pub async fn expire(&mut self, limit: usize, now: Timestamp) -> Expired {
        let answer = self.store().expire(limit, now).await.expect("expire");
        let late = |row: &Row| row.life.state == State::Pending && Life::past_deadline(&row.job.facts(), now);
        let due = self.rows.iter().filter(|row| late(row)).count();
        assert_eq!(answer.ended.len(), due.min(limit), "pending rows past their deadline");
        for (id, guid, lane, state) in &answer.ended {
            let row = self.rows.iter_mut().find(|row| row.id == *id).expect("an expired row is there");
            assert_eq!(row.apply(now, &Transition::Expire), Ok(*state), "{row:?}");
            assert_eq!((*guid, lane), (row.job.guid, &row.job.lane));
        }
        let waiting = self.rows.iter().filter(|row| row.life.state == State::Pending);
        assert_eq!(answer.next, waiting.filter_map(|row| row.job.expires_at).min(), "the next deadline");
        self.check(answer.ended.iter().map(|ended| ended.1)).await;
        answer
    }

    /// Sets, or forgets, the limits of a queue.
    pub async fn set_queue(&mut self, queue: &str, limits: Option<QueueLimits>) {
        self.store().set_queue(queue.into(), limits).await.expect("set_queue");
        match limits {
            Some(limits) => self.queues.insert(queue.into(), limits),
            None => self.queues.remove(queue),
        };
    }

    /// Crashes and opens again: what was acknowledged is there, attempts under way are orphans.
    pub async fn crash_and_reopen(&mut self) {
        self.subject.crash_and_reopen().await;
        // A number that was given before, to a row that is gone, may be given again: it was
        // promised to one job only as long as the process lives.
        self.highest = self.rows.iter().map(|row| row.id).max();
        for row in &mut self.rows {
            row.orphan = (row.life.state == State::Starting).then_some(row.life.fence);
        }
    }

    /// Reclaims orphans: as many as the limit allows, whichever.
    pub async fn reclaim(&mut self, limit: usize, now: Timestamp) -> usize {
        let answer = self.store().reclaim(limit, now).await.expect("reclaim");
        let orphans: Vec<_> = (0..self.rows.len()).filter(|place| self.rows[*place].is_orphan()).collect();
        assert_eq!(answer, orphans.len().min(limit), "attempts that were under way at the crash");
        let mut reclaimed = 0;
        for place in orphans {
            let record = self.get(self.rows[place].job.guid).await;
            let row = &mut self.rows[place];
            if record != Some(row.record()) {
                row.apply(now, &Transition::Reclaim).expect("an orphan is starting");
                row.orphan = None;
                reclaimed += 1;
            }
        }
        assert_eq!(reclaimed, answer, "rows that a reclaim changed");
        let guids: Vec<_> = self.rows.iter().map(|row| row.job.guid).collect();
        self.check(guids).await;
        answer
    }

    /// Deletes final jobs: as many as the limit allows, whichever.
    pub async fn prune(&mut self, prune: Prune) -> usize {
        let Prune { before, submitted_by, unknown_too, limit } = prune.clone();
        let answer = self.store().prune(prune).await.expect("prune");
        let may_go = |row: &Row| {
            row.life.ended_at.is_some_and(|ended_at| ended_at < before)
                && (unknown_too || row.life.state != State::Unknown)
                && submitted_by.as_deref().is_none_or(|by| row.job.submitted_by.as_deref() == Some(by))
        };
        let eligible: Vec<_> = self.rows.iter().filter(|row| may_go(row)).map(|row| row.job.guid).collect();
        assert_eq!(answer, eligible.len().min(limit), "final rows that ended before {before:?}");
        let mut gone = Vec::new();
        for guid in &eligible {
            if self.get(*guid).await.is_none() {
                gone.push(*guid);
            }
        }
        assert_eq!(gone.len(), answer, "rows that a prune deleted");
        self.rows.retain(|row| !gone.contains(&row.job.guid));
        self.check(eligible).await;
        answer
    }
}
