//! The five behaviours that everything goes back to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sendoff::{
    Batch, Error, JobSpec, NotStarted, Scheduler, State,
    ports::{CancelVerdict, Filter, PageRequest, Store},
    starter::{Call, HandlerStarter, Simulated, SimulatedStarter},
    store::MemoryStore,
    time::{Timestamp, TokioClock},
};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

fn wall() -> Timestamp {
    "2026-11-23T00:00:00Z".parse().unwrap()
}

/// On tokio's clock, which these tests pause: an hour takes no time.
async fn scheduler() -> Scheduler {
    let builder = Scheduler::builder().store(Arc::new(MemoryStore::new())).starter(SimulatedStarter);
    builder.clock(TokioClock::starting_at(wall())).max_in_flight(1_000_000).start().await.unwrap()
}

fn simulated(delay: Duration) -> JobSpec {
    JobSpec::new(&Simulated::new(delay))
}

#[tokio::test(start_paused = true)]
async fn one_job_with_an_intrinsic_delay_leaves_a_record() {
    let scheduler = scheduler().await;
    let submission = scheduler.submit(simulated(MILLISECOND)).unwrap();
    let guid = submission.guid();
    let record = submission.started().await.unwrap();
    assert_eq!((record.guid, record.state), (guid, State::Started));
    let started_at = record.started_at.unwrap();
    assert!(record.queued_at < record.starting_at.unwrap());
    assert!(record.queued_at < started_at);
    assert!(started_at.saturating_since(record.queued_at) >= MILLISECOND);
    assert_eq!(record.took_us, Some(1_000));
}

#[tokio::test]
async fn the_order_of_stamps_survives_a_wall_clock_that_steps_back() {
    /// A wall clock that goes back by a second each time it is read.
    struct Backwards(AtomicUsize);
    impl sendoff::time::Clock for Backwards {
        fn now(&self) -> Timestamp {
            let reads = self.0.fetch_add(1, Ordering::Relaxed) as i64;
            Timestamp::from_micros(wall().as_micros() - reads * 1_000_000).unwrap()
        }
        fn elapsed(&self) -> Duration {
            sendoff::time::SystemClock.elapsed()
        }
        fn timer(&self) -> std::io::Result<Box<dyn sendoff::time::Timer>> {
            sendoff::time::SystemClock.timer()
        }
    }
    let builder = Scheduler::builder().store(Arc::new(MemoryStore::new())).starter(SimulatedStarter);
    let scheduler = builder.clock(Backwards(AtomicUsize::new(0))).start().await.unwrap();
    let past = Timestamp::from_micros(0).unwrap();
    let record = scheduler.submit(simulated(MILLISECOND).run_at(past)).unwrap().started().await.unwrap();
    assert!(record.queued_at < record.starting_at.unwrap());
    assert!(record.starting_at.unwrap() <= record.started_at.unwrap());
    assert!(record.clock_skew_us > 0);
}

#[tokio::test(start_paused = true)]
async fn who_awaits_a_cancelled_job_is_told_at_once() {
    let scheduler = scheduler().await;
    let begin = tokio::time::Instant::now();
    let submission = scheduler.submit(simulated(MILLISECOND).delay(HOUR)).unwrap();
    let guid = submission.guid();
    let (started, cancelled) = tokio::join!(submission.started(), scheduler.cancel(guid));
    match cancelled.unwrap() {
        CancelVerdict::Cancelled { record, .. } => assert!(!record.possible_duplicate),
        other => panic!("{other:?}"),
    }
    match started {
        Err(NotStarted::Cancelled(record)) => {
            assert_eq!((record.guid, record.state), (guid, State::Cancelled))
        }
        other => panic!("{other:?}"),
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "not after an hour");
    // And it stays cancelled when its hour has come.
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(scheduler.get(guid).await.unwrap().unwrap().state, State::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn ten_starts_at_once_take_one_delay_and_keep_their_order() {
    let scheduler = scheduler().await;
    let delay = Duration::from_millis(100);
    let begin = tokio::time::Instant::now();
    let submissions: Vec<_> = (0..10).map(|_| scheduler.submit(simulated(delay)).unwrap()).collect();
    let guids: Vec<_> = submissions.iter().map(|submission| submission.guid()).collect();
    let records =
        futures_util::future::try_join_all(submissions.into_iter().map(|s| s.started())).await.unwrap();
    assert!(begin.elapsed() < 2 * delay, "{:?}", begin.elapsed());
    assert_eq!(records.iter().map(|record| record.guid).collect::<Vec<_>>(), guids);
    for record in records {
        assert!(record.queued_at < record.starting_at.unwrap() && record.starting_at < record.started_at);
        assert_eq!((record.state, record.attempt), (State::Started, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_job_starts_all_the_same() {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = calls.clone();
    let handlers = HandlerStarter::new().handler("count", move |_, by: usize| {
        counter.fetch_add(by, Ordering::Relaxed);
        std::future::ready(Ok(()))
    });
    let builder = Scheduler::builder().store(Arc::new(MemoryStore::new())).starter(handlers);
    let scheduler = builder.clock(TokioClock::starting_at(wall())).start().await.unwrap();
    let call = Call::new("count", &7).unwrap();
    drop(scheduler.submit(JobSpec::new(&call)).unwrap());
    drop(scheduler.submit(JobSpec::new(&call).delay(HOUR)).unwrap());
    scheduler.idle().await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 14);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_starts_are_in_their_time_at_once() {
    let scheduler = scheduler().await;
    let delay = Duration::from_secs(60);
    let begin = tokio::time::Instant::now();
    let specs = (0..100_000).map(|_| simulated(delay).start_timeout(2 * delay)).collect();
    let verdicts = scheduler.submit_batch(Batch::itemised(specs)).await.unwrap();
    assert_eq!(verdicts.iter().filter(|verdict| verdict.guid().is_some()).count(), 100_000);
    tokio::time::sleep(delay / 2).await;
    assert_eq!(scheduler.counts().await.unwrap().total(State::Starting), 100_000);
    scheduler.idle().await.unwrap();
    assert!(begin.elapsed() < 2 * delay, "{:?}", begin.elapsed());
    assert_eq!(scheduler.counts().await.unwrap().total(State::Started), 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_delay_of_three_years_is_a_delay_like_any_other() {
    let scheduler = scheduler().await;
    let years = Duration::from_secs(3 * 365 * 86_400);
    let begin = tokio::time::Instant::now();
    let record = scheduler.submit(simulated(MILLISECOND).delay(years)).unwrap().started().await.unwrap();
    assert!(begin.elapsed() >= years);
    assert!(record.starting_at.unwrap() >= record.run_at);
    assert!(record.wait_us.unwrap() < 10_000, "{record:?}");
}

#[tokio::test(start_paused = true)]
async fn a_full_inbox_is_busy_and_nothing_is_lost() {
    let scheduler = scheduler().await;
    let mut submissions = Vec::new();
    // Nothing is taken out of the inbox as long as this task does not yield.
    let err: Error = loop {
        match scheduler.submit(simulated(MILLISECOND)) {
            Ok(submission) => submissions.push(submission),
            Err(err) => break err,
        }
    };
    assert!(err.is_busy(), "{err}");
    let accepted = submissions.len();
    assert!(accepted >= 10_000);
    futures_util::future::try_join_all(submissions).await.unwrap();
    scheduler.idle().await.unwrap();
    assert_eq!(scheduler.counts().await.unwrap().total(State::Started), accepted as u64);
    assert!(scheduler.submit(simulated(MILLISECOND)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_gives_back_what_waits_and_settles_what_runs() {
    let store = Arc::new(MemoryStore::new());
    let builder = || Scheduler::builder().store(store.clone()).starter(SimulatedStarter);
    let scheduler = builder().clock(TokioClock::starting_at(wall())).start().await.unwrap();
    let soon = scheduler.submit(simulated(Duration::from_secs(1))).unwrap().await.unwrap();
    let stuck = scheduler.submit(simulated(HOUR).start_timeout(2 * HOUR)).unwrap().await.unwrap();
    let later = scheduler.submit(simulated(MILLISECOND).delay(HOUR)).unwrap().await.unwrap();
    tokio::time::sleep(MILLISECOND).await;
    let report = scheduler.shutdown(Duration::from_secs(10)).await.unwrap();
    assert_eq!((report.abandoned, report.unsettled), (1, 0), "{report:?}");
    assert!(scheduler.submit(simulated(MILLISECOND)).unwrap_err().is_closed());

    let page = store.crash_and_reopen().list(Filter::default(), PageRequest::default()).await.unwrap();
    let state = |guid| page.records.iter().find(|record| record.guid == guid).unwrap().state;
    assert_eq!(state(soon.guid), State::Started);
    assert_eq!(state(stuck.guid), State::Pending, "at_least_once, ambiguous: tried again");
    assert_eq!(state(later.guid), State::Pending);
}
