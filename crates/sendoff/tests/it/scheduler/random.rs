//! Random lives of a whole scheduler on SQLite and by the machine's clock, with crashes, clean stops
//! and failures of the store between them; afterwards the invariants hold (`simulation` does the same
//! in memory, and more). A failure prints its seed; `SENDOFF_SEED` plays one seed alone,
//! `SENDOFF_SEEDS` more of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sendoff::{
    Batch, Delivery, ErrorClass, Guid, JobRecord, JobSpec, QueueLimits, Scheduler, State, Timestamp, Verdict,
    ports::{CancelVerdict, Filter, PageRequest, StartErrorClass, Store},
    state::Resolution,
    store::{SqliteOptions, SqliteStore},
    testing::{Answer, FlakyStore, Method, Plan, Scripted, ScriptedStarter, Why},
};

/// What an attempt did, apart from how it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    /// It started, if it came so far.
    Start,
    /// It is not known.
    Perhaps,
    /// It certainly did not.
    Not,
}

/// A store on disk. None only while it is opened again.
struct Kept(Option<Arc<SqliteStore>>, tempfile::TempDir);

impl Kept {
    fn store(&self) -> Arc<dyn Store> {
        self.0.clone().expect("it is open")
    }

    fn open(directory: &tempfile::TempDir) -> Arc<SqliteStore> {
        let options = SqliteOptions { keep_free_bytes: 0, ..SqliteOptions::default() };
        Arc::new(SqliteStore::open(directory.path().join("store.db"), options).expect("it opens"))
    }

    fn crash_and_reopen(&mut self) {
        let crashed = self.0.take().and_then(Arc::into_inner).expect("the runtime is gone");
        crashed.crash();
        self.0 = Some(Self::open(&self.1));
    }
}

/// How long a second of these worlds is.
const SECOND: Duration = Duration::from_millis(4);

struct World {
    kept: Kept,
    random: fastrand::Rng,
    starter: ScriptedStarter,
    did: Arc<Mutex<Vec<Did>>>,
    healed: Arc<AtomicBool>,
    made: u64,
    /// All guids given to jobs, and which were acknowledged.
    guids: Vec<Guid>,
    acknowledged: BTreeSet<Guid>,
    batches: Vec<Vec<Guid>>,
    keys: BTreeMap<u64, Guid>,
    /// How many attempts had begun when a cancel was acknowledged.
    cancelled: BTreeMap<Guid, usize>,
    /// The fence of the attempt for which a cancel came too late: there is no further one.
    late: BTreeMap<Guid, u32>,
    finals: BTreeMap<Guid, State>,
    /// Attempts under way when the process crashed, or given up when it stopped.
    doubts: BTreeMap<Guid, usize>,
    given_up: BTreeSet<(Guid, Timestamp)>,
    resolved: BTreeMap<Guid, usize>,
}

impl World {
    fn new(kept: Kept, seed: u64) -> Self {
        let (did, healed) = (Arc::<Mutex<Vec<Did>>>::default(), Arc::<AtomicBool>::default());
        let script = {
            let (did, healed) = (did.clone(), healed.clone());
            let random = Mutex::new(fastrand::Rng::with_seed(seed ^ 0x5eed));
            move |_: &_| {
                let random = &mut random.lock().unwrap();
                let (what, plan) = plan(random, healed.load(Ordering::Relaxed));
                did.lock().unwrap().push(what);
                plan.taking(SECOND * random.u32(0..50) / 100)
            }
        };
        Self {
            kept,
            random: fastrand::Rng::with_seed(seed),
            starter: ScriptedStarter::by_script(script).max_running(1_000_000),
            did,
            healed,
            made: 0,
            guids: Vec::new(),
            acknowledged: BTreeSet::new(),
            batches: Vec::new(),
            keys: BTreeMap::new(),
            cancelled: BTreeMap::new(),
            late: BTreeMap::new(),
            finals: BTreeMap::new(),
            doubts: BTreeMap::new(),
            given_up: BTreeSet::new(),
            resolved: BTreeMap::new(),
        }
    }

    fn runtime(&self) -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    }

    async fn scheduler(&mut self) -> (Scheduler, Arc<FlakyStore>) {
        let store = Arc::new(FlakyStore::new(self.kept.store()));
        let builder = Scheduler::builder().store(store.clone()).starter(self.starter.clone());
        let builder = builder.max_in_flight(self.random.usize(1..8)).seed(self.random.u64(..));
        (builder.start().await.expect("it starts"), store)
    }

    /// One life of the process, ended by a crash or a clean stop.
    fn live(&mut self) {
        let runtime = self.runtime();
        let stopped = runtime.block_on(async {
            let (scheduler, store) = self.scheduler().await;
            for _ in 0..self.random.usize(1..25) {
                self.step(&scheduler, &store).await;
            }
            let stopped = self.random.u8(..3) == 0;
            if stopped {
                let report = scheduler.shutdown(SECOND * self.random.u32(0..3)).await.expect("no error");
                assert_eq!(report.unsettled, 0);
            }
            stopped
        });
        // Everything that ran ends here, wherever it was.
        drop(runtime);
        self.kept.crash_and_reopen();
        let records = self.runtime().block_on(records(&*self.kept.store()));
        for record in records.values() {
            if record.state == State::Starting {
                assert!(!stopped, "a clean stop leaves nothing starting");
                *self.doubts.entry(record.guid).or_default() += 1;
            }
            if let Some(error) =
                record.last_error.as_ref().filter(|error| error.message.contains("stopped before"))
                && self.given_up.insert((record.guid, error.at))
            {
                *self.doubts.entry(record.guid).or_default() += 1;
            }
        }
        self.check(&records);
    }

    async fn step(&mut self, scheduler: &Scheduler, store: &FlakyStore) {
        match self.random.u8(..20) {
            0..=3 => {
                let spec = self.spec();
                let guid = spec.guid.expect("given");
                if let Ok(accepted) = scheduler.submit(spec).expect("room").await {
                    assert_eq!((accepted.guid, accepted.created), (guid, true));
                    self.acknowledged.insert(guid);
                }
            }
            // Nobody waits for it: a crash may come first.
            4 | 5 => drop(scheduler.submit(self.spec()).expect("room")),
            6 | 7 => self.batch(scheduler).await,
            8 => {
                let key = self.random.u64(..3);
                let content = Scripted { n: 1_000_000 + key, to: None };
                let spec = JobSpec::new(&content).idempotency_key(key.to_string());
                if let Ok(accepted) = scheduler.submit(spec).expect("room").await {
                    let first = *self.keys.entry(key).or_insert(accepted.guid);
                    assert_eq!(accepted.guid, first, "I10");
                    self.acknowledged.insert(first);
                }
            }
            9 | 10 => self.cancel(scheduler).await,
            11 => {
                // Submitted and cancelled in one breath.
                let submission = scheduler.submit(self.spec()).expect("room");
                let guid = submission.guid();
                let (accepted, verdict) = tokio::join!(submission, scheduler.cancel(guid));
                if accepted.is_ok() {
                    self.acknowledged.insert(guid);
                    self.note_cancel(guid, verdict.expect("no error"));
                }
            }
            12 => {
                if let Some(guid) = self.pick() {
                    let changed = if self.random.bool() {
                        scheduler.start_now(guid).await
                    } else {
                        let later = SECOND * self.random.u32(0..5);
                        scheduler.reschedule(guid, now(scheduler, guid).await.saturating_add(later)).await
                    };
                    changed.expect("no error");
                }
            }
            13 => {
                let filter = Filter { state: Some(State::Unknown), ..Filter::default() };
                let unknown = scheduler.list(filter, PageRequest::default()).await.expect("no error").records;
                if let Some(record) = unknown.first() {
                    let to = [Resolution::Started, Resolution::Failed, Resolution::Pending];
                    let to = to[self.random.usize(..3)];
                    if scheduler
                        .resolve_unknown(record.guid, to)
                        .await
                        .expect("no error")
                        .expect("there")
                        .applied
                    {
                        *self.resolved.entry(record.guid).or_default() += 1;
                        self.finals.remove(&record.guid);
                    }
                }
            }
            14 => {
                let max_in_flight = self.random.bool().then(|| self.random.usize(1..3));
                let limits = QueueLimits { max_in_flight, paused: self.random.bool(), rate: None };
                scheduler
                    .set_queue_limits(["a", "b"][self.random.usize(..2)], Some(limits))
                    .await
                    .expect("it is open");
                scheduler.set_max_in_flight(self.random.usize(1..5)).expect("it is open");
            }
            15 => {
                let methods = [
                    Method::Insert,
                    Method::Claim,
                    Method::Settle,
                    Method::Due,
                    Method::Ready,
                    Method::Lanes,
                    Method::Expire,
                ];
                let why = [Why::Full, Why::Unusable][self.random.usize(..2)];
                store.fail(methods[self.random.usize(..7)], why, self.random.usize(1..3));
            }
            _ => tokio::time::sleep(SECOND * self.random.u32(0..300) / 100).await,
        }
    }

    fn spec(&mut self) -> JobSpec {
        self.made += 1;
        let to = [None, Some("x:1"), Some("y:1")][self.random.usize(..3)].map(Into::into);
        let guid = Guid::from_bytes(self.random.u128(..).to_be_bytes());
        self.guids.push(guid);
        let mut spec = JobSpec::new(&Scripted { n: self.made, to })
            .guid(guid)
            .queue(["a", "b", "c"][self.random.usize(..3)])
            .priority(self.random.u8(..3))
            .max_attempts(self.random.u32(1..5))
            .backoff(SECOND / 50, SECOND);
        if self.random.bool() {
            spec = spec.delay(SECOND * self.random.u32(0..300) / 100);
        }
        if self.random.bool() {
            spec = spec.delivery(Delivery::AtMostOnce);
        }
        if self.random.u8(..4) == 0 {
            spec = spec.expires_in(SECOND * self.random.u32(1..300) / 100);
        }
        spec
    }

    async fn batch(&mut self, scheduler: &Scheduler) {
        let mut specs: Vec<_> = (0..self.random.usize(1..7)).map(|_| self.spec()).collect();
        let guids: Vec<_> = specs.iter().map(|spec| spec.guid.expect("given")).collect();
        if self.random.bool() {
            let verdicts = scheduler.submit_batch(Batch::itemised(specs)).await;
            let created =
                verdicts.into_iter().flatten().filter(|verdict| matches!(verdict, Verdict::Created(_)));
            self.acknowledged.extend(created.filter_map(|verdict| verdict.guid()));
            return;
        }
        let conflicts = self.random.u8(..4) == 0;
        if conflicts {
            // One that names another content under a guid of the same batch.
            specs.push(JobSpec::new(&Scripted { n: 0, to: None }).guid(guids[0]));
        }
        self.batches.push(guids.clone());
        if self.random.u8(..4) == 0 {
            // Asked for, and the answer not waited for.
            let asked = scheduler.submit_batch(Batch::atomic(specs));
            let _ = tokio::time::timeout(Duration::ZERO, asked).await;
            return;
        }
        match scheduler.submit_batch(Batch::atomic(specs)).await {
            Ok(_) => {
                assert!(!conflicts);
                self.acknowledged.extend(guids);
            }
            Err(err) => {
                assert!(conflicts && err.is_conflict() || err.is_full() || err.is_unusable(), "{err}")
            }
        }
    }

    fn pick(&mut self) -> Option<Guid> {
        let guids = &self.guids[self.guids.len().saturating_sub(12)..];
        self.random.choice(guids).copied()
    }

    async fn cancel(&mut self, scheduler: &Scheduler) {
        let Some(guid) = self.pick() else { return };
        let verdict = scheduler.cancel(guid).await.expect("no error");
        if !self.acknowledged.contains(&guid) && verdict == CancelVerdict::NotFound {
            return;
        }
        self.note_cancel(guid, verdict);
    }

    fn note_cancel(&mut self, guid: Guid, verdict: CancelVerdict) {
        match verdict {
            CancelVerdict::Cancelled { .. } => {
                let begun = self.starter.begun(guid);
                self.cancelled.entry(guid).or_insert(begun);
            }
            CancelVerdict::TooLate(record) => {
                assert!(record.state == State::Starting || record.state.is_final(), "I6");
                self.late.entry(guid).or_insert(record.fence);
            }
            CancelVerdict::NotFound => panic!("I1: {guid} is not found"),
        }
    }

    /// What holds at any time.
    fn check(&mut self, records: &BTreeMap<Guid, JobRecord>) {
        for guid in &self.acknowledged {
            assert!(records.contains_key(guid), "I1: {guid} is gone");
        }
        for batch in &self.batches {
            let there = batch.iter().filter(|guid| records.contains_key(guid)).count();
            assert!(there == 0 || there == batch.len(), "I14: {there} of {batch:?}");
        }
        for (guid, state) in &self.finals {
            assert_eq!(records[guid].state, *state, "I9: {guid}");
        }
        for (guid, begun) in &self.cancelled {
            assert_eq!(
                (records[guid].state, self.starter.begun(*guid)),
                (State::Cancelled, *begun),
                "I5: {guid}"
            );
        }
        for (guid, fence) in self.late.iter().filter(|(guid, _)| !self.resolved.contains_key(guid)) {
            assert_eq!(records[guid].fence, *fence, "T8: {guid} was tried again after a cancel");
        }
        for record in records.values() {
            self.check_one(record);
            if record.state.is_final() {
                self.finals.insert(record.guid, record.state);
            }
        }
    }

    fn check_one(&self, record: &JobRecord) {
        let guid = record.guid;
        let did = self.did.lock().unwrap();
        let attempts: Vec<_> = self.starter.seen().into_iter().zip(did.iter().copied()).collect();
        let mine = || attempts.iter().filter(|(seen, _)| seen.guid == guid);
        let starts = mine().filter(|(seen, did)| seen.begun.is_some() && *did != Did::Not).count();
        let perhaps = mine().filter(|(_, did)| *did == Did::Perhaps).count();
        let doubts = self.doubts.get(&guid).copied().unwrap_or(0);
        let resolved = self.resolved.get(&guid).copied().unwrap_or(0);
        let what =
            || format!("{record:#?}\n{:?}\ndoubts {doubts}, resolved {resolved}", mine().collect::<Vec<_>>());
        if record.delivery == Delivery::AtMostOnce {
            assert!(starts <= 1 + resolved, "I3: {}", what());
        }
        assert!(starts <= 1 + perhaps + doubts + resolved, "I2, I12: {}", what());
        assert!(
            starts <= 1 || record.possible_duplicate || record.state == State::Starting,
            "I12: {}",
            what()
        );
        match record.state {
            State::Started => assert!(starts >= 1 || resolved > 0, "{}", what()),
            State::Unknown => assert!(perhaps + doubts > 0, "I17: {}", what()),
            State::Expired => assert!(starts == 0, "{}", what()),
            State::Failed => {
                assert!(record.last_error.is_some() || record.expires_at.is_some(), "{}", what())
            }
            _ => {}
        }
        if let Some(starting_at) = record.starting_at {
            assert!(record.queued_at < starting_at, "I7: {}", what());
            assert!(record.started_at.is_none_or(|started_at| starting_at <= started_at), "I7: {}", what());
            assert!(record.expires_at.is_none_or(|at| starting_at < at), "I8: {}", what());
            if record.state == State::Started && resolved == 0 {
                assert!(record.run_at <= starting_at, "I7: {}", what());
            }
        }
        if record.state == State::Failed
            && record.last_error.as_ref().is_some_and(|e| e.class == ErrorClass::Poison)
        {
            assert!(doubts >= 3, "{}", what());
        }
    }

    /// No more faults: everything comes to its end.
    fn heal(&mut self) {
        self.healed.store(true, Ordering::Relaxed);
        let runtime = self.runtime();
        runtime.block_on(async {
            let (scheduler, store) = self.scheduler().await;
            // What an operator sets lasts.
            for queue in ["a", "b"] {
                scheduler.set_queue_limits(queue, None).await.expect("it is open");
            }
            let idle = tokio::time::timeout(Duration::from_secs(60), scheduler.idle()).await;
            idle.unwrap_or_else(|_| panic!("I13: jobs are left over")).expect("no error");
            let records = records(&*store).await;
            self.check(&records);
            let counts = scheduler.counts().await.expect("no error");
            for state in State::ALL {
                let counted = records.values().filter(|record| record.state == state).count() as u64;
                assert_eq!(counts.total(state), counted, "{state}");
            }
            assert_eq!(scheduler.shutdown(Duration::ZERO).await.expect("no error").abandoned, 0);
        });
    }
}

/// One attempt's fate.
fn plan(random: &mut fastrand::Rng, healed: bool) -> (Did, Plan) {
    let hang = Plan { answer: Answer::Hang, ..Plan::STARTED };
    match if healed { 0 } else { random.u8(..16) } {
        0..=6 => (Did::Start, Plan::STARTED),
        7 | 8 => (Did::Not, Plan::error(StartErrorClass::NotStarted)),
        9 | 10 => (Did::Perhaps, Plan::error(StartErrorClass::Ambiguous)),
        11 => (Did::Not, Plan::error(StartErrorClass::Permanent)),
        12 => (Did::Not, Plan::error(StartErrorClass::Pressure).without_begin()),
        13 => (Did::Perhaps, Plan { answer: Answer::Panic, ..Plan::STARTED }),
        // By the machine's clock it hangs until the process ends: nothing is told of it but that.
        14 => (Did::Start, hang),
        _ => (Did::Perhaps, Plan { answer: Answer::PanicAtOnce, ..Plan::STARTED }),
    }
}

/// About now.
async fn now(scheduler: &Scheduler, guid: Guid) -> Timestamp {
    let record = scheduler.get(guid).await.expect("no error");
    record.map_or_else(super::wall, |record| record.queued_at)
}

async fn records(store: &dyn Store) -> BTreeMap<Guid, JobRecord> {
    let page = PageRequest { limit: 100_000, row_budget: 1_000_000, ..PageRequest::default() };
    let page = store.list(Filter::default(), page).await.expect("no error");
    assert!(page.next.is_none());
    page.records.into_iter().map(|record| (record.guid, record)).collect()
}

fn play(seeds: u64, make: impl Fn() -> Kept) {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("SENDOFF_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SENDOFF_SEEDS").unwrap_or(seeds),
    };
    for seed in seeds {
        let played = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            let mut world = World::new(make(), seed);
            for _ in 0..world.random.usize(1..6) {
                world.live();
            }
            world.heal();
        }));
        if let Err(cause) = played {
            eprintln!("SENDOFF_SEED={seed} plays this again");
            panic::resume_unwind(cause);
        }
    }
}

#[test]
fn lives_on_sqlite() {
    play(12, || {
        let directory =
            tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        Kept(Some(Kept::open(&directory)), directory)
    });
}
