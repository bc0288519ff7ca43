//! A world for the dispatcher under test: the memory store, attempts and time, all held by hand.
//!
//! Actions take effect on the store when they are asked for, as the contract says; their answers
//! are held back and delivered in any order. Each step checks the limits.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;

use super::{Action, AttemptEnd, Backoff, Dispatcher, Event, Limits, Now, Sharing, StarterLimits, Verdict};
use crate::{
    guid::Guid,
    job::{Delivery, ErrorClass, Header, Job, JobId, Lane, LastError, QueueLimits, Receipt},
    ports::{
        CancelVerdict, Claim, Claimed, InsertBatch, Inserted, NewJob, Settlement, StartError, Store,
        StoreFuture, Wanted,
    },
    state::{self, Outcome, State},
    store::MemoryStore,
    time::Timestamp,
};

/// What may happen next in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// Submit a job to queue `a` (two destinations in turn), due now.
    SubmitA,
    /// Submit a job to queue `b`, of the starter that limits what runs.
    SubmitB,
    /// Submit a job that is due in 5 s, with a deadline 5 s later.
    SubmitLater,
    /// Cancel the youngest job.
    Cancel,
    /// Deliver the oldest answer that is held back.
    Answer,
    /// Deliver the youngest.
    AnswerLast,
    /// The next thing asked of the store fails and changes nothing.
    Fail,
    /// The oldest attempt ends well.
    Started,
    /// The oldest attempt ends ambiguous.
    Ambiguous,
    /// The oldest attempt finds no resources.
    Pressure,
    /// The oldest running thing ends.
    RunEnded,
    /// 3 s pass.
    Wait,
    /// Queue `a` is paused, or let go.
    Pause,
    /// The youngest job is to start 1 s from now, or at once every other time.
    Reschedule,
    /// The youngest job is to start 20 s from now.
    Later,
    /// The oldest job that is pending is to start now, also if it waits for its next attempt.
    StartNow,
    /// One start at once, in queue `a` and in all; or as many as in the beginning.
    Narrow,
    /// The wall clock is set back by 4 s.
    StepBack,
    /// Another node stores a job of queue `a` that is due now.
    OtherSubmits,
    /// Another node stores one that is due in 5 s.
    OtherSubmitsLater,
    /// Another node claims the first due job.
    OtherClaims,
    /// Another node's oldest attempt ends, ambiguous every other time.
    OtherEnds,
    /// For the next claim the limits of the fleet are used up.
    Hold,
    /// Another node's hint.
    Hint,
}

impl Op {
    pub(super) const ALL: [Self; 18] = [
        Self::SubmitA,
        Self::SubmitB,
        Self::SubmitLater,
        Self::Cancel,
        Self::Answer,
        Self::AnswerLast,
        Self::Fail,
        Self::Started,
        Self::Ambiguous,
        Self::Pressure,
        Self::RunEnded,
        Self::Wait,
        Self::Pause,
        Self::Reschedule,
        Self::Later,
        Self::StartNow,
        Self::Narrow,
        Self::StepBack,
    ];
    /// In a fleet. (The time that its nodes share does not step.)
    pub(super) const IN_FLEET: [Self; 23] = [
        Self::SubmitA,
        Self::SubmitB,
        Self::SubmitLater,
        Self::Cancel,
        Self::Answer,
        Self::AnswerLast,
        Self::Fail,
        Self::Started,
        Self::Ambiguous,
        Self::Pressure,
        Self::RunEnded,
        Self::Wait,
        Self::Pause,
        Self::Reschedule,
        Self::Later,
        Self::StartNow,
        Self::Narrow,
        Self::OtherSubmits,
        Self::OtherSubmitsLater,
        Self::OtherClaims,
        Self::OtherEnds,
        Self::Hold,
        Self::Hint,
    ];
}

/// How long a node goes without looking for jobs of others.
const INTERVAL: Duration = Duration::from_secs(5);

const MAX_IN_FLIGHT: usize = 4;
const MAX_QUEUE_A: usize = 3;
const MAX_PER_DESTINATION: usize = 2;
const MAX_STARTING: usize = 3;
const MAX_RUNNING: usize = 2;

pub(super) struct World {
    now: Now,
    dispatcher: Dispatcher,
    store: MemoryStore,
    answers: VecDeque<Event>,
    fail_next: bool,
    attempts: VecDeque<Arc<Claimed>>,
    /// Lanes of claims and attempts whose permits are taken: what the limits are checked against.
    held: BTreeMap<u64, Arc<Lane>>,
    running: VecDeque<Arc<str>>,
    paused: bool,
    narrow: bool,
    jobs: Vec<Guid>,
    cancelled: BTreeSet<Guid>,
    starts: BTreeMap<Guid, u32>,
    /// What other nodes do, in a fleet.
    others: Option<Others>,
    pub(super) trace: Vec<String>,
}

#[derive(Default)]
struct Others {
    attempts: VecDeque<Claimed>,
    hold_next: bool,
    ended: usize,
}

impl World {
    pub(super) fn new(seed: u64, in_fleet: bool) -> Self {
        let starters = [
            StarterLimits {
                name: "dest".into(),
                max_per_destination: MAX_PER_DESTINATION,
                max_starting: MAX_STARTING,
                max_running: None,
            },
            StarterLimits {
                name: "run".into(),
                max_per_destination: usize::MAX,
                max_starting: usize::MAX,
                max_running: Some(MAX_RUNNING),
            },
        ];
        let mut limits = Limits { max_in_flight: MAX_IN_FLIGHT, ..Limits::default() };
        let queue_limits = QueueLimits { max_in_flight: Some(MAX_QUEUE_A), ..QueueLimits::default() };
        limits.queues.insert("a".into(), queue_limits);
        let wall = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
        let mut dispatcher = Dispatcher::new(limits, &starters, seed);
        if in_fleet {
            dispatcher = dispatcher.in_fleet(Sharing { interval: INTERVAL, served: None });
        }
        let mut world = Self {
            now: Now { wall, elapsed: Duration::from_secs(1) },
            dispatcher,
            store: MemoryStore::new(),
            answers: VecDeque::new(),
            fail_next: false,
            attempts: VecDeque::new(),
            held: BTreeMap::new(),
            running: VecDeque::new(),
            paused: false,
            narrow: false,
            jobs: Vec::new(),
            cancelled: BTreeSet::new(),
            starts: BTreeMap::new(),
            others: in_fleet.then(Others::default),
            trace: Vec::new(),
        };
        world.feed(Event::Tick);
        world
    }

    pub(super) fn step(&mut self, op: Op) {
        self.trace.push(format!("{op:?}"));
        match op {
            Op::SubmitA => {
                let host = if self.jobs.len().is_multiple_of(2) { "x:1" } else { "y:1" };
                self.submit("a", "dest", Some(host), Duration::ZERO);
            }
            Op::SubmitB => self.submit("b", "run", None, Duration::ZERO),
            Op::SubmitLater => self.submit("a", "dest", Some("x:1"), Duration::from_secs(5)),
            Op::Cancel => self.cancel(),
            Op::Answer => {
                if let Some(event) = self.answers.pop_front() {
                    self.feed(event);
                }
            }
            Op::AnswerLast => {
                if let Some(event) = self.answers.pop_back() {
                    self.feed(event);
                }
            }
            Op::Fail => self.fail_next = true,
            Op::Started => self.end(Ok(Receipt::default())),
            Op::Ambiguous => self.end(Err(StartError::ambiguous("no answer"))),
            Op::Pressure => self.end(Err(StartError::pressure("no descriptors"))),
            Op::RunEnded => {
                if let Some(starter) = self.running.pop_front() {
                    self.feed(Event::RunEnded(starter));
                }
            }
            Op::Wait => self.wait(Duration::from_secs(3)),
            Op::Pause => self.pause(!self.paused),
            Op::Reschedule => {
                let seconds = self.trace.len() as u64 % 2;
                self.reschedule(self.jobs.last().copied(), Duration::from_secs(seconds));
            }
            Op::Later => self.reschedule(self.jobs.last().copied(), Duration::from_secs(20)),
            Op::StartNow => self.reschedule(self.oldest_pending(), Duration::ZERO),
            Op::Narrow => self.narrow(!self.narrow),
            Op::StepBack => {
                let back = self.now.wall.as_micros() - 4_000_000;
                self.now.wall = Timestamp::from_micros(back).unwrap();
                self.feed(Event::Tick);
            }
            Op::OtherSubmits => self.other_submits(Duration::ZERO),
            Op::OtherSubmitsLater => self.other_submits(Duration::from_secs(5)),
            Op::OtherClaims => self.other_claims(),
            Op::OtherEnds => self.other_ends(),
            Op::Hold => self.others.iter_mut().for_each(|others| others.hold_next = true),
            Op::Hint => self.feed(Event::Woken { reconnected: false }),
        }
    }

    fn other_submits(&mut self, delay: Duration) {
        let job = self.new_job("a", "dest", Some("x:1"), delay);
        let jobs = vec![NewJob { job, claim: None }];
        now(self.store.insert(InsertBatch { jobs, atomic: false, bookmark: None, now: self.now.wall }));
    }

    fn other_claims(&mut self) {
        let Some(first) = now(self.store.due(None, self.now.wall, 1)).pop() else { return };
        let claim = Claim { node: "other".into(), now: self.now.wall };
        let claimed = now(self.store.claim(vec![first.id], claim)).remove(0);
        self.others.as_mut().expect("in a fleet").attempts.extend(claimed);
    }

    fn other_ends(&mut self) {
        let others = self.others.as_mut().expect("in a fleet");
        let Some(claimed) = others.attempts.pop_front() else { return };
        others.ended += 1;
        let begun = state::begin(self.now.wall, claimed.job.queued_at, claimed.claimed_at);
        *self.starts.entry(claimed.job.guid).or_default() += 1;
        let outcome = if others.ended.is_multiple_of(2) {
            let error =
                LastError { class: ErrorClass::Ambiguous, message: "no answer".into(), at: self.now.wall };
            Outcome::Retry { next_at: self.now.wall, ambiguous: true, error }
        } else {
            Outcome::Started { started_at: begun.starting_at, receipt: Receipt::default() }
        };
        let settlement = Settlement { id: claimed.id, fence: claimed.fence, begun: Some(begun), outcome };
        assert!(now(self.store.settle(vec![settlement], self.now.wall))[0].applied);
    }

    /// As a store claims: another due job of the lane in place of one that is gone.
    fn claim(&mut self, wanted: &Wanted) -> Verdict {
        let claim = Claim { node: "n".into(), now: self.now.wall };
        let claimed = |id| now(self.store.claim(vec![id], claim.clone())).remove(0).map(Arc::new);
        if let Some(others) = &mut self.others {
            if std::mem::take(&mut others.hold_next) {
                return Verdict::Held(Duration::from_secs(2));
            }
            if let Some(claimed) = claimed(wanted.id) {
                return Verdict::Claimed(claimed);
            }
            let instead = now(self.store.ready(wanted.lane.clone(), self.now.wall, 1)).pop();
            let instead = instead.filter(|header| !wanted.only && !header.alone);
            return instead.and_then(|header| claimed(header.id)).map_or(Verdict::Lost, Verdict::Claimed);
        }
        claimed(wanted.id).map_or(Verdict::Lost, Verdict::Claimed)
    }

    fn reschedule(&mut self, job: Option<Guid>, delay: Duration) {
        let Some(guid) = job else { return };
        let run_at = self.now.wall.saturating_add(delay);
        let changed = now(self.store.reschedule(guid, run_at, self.now.wall)).expect("it is there");
        if let Some(header) = changed.header.filter(|_| changed.applied) {
            self.answers.push_back(Event::Rescheduled { header, deadline: changed.record.expires_at });
        }
    }

    /// Whether a pending job is due and was never seen past its deadline. (One that was, before the
    /// wall clock stepped back, waits for that deadline to come again.)
    fn has_due(&self) -> bool {
        self.jobs.iter().filter_map(|guid| now(self.store.get(*guid))).any(|record| {
            let in_time = record.expires_at.is_none_or(|at| self.dispatcher.latest < at);
            record.state == State::Pending && record.next_at <= self.now.wall && in_time
        })
    }

    fn oldest_pending(&self) -> Option<Guid> {
        let pending = |guid: &Guid| now(self.store.get(*guid)).unwrap().state == State::Pending;
        self.jobs.iter().copied().find(pending)
    }

    /// Lets everything go its way until nothing is left to do, and checks what became of the jobs.
    pub(super) fn heal(&mut self) {
        self.trace.push("heal".into());
        self.fail_next = false;
        self.others.iter_mut().for_each(|others| others.hold_next = false);
        self.pause(false);
        self.narrow(false);
        for _ in 0..10_000 {
            if let Some(event) = self.answers.pop_front() {
                self.feed(event);
            } else if !self.attempts.is_empty() {
                self.end(Ok(Receipt::default()));
            } else if let Some(starter) = self.running.pop_front() {
                self.feed(Event::RunEnded(starter));
            } else if self.others.as_ref().is_some_and(|others| !others.attempts.is_empty()) {
                self.other_ends();
            } else if self.unfinished() == 0 {
                return self.check_ends();
            } else {
                self.wait_for_wake();
            }
        }
        panic!("it does not come to an end: {:#?}", self.dispatcher);
    }

    fn check_ends(&mut self) {
        assert!(self.dispatcher.is_drained());
        assert_eq!(self.dispatcher.board.in_flight(), 0, "permits were lost");
        assert!(self.dispatcher.again.is_empty());
        for guid in self.jobs.clone() {
            let record = now(self.store.get(guid)).unwrap();
            let starts = self.starts.get(&guid).copied().unwrap_or(0);
            match record.state {
                State::Started => assert!(starts >= 1 && (starts == 1 || record.possible_duplicate)),
                State::Cancelled => {
                    assert!(self.cancelled.contains(&guid) && (starts == 0 || record.possible_duplicate))
                }
                State::Failed => assert!(record.possible_duplicate || record.last_error.is_some()),
                State::Expired => assert_eq!(starts, 0),
                state => panic!("{guid} is {state}"),
            }
        }
    }

    fn unfinished(&self) -> u64 {
        now(self.store.counts()).unfinished()
    }

    fn new_job(
        &mut self,
        queue: &str,
        starter: &str,
        destination: Option<&str>,
        delay: Duration,
    ) -> Arc<Job> {
        let lane = Arc::new(Lane {
            queue: queue.into(),
            starter: starter.into(),
            destination: destination.map(Into::into),
        });
        let run_at = self.now.wall.saturating_add(delay);
        let number = u8::try_from(self.jobs.len() % 256).unwrap();
        let guid =
            Guid::from_bytes([number; 16].map(|byte| byte.wrapping_add((self.jobs.len() / 256) as u8)));
        let job = Arc::new(Job {
            guid,
            own_guid: true,
            idempotency_key: None,
            lane,
            priority: 0,
            delivery: Delivery::AtLeastOnce,
            max_attempts: 1_000,
            queued_at: self.now.wall,
            run_at,
            expires_at: (!delay.is_zero()).then(|| run_at.saturating_add(delay)),
            request: "{}".into(),
            submitted_by: None,
            grant: None,
        });
        self.jobs.push(guid);
        job
    }

    fn submit(&mut self, queue: &str, starter: &str, destination: Option<&str>, delay: Duration) {
        let job = self.new_job(queue, starter, destination, delay);
        let (lane, run_at) = (job.lane.clone(), job.run_at);
        let admitted = self.dispatcher.admit(self.now, &lane, run_at, job.expires_at);
        if std::mem::take(&mut self.fail_next) {
            self.jobs.pop();
            if admitted {
                self.answers.push_back(Event::Withdrawn(vec![lane]));
            }
            return;
        }
        let jobs = vec![NewJob { job: job.clone(), claim: admitted.then(|| "n".into()) }];
        let batch = InsertBatch { jobs, atomic: false, bookmark: None, now: self.now.wall };
        let Inserted::Created(id) = now(self.store.insert(batch))[0] else { panic!("not created") };
        let answer = if admitted {
            self.hold(id.0, lane);
            let claimed =
                Claimed { id, job, fence: 1, attempt: 1, claimed_at: self.now.wall, run_at, crashes: 0 };
            Event::InsertedClaimed(vec![Arc::new(claimed)])
        } else {
            let header = Header { id, lane, priority: 0, next_at: run_at, alone: false };
            Event::Inserted { pending: vec![header], deadline: job.expires_at }
        };
        self.answers.push_back(answer);
    }

    fn cancel(&mut self) {
        let Some(&guid) = self.jobs.last() else { return };
        match now(self.store.cancel(vec![guid], self.now.wall)).remove(0) {
            CancelVerdict::Cancelled { .. } => {
                self.cancelled.insert(guid);
            }
            CancelVerdict::TooLate(record) => {
                // A later way back to pending ends in cancelled.
                if record.state == State::Starting {
                    self.cancelled.insert(guid);
                }
            }
            CancelVerdict::NotFound => panic!("lost"),
        }
    }

    fn end(&mut self, result: Result<Receipt, StartError>) {
        let Some(claimed) = self.attempts.pop_front() else { return };
        let pressure = matches!(&result, Err(error) if error.message == "no descriptors");
        let begun = (!pressure).then(|| {
            let begun = state::begin(self.now.wall, claimed.job.queued_at, claimed.claimed_at);
            (begun, begun.starting_at)
        });
        if begun.is_some() {
            *self.starts.entry(claimed.job.guid).or_default() += 1;
        }
        self.held.remove(&claimed.id.0);
        let starter = claimed.job.lane.starter.clone();
        if &*starter == "run" {
            if result.is_ok() {
                self.running.push_back(starter);
            } else {
                self.feed(Event::RunEnded(starter));
            }
        }
        let backoff = Backoff { min: Duration::from_millis(10), max: Duration::from_secs(1) };
        self.feed(Event::Ended(vec![AttemptEnd { id: claimed.id, begun, result, backoff }]));
    }

    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.limit_queue_a();
    }

    fn narrow(&mut self, narrow: bool) {
        self.narrow = narrow;
        self.feed(Event::MaxInFlight(self.max(MAX_IN_FLIGHT)));
        self.limit_queue_a();
    }

    /// A limit as it is now.
    fn max(&self, wide: usize) -> usize {
        if self.narrow { 1 } else { wide }
    }

    fn limit_queue_a(&mut self) {
        let max_in_flight = Some(self.max(MAX_QUEUE_A));
        let limits = QueueLimits { paused: self.paused, max_in_flight, rate: None };
        self.feed(Event::QueueLimits("a".into(), limits));
    }

    fn wait(&mut self, time: Duration) {
        self.now.wall = self.now.wall.saturating_add(time);
        self.now.elapsed += time;
        self.feed(Event::Tick);
    }

    fn wait_for_wake(&mut self) {
        let wake = self.dispatcher.next_wake(self.now).expect("unfinished jobs and nothing to wait for");
        // Nobody is full or paused and all has been answered: a due job waits only for a pause that
        // followed a failure.
        let pausing = self.dispatcher.store_retry_at.is_some() || self.dispatcher.board.next_wake().is_some();
        let due = now(self.store.due(None, self.now.wall, 1));
        let looks = self.others.is_some();
        assert!(
            looks || pausing || due.is_empty() || !self.has_due(),
            "it is due and nothing holds it up: {due:?}"
        );
        assert!(!looks || wake <= self.now.wall.saturating_add(INTERVAL), "others' jobs are not looked for");
        let time = wake.saturating_since(self.now.wall).max(Duration::from_micros(1));
        self.wait(time);
    }

    fn feed(&mut self, event: Event) {
        let actions = self.dispatcher.handle(self.now, event);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        let failed =
            !matches!(action, Action::Start(_) | Action::Hint) && std::mem::take(&mut self.fail_next);
        let answer = match action {
            Action::Hint => return,
            Action::Queues => Event::QueuesRead(!failed),
            Action::Start(claimed) => {
                self.attempts.push_back(claimed);
                return self.check_places();
            }
            Action::Claim(wanted) if failed => Event::ClaimFailed(ids(&wanted)),
            Action::Claim(wanted) => {
                let verdicts: Vec<_> = wanted.iter().map(|wanted| self.claim(wanted)).collect();
                for verdict in &verdicts {
                    let Verdict::Claimed(claimed) = verdict else { continue };
                    assert!(!(self.paused && &*claimed.job.lane.queue == "a"), "claimed from a paused queue");
                    self.hold(claimed.id.0, claimed.job.lane.clone());
                }
                Event::Claimed { ids: ids(&wanted), verdicts }
            }
            Action::Settle(settlements) if failed => Event::SettleFailed(settlements),
            Action::Settle(settlements) => {
                // Some may have been given back without an attempt.
                settlements.iter().for_each(|settlement| drop(self.held.remove(&settlement.id.0)));
                let verdicts = now(self.store.settle(settlements.clone(), self.now.wall));
                assert!(verdicts.iter().all(|verdict| verdict.applied), "an outcome was lost");
                Event::Settled { settlements, verdicts }
            }
            Action::Due { .. } if failed => Event::Due(None),
            Action::Due { after, until, limit } => {
                Event::Due(Some(now(self.store.due(Some(after), until, limit))))
            }
            Action::Lanes { .. } if failed => Event::Lanes(None),
            Action::Lanes { after, limit } => Event::Lanes(Some(now(self.store.lanes(after, limit)))),
            Action::Ready { lane, limit, .. } if failed => Event::Ready { lane, limit, headers: None },
            Action::Ready { lane, until, limit } => {
                let headers = now(self.store.ready(lane.clone(), until, limit));
                Event::Ready { lane, limit, headers: Some(headers) }
            }
            Action::Expire { .. } if failed => Event::Expired(Err(())),
            Action::Expire { limit } => Event::Expired(Ok(now(self.store.expire(limit, self.now.wall)).next)),
        };
        self.answers.push_back(answer);
    }

    /// A job holds its permits from its claim to the end of its attempt: none takes them while a limit
    /// is reached. (Claims may be ahead of the places at gates.)
    fn hold(&mut self, id: u64, lane: Arc<Lane>) {
        let in_a = &*lane.queue == "a";
        assert!(self.held.insert(id, lane).is_none(), "job {id} is in flight twice");
        assert!(self.held.len() <= self.max(MAX_IN_FLIGHT));
        if in_a {
            assert!(self.held.values().filter(|lane| &*lane.queue == "a").count() <= self.max(MAX_QUEUE_A));
        }
    }

    /// No starter is given more than it may have.
    fn check_places(&self) {
        let lanes = || self.attempts.iter().map(|claimed| &claimed.job.lane);
        let count = |matches: &dyn Fn(&Lane) -> bool| lanes().filter(|lane| matches(lane)).count();
        assert!(count(&|lane| &*lane.starter == "dest") <= MAX_STARTING);
        for host in ["x:1", "y:1"] {
            assert!(count(&|lane| lane.destination.as_deref() == Some(host)) <= MAX_PER_DESTINATION);
        }
        assert!(count(&|lane| &*lane.starter == "run") + self.running.len() <= MAX_RUNNING);
    }
}

fn ids(wanted: &[Wanted]) -> Vec<JobId> {
    wanted.iter().map(|wanted| wanted.id).collect()
}

/// The memory store answers at once.
fn now<T>(answer: StoreFuture<T>) -> T {
    answer.now_or_never().expect("ready").expect("no error")
}
