//! What is told of the engine's work without asking the store: observers, and records of new jobs.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sendoff::{
    ErrorClass, Guid, JobRecord, State,
    ports::{AttemptSeen, Observer, StartErrorClass},
    testing::{Answer, Method, Plan, ScriptedStarter, Why},
};

use super::{HOUR, MILLISECOND, SECOND, flaky, job, job_to, quiet, record};

#[derive(Default)]
struct Seen {
    attempts: Mutex<Vec<Attempt>>,
    calls: Mutex<Vec<(&'static str, Duration, bool)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Attempt {
    to: Option<String>,
    state: State,
    failure: Option<ErrorClass>,
    wait: Option<Duration>,
    took: Option<Duration>,
}

impl Observer for Seen {
    fn attempt_ended(&self, attempt: &AttemptSeen<'_>) {
        let AttemptSeen { lane, state, failure, wait, took, .. } = attempt.clone();
        let to = lane.destination.as_deref().map(str::to_owned);
        self.attempts.lock().unwrap().push(Attempt { to, state, failure, wait, took });
    }

    fn store_answered(&self, call: &'static str, took: Duration, ok: bool) {
        self.calls.lock().unwrap().push((call, took, ok));
    }
}

#[tokio::test(start_paused = true)]
async fn each_attempt_once_with_its_failure_wait_and_time() {
    let starter = ScriptedStarter::by_script(|seen| match (seen.job.n, seen.number) {
        (1, 1) => Plan::error(StartErrorClass::NotStarted),
        (2, _) => Plan::error(StartErrorClass::Permanent).taking(SECOND),
        (3, _) => Plan { answer: Answer::Panic, ..Plan::STARTED },
        (4, _) => Plan::error(StartErrorClass::Pressure).without_begin(),
        _ => Plan::STARTED.taking(3 * SECOND),
    });
    let seen = Arc::new(Seen::default());
    let (scheduler, store) = flaky(&starter, |builder| builder.observer(seen.clone())).await;
    let told = || std::mem::take(&mut *seen.attempts.lock().unwrap());
    let attempt = |state, failure| Attempt { to: None, state, failure, wait: None, took: None };
    let soon = |wait: Option<Duration>| wait.expect("it began") < 5 * MILLISECOND;

    // The outcome is stored at the third try and told once.
    store.fail(Method::Settle, Why::Full, 2);
    let spec = job_to(1, "x:1").max_attempts(2).backoff(MILLISECOND, MILLISECOND);
    scheduler.submit(spec).unwrap().started().await.unwrap();
    let [first, second] = &told()[..] else { panic!("two attempts") };
    assert_eq!((first.state, first.failure), (State::Pending, Some(ErrorClass::NotStarted)));
    assert!(soon(first.wait) && first.took.is_none());
    let started = Attempt { to: Some("x:1".into()), took: Some(3 * SECOND), ..attempt(State::Started, None) };
    assert_eq!(*second, started, "the wait was the first attempt's");

    scheduler.submit(job(2)).unwrap().await.unwrap();
    scheduler.idle().await.unwrap();
    let failed = told().remove(0);
    assert!(soon(failed.wait));
    assert_eq!(Attempt { wait: None, ..failed }, attempt(State::Failed, Some(ErrorClass::Permanent)));

    let spec = job(3).delivery(sendoff::Delivery::AtMostOnce);
    scheduler.submit(spec).unwrap().await.unwrap();
    scheduler.idle().await.unwrap();
    let unknown = told().remove(0);
    assert_eq!((unknown.state, unknown.failure), (State::Unknown, Some(ErrorClass::Ambiguous)));

    let given_back = scheduler.submit(job(4)).unwrap().await.unwrap().guid;
    quiet().await;
    assert_eq!(told()[0], attempt(State::Pending, Some(ErrorClass::Pressure)));
    scheduler.cancel(given_back).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn each_call_of_the_store_with_its_time_and_success() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let seen = Arc::new(Seen::default());
    let (scheduler, store) = flaky(&starter, |builder| builder.observer(seen.clone())).await;
    let first: Vec<_> = seen.calls.lock().unwrap().drain(..).map(|(call, _, ok)| (call, ok)).collect();
    assert_eq!(first, [("lanes", true), ("expire", true), ("due", true)]);
    let held = store.hold(Method::Insert);
    let submission = scheduler.submit(job(1)).unwrap();
    held.reached().await;
    tokio::time::sleep(2 * SECOND).await;
    held.release();
    submission.started().await.unwrap();
    store.fail(Method::Cancel, Why::Full, 1);
    scheduler.cancel(Guid::from_bytes([1; 16])).await.unwrap_err();
    scheduler.set_queue_limits("q", None).await.unwrap();
    let calls = seen.calls.lock().unwrap().clone();
    let (_, took, _) = calls[0];
    assert!(took >= 2 * SECOND && took < 3 * SECOND, "{took:?}");
    let calls: Vec<_> = calls.into_iter().map(|(call, _, ok)| (call, ok)).collect();
    assert_eq!(calls, [("insert", true), ("settle", true), ("cancel", false), ("set_queue", true)]);
}

/// The same but for what only happened after the insert.
fn as_inserted(record: JobRecord) -> JobRecord {
    JobRecord {
        state: State::Starting,
        starting_at: None,
        started_at: None,
        ended_at: None,
        wait_us: None,
        took_us: None,
        receipt: None,
        clock_skew_us: 0,
        ..record
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_jobs_record_is_known_without_reading_it_back() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let (scheduler, _) = flaky(&starter, |builder| builder.submitted_by("me")).await;
    let spec = || job_to(1, "x:1").queue("q").priority(7).label("a", "b \"c\"").expires_in(HOUR);
    let mut later = scheduler.submit(spec().delay(HOUR)).unwrap();
    assert!(later.record().is_none(), "it is not known yet whether it was stored");
    let guid = (&mut later).await.unwrap().guid;
    assert_eq!(later.record(), Some(record(&scheduler, guid).await));

    let mut admitted = scheduler.submit(spec().idempotency_key("k")).unwrap();
    let guid = (&mut admitted).await.unwrap().guid;
    let inserted = admitted.record().unwrap();
    assert_eq!((inserted.state, inserted.attempt, inserted.fence), (State::Starting, 1, 1));
    quiet().await;
    assert_eq!(inserted, as_inserted(record(&scheduler, guid).await));

    let mut again = scheduler.submit(spec().idempotency_key("k")).unwrap();
    assert!(!(&mut again).await.unwrap().created);
    assert!(again.record().is_none());
    let mut conflict = scheduler.submit(job(2).idempotency_key("k")).unwrap();
    assert!((&mut conflict).await.unwrap_err().is_conflict());
    assert!(conflict.record().is_none());
}
