//! Attempts that are made together, in one call of their starter or side by side in one task: each has
//! its own end all the same.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use sendoff::{
    Batch, Delivery, ErrorClass, Grant, JobRecord, JobSpec, Receipt, Scheduler, ShutdownReport, State,
    ports::{
        Answers, Attempt, Checked, Filter, PageRequest, Refusal, StartError, StartErrorClass, StartFuture,
        StartMany, Starter, StarterDefaults, Store,
    },
    starter::{Simulated, SimulatedStarter},
    store::MemoryStore,
    testing::{Answer, Plan, ScriptedStarter},
    time::TokioClock,
};
use serde_json::value::RawValue;

use super::{HOUR, SECOND, job, quiet, wall};

/// What a stream of answers makes of those of the starter within.
type Change = fn(Answers<'_>) -> Answers<'_>;

/// Starts in one stream what the scripted starter starts one by one. Its panics are the stream's.
#[derive(Clone)]
struct Together {
    each: ScriptedStarter,
    change: Change,
    /// How many attempts each call was given.
    calls: Arc<Mutex<Vec<usize>>>,
}

impl Together {
    fn new(each: &ScriptedStarter) -> Self {
        Self { each: each.clone(), change: |answers| answers, calls: Arc::default() }
    }
}

impl Starter for Together {
    fn name(&self) -> &str {
        self.each.name()
    }

    fn defaults(&self) -> StarterDefaults {
        self.each.defaults()
    }

    fn check(&self, payload: &RawValue, grant: Option<&Grant>) -> Result<Checked, Refusal> {
        self.each.check(payload, grant)
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        self.each.start(attempt)
    }

    fn many(&self) -> Option<&dyn StartMany> {
        Some(self)
    }
}

impl StartMany for Together {
    fn start_many(&self, attempts: Vec<Attempt>) -> Answers<'_> {
        self.calls.lock().unwrap().push(attempts.len());
        let starts = attempts.into_iter().enumerate().map(|(place, attempt)| {
            let start = self.each.start(attempt);
            async move { (place, start.await) }
        });
        (self.change)(starts.collect::<FuturesUnordered<_>>().ready_chunks(8).boxed())
    }
}

async fn on(store: &Arc<MemoryStore>, starter: impl Starter) -> Scheduler {
    let builder = Scheduler::builder().store(store.clone()).starter(starter).seed(1);
    let scheduler = builder.clock(TokioClock::starting_at(wall())).start().await.unwrap();
    quiet().await;
    scheduler
}

async fn submit(scheduler: &Scheduler, specs: impl IntoIterator<Item = JobSpec>) {
    scheduler.submit_batch(Batch::atomic(specs.into_iter().collect())).await.unwrap();
}

async fn records(store: &MemoryStore) -> Vec<JobRecord> {
    let all = PageRequest { limit: 1_000, ..PageRequest::default() };
    store.list(Filter::default(), all).await.unwrap().records
}

fn states(records: &[JobRecord]) -> Vec<State> {
    records.iter().map(|record| record.state).collect()
}

/// Plays these jobs, submitted at once, to their ends.
async fn play(together: &Together, specs: impl IntoIterator<Item = JobSpec>) -> Vec<JobRecord> {
    let store = Arc::new(MemoryStore::new());
    let scheduler = on(&store, together.clone()).await;
    submit(&scheduler, specs).await;
    scheduler.idle().await.unwrap();
    records(&store).await
}

fn at_most_once(n: u64) -> JobSpec {
    job(n).delivery(Delivery::AtMostOnce)
}

#[tokio::test(start_paused = true)]
async fn each_attempt_ends_by_itself() {
    let each = ScriptedStarter::by_script(|seen| match seen.job.n {
        3 => Plan::error(StartErrorClass::Permanent),
        4 if seen.number == 1 => Plan::error(StartErrorClass::NotStarted).taking(SECOND),
        n => Plan::STARTED.taking(Duration::from_secs(n)),
    });
    let together = Together::new(&each);
    let ended = play(&together, (0..5).map(job)).await;
    use State::{Failed, Started};
    assert_eq!(states(&ended), [Started, Started, Started, Failed, Started]);
    let took: Vec<_> = ended.iter().map(|record| record.took_us.unwrap_or(0)).collect();
    assert_eq!(took, [0, 1_000_000, 2_000_000, 0, 4_000_000]);
    assert_eq!(ended[4].attempt, 2);
    assert_eq!(*together.calls.lock().unwrap(), [5], "the one that was tried again came alone");
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_handed_over_in_calls_of_bounded_size() {
    let each = ScriptedStarter::by_script(|_| Plan::STARTED.taking(SECOND));
    let together = Together::new(&each);
    let ended = play(&together, (0..600).map(job)).await;
    assert!(ended.iter().all(|record| record.state == State::Started && record.attempt == 1));
    let mut calls = together.calls.lock().unwrap().clone();
    calls.sort_unstable();
    assert_eq!(calls, [88, 256, 256]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_leaves_in_doubt_what_was_not_answered() {
    let each = ScriptedStarter::by_script(|seen| match seen.job.n {
        0 => Plan::STARTED,
        1 => Plan { answer: Answer::Panic, ..Plan::STARTED }.taking(SECOND),
        _ => Plan { answer: Answer::Hang, ..Plan::STARTED },
    });
    let ended = play(&Together::new(&each), (0..3).map(at_most_once)).await;
    assert_eq!(states(&ended), [State::Started, State::Unknown, State::Unknown]);
    for record in &ended[1..] {
        let error = record.last_error.as_ref().unwrap();
        assert_eq!(error.class, ErrorClass::Ambiguous);
        assert!(error.message.contains("panicked"), "{}", error.message);
    }

    let each = ScriptedStarter::by_script(|_| Plan { answer: Answer::PanicAtOnce, ..Plan::STARTED });
    let ended = play(&Together::new(&each), (0..3).map(at_most_once)).await;
    assert_eq!(states(&ended), [State::Unknown; 3], "before there was a stream");

    let each = ScriptedStarter::by_script(|seen| match (seen.job.n, seen.number) {
        (1, 1) => Plan { answer: Answer::Panic, ..Plan::STARTED },
        _ => Plan::STARTED.taking(SECOND),
    });
    let ended = play(&Together::new(&each), (0..3).map(job)).await;
    assert_eq!(states(&ended), [State::Started; 3]);
    assert!(ended.iter().all(|record| record.possible_duplicate && record.attempt == 2));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_its_own_timeout() {
    // The first begins and hangs, the second never begins, the third answers in time.
    let each = ScriptedStarter::by_script(|seen| match seen.job.n {
        0 => Plan { answer: Answer::Hang, ..Plan::STARTED },
        1 => Plan { answer: Answer::Hang, begin: false, ..Plan::STARTED },
        _ => Plan::STARTED.taking(5 * SECOND),
    });
    let timeouts = [2 * SECOND, SECOND, 10 * SECOND];
    let specs =
        || (0..3).zip(timeouts).map(|(n, timeout)| at_most_once(n).max_attempts(1).start_timeout(timeout));
    let ended = play(&Together::new(&each), specs()).await;
    assert_eq!(states(&ended), [State::Unknown, State::Failed, State::Started]);
    let error = |n: usize| ended[n].last_error.clone().unwrap();
    assert_eq!((error(0).class, &*error(0).message), (ErrorClass::Ambiguous, "no answer within 2s"));
    assert_eq!(
        (error(1).class, &*error(1).message),
        (ErrorClass::NotStarted, "it could not begin within 1s")
    );
    assert_eq!(error(0).at.micros_since(error(1).at), 1_000_000);

    // What comes after its time does not count.
    let each = ScriptedStarter::by_script(|_| Plan::STARTED.taking(5 * SECOND));
    let ended = play(&Together::new(&each), specs()).await;
    assert_eq!(states(&ended), [State::Unknown, State::Unknown, State::Started]);

    // Where starts may not be dropped midway the answer is waited for, however long it takes.
    let each = each.with(|defaults| defaults.abandonable = false);
    let ended = play(&Together::new(&each), specs()).await;
    assert_eq!(states(&ended), [State::Started; 3]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_missing_or_too_many() {
    let each = ScriptedStarter::by_script(|_| Plan::STARTED);
    let cut = Together { change: |answers| answers.map(|_| Vec::new()).boxed(), ..Together::new(&each) };
    let ended = play(&cut, (0..3).map(at_most_once)).await;
    assert_eq!(states(&ended), [State::Unknown; 3]);
    assert!(ended[0].last_error.as_ref().unwrap().message.contains("no answer"));

    let doubled: Change = |answers| {
        let double = |mut answers: Vec<(usize, Result<Receipt, StartError>)>| {
            answers.extend(answers.clone());
            answers.push((17, answers[0].1.clone()));
            answers
        };
        answers.map(double).boxed()
    };
    let ended = play(&Together { change: doubled, ..Together::new(&each) }, (0..3).map(at_most_once)).await;
    assert_eq!(states(&ended), [State::Started; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_back_what_has_not_begun_and_drops_the_rest_at_its_end() {
    for (abandonable, one_call) in [(true, true), (false, true), (true, false), (false, false)] {
        // Begins, and answers: 0 at once, 1 after 5 s, 2 never; 3 never begins.
        let each = ScriptedStarter::by_script(|seen| match seen.job.n {
            0 => Plan::STARTED,
            1 => Plan::STARTED.taking(5 * SECOND),
            2 => Plan { answer: Answer::Hang, ..Plan::STARTED },
            _ => Plan { answer: Answer::Hang, begin: false, ..Plan::STARTED },
        });
        let each = each.with(|defaults| defaults.abandonable = abandonable);
        let store = Arc::new(MemoryStore::new());
        let scheduler = if one_call {
            on(&store, Together::new(&each)).await
        } else {
            on(&store, side_by_side(each)).await
        };
        submit(&scheduler, (0..4).map(|n| at_most_once(n).start_timeout(HOUR))).await;
        quiet().await;
        let report = scheduler.shutdown(10 * SECOND).await.unwrap();
        assert_eq!(report, ShutdownReport { released: 1, abandoned: 1, unsettled: 0 });
        let ended = records(&store.crash_and_reopen()).await;
        assert_eq!(states(&ended), [State::Started, State::Started, State::Unknown, State::Pending]);
        assert_eq!(ended[3].attempt, 0, "given back");
    }
}

/// The same starter's attempts, made one by one in one task.
fn side_by_side(each: ScriptedStarter) -> ScriptedStarter {
    each.with(|defaults| defaults.nonblocking = true)
}

#[tokio::test(start_paused = true)]
async fn side_by_side_each_attempt_ends_by_itself() {
    let each = ScriptedStarter::by_script(|seen| match seen.job.n {
        // Panics before there is a future, when polled first, and later.
        100 => Plan { answer: Answer::PanicAtOnce, ..Plan::STARTED },
        101 => Plan { answer: Answer::Panic, ..Plan::STARTED },
        102 => Plan { answer: Answer::Panic, ..Plan::STARTED }.taking(SECOND),
        103 => Plan::error(StartErrorClass::Permanent),
        n => Plan::STARTED.taking(Duration::from_secs(n % 7)),
    });
    let store = Arc::new(MemoryStore::new());
    let scheduler = on(&store, side_by_side(each)).await;
    submit(&scheduler, (0..110).map(at_most_once)).await;
    scheduler.idle().await.unwrap();
    for (n, record) in (0..).zip(records(&store).await) {
        let state = match n {
            100..=102 => State::Unknown,
            103 => State::Failed,
            _ => State::Started,
        };
        assert_eq!((record.state, record.attempt), (state, 1), "{n}");
        if n < 100 {
            assert_eq!(record.took_us, Some(n % 7 * 1_000_000), "{n}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn side_by_side_a_late_attempt_is_dropped_alone() {
    // The first begins and hangs, the second never begins, the third panics as it is dropped, the
    // fourth answers in time.
    let dropped = Arc::new(Mutex::new(Vec::new()));
    let starter = Droppy(dropped.clone());
    let store = Arc::new(MemoryStore::new());
    let scheduler = on(&store, starter).await;
    let timeouts = [2 * SECOND, SECOND, 3 * SECOND, 10 * SECOND];
    let specs =
        (0..4).zip(timeouts).map(|(n, timeout)| at_most_once(n).max_attempts(1).start_timeout(timeout));
    submit(&scheduler, specs).await;
    scheduler.idle().await.unwrap();
    let ended = records(&store).await;
    assert_eq!(states(&ended), [State::Unknown, State::Failed, State::Unknown, State::Started]);
    let error = |n: usize| ended[n].last_error.clone().unwrap().message;
    assert_eq!(error(0), "no answer within 2s");
    assert_eq!(error(1), "it could not begin within 1s");
    assert!(error(2).contains("panicked"), "{}", error(2));
    assert_eq!(*dropped.lock().unwrap(), [1, 0, 2, 3], "each in its time");
}

/// Attempts of jobs 0 to 2 hang, 1 before it begins; 2 panics as it is dropped; others take 5 s.
struct Droppy(Arc<Mutex<Vec<u64>>>);

/// Notes that it is dropped.
struct Noted(Arc<Mutex<Vec<u64>>>, u64);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(self.1);
        if self.1 == 2 {
            std::panic::resume_unwind(Box::new("as it is dropped"));
        }
    }
}

impl Starter for Droppy {
    fn name(&self) -> &str {
        "scripted"
    }

    fn defaults(&self) -> StarterDefaults {
        StarterDefaults { nonblocking: true, ..StarterDefaults::default() }
    }

    fn check(&self, _: &RawValue, _: Option<&Grant>) -> Result<Checked, Refusal> {
        Ok(Checked::default())
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        let payload: serde_json::Value = serde_json::from_str(attempt.payload.get()).unwrap();
        let n = payload["n"].as_u64().unwrap();
        let noted = Noted(self.0.clone(), n);
        async move {
            let _noted = noted;
            if n != 1 {
                attempt.begin()?;
            }
            match n {
                0..=2 => std::future::pending().await,
                _ => tokio::time::sleep(5 * SECOND).await,
            }
            Ok(Receipt::default())
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn simulated_starts_take_their_time_together() {
    let store = Arc::new(MemoryStore::new());
    let scheduler = on(&store, SimulatedStarter).await;
    let delays = [300, 0, 100, 200, 100].map(Duration::from_millis);
    submit(&scheduler, delays.map(|delay| JobSpec::new(&Simulated::new(delay)))).await;
    scheduler.idle().await.unwrap();
    let took = records(&store).await.into_iter().map(|record| record.took_us.unwrap());
    assert_eq!(took.collect::<Vec<_>>(), [300_000, 0, 100_000, 200_000, 100_000]);
}
