//! A store that fails: what heals, what is told, what ends it all.

use std::time::Duration;

use sendoff::{
    NotStarted, State,
    ports::{StartError, StartErrorClass},
    testing::{Method, Plan, ScriptedStarter, Trouble, Why},
};
use tokio::time::Instant;

use super::{HOUR, MILLISECOND, SECOND, flaky, job, quiet, record};

fn starter() -> ScriptedStarter {
    ScriptedStarter::by_script(|_| Plan::STARTED)
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_fails_is_made_again() {
    let starter = starter();
    let (scheduler, store) = flaky(&starter, |builder| builder.max_in_flight(2)).await;
    store.fail(Method::Claim, Why::Unusable, 5);
    let guids: Vec<_> = (0..3).map(|n| scheduler.submit(job(n).delay(SECOND)).unwrap().guid()).collect();
    let begin = Instant::now();
    scheduler.idle().await.unwrap();
    assert!(begin.elapsed() > SECOND + 500 * MILLISECOND, "with pauses: {:?}", begin.elapsed());
    assert!(begin.elapsed() < 10 * SECOND);
    assert!(guids.iter().all(|guid| starter.begun(*guid) == 1));
    for guid in guids {
        assert_eq!(record(&scheduler, guid).await.attempt, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_store_is_asked_for_is_asked_again() {
    for method in [Method::Due, Method::Ready, Method::Lanes, Method::Expire] {
        let starter = starter();
        let store = std::sync::Arc::new(sendoff::testing::FlakyStore::new(std::sync::Arc::new(
            sendoff::store::MemoryStore::new(),
        )));
        let first = super::builder(&starter, store.clone()).max_in_flight(1).start().await.unwrap();
        store.fail(method, Why::Unusable, 3);
        // More than a lane keeps in memory, where it is that which matters.
        let jobs = if method == Method::Ready { 2_200 } else { 50 };
        let specs: Vec<_> = (0..jobs).map(|n| job(n).delay(SECOND)).collect();
        first.submit_batch(sendoff::Batch::itemised(specs)).await.unwrap();
        first.submit(job(9_999).delay(HOUR).expires_in(SECOND)).unwrap().await.unwrap();
        first.idle().await.unwrap();
        assert_eq!(starter.begun_in_all(), (jobs as usize + 1, jobs as usize + 1), "{method:?}");
        if method != Method::Ready {
            assert!(store.calls(method) > 3, "{method:?} was asked again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_stored_once_however_often_that_fails() {
    for (class, state) in [
        (None, State::Started),
        (Some(StartErrorClass::NotStarted), State::Pending),
        (Some(StartErrorClass::Permanent), State::Failed),
    ] {
        for trouble in [Trouble::Fails(Why::Full), Trouble::FailsAfter(Why::Unusable)] {
            let (starter, mut attempts) = ScriptedStarter::by_hand();
            let (scheduler, store) = flaky(&starter, |builder| builder.max_in_flight(1)).await;
            store.plan(Method::Settle, vec![trouble.clone(); 6]);
            let spec = job(1).max_attempts(2).backoff(HOUR, HOUR);
            let guid = scheduler.submit(spec).unwrap().guid();
            let attempt = attempts.next().await;
            attempt.begin().unwrap();
            match class {
                None => attempt.started(),
                Some(class) => attempt.error(StartError::new(class, "no")),
            }
            // The permit is held until the outcome is stored.
            let next = scheduler.submit(job(2)).unwrap().await.unwrap().guid;
            let begin = Instant::now();
            let second = loop {
                let attempt = attempts.next().await;
                if attempt.seen.guid == next {
                    break attempt;
                }
                // The retry of the first one, whose wait may have been short.
                attempt.begin().unwrap();
                attempt.started();
            };
            assert!(begin.elapsed() > SECOND, "{:?}", begin.elapsed());
            let ended = record(&scheduler, guid).await;
            if state == State::Pending {
                assert!(matches!(ended.state, State::Pending | State::Started));
                second.started();
                while scheduler.counts().await.unwrap().unfinished() > 0 {
                    attempts.next().await.started();
                    quiet().await;
                }
                // Not lost, though the answer to its settlement was.
                assert_eq!(record(&scheduler, guid).await.state, State::Started);
                assert_eq!(record(&scheduler, guid).await.attempt, 2);
            } else {
                assert_eq!((ended.state, ended.attempt, ended.fence), (state, 1, 1));
                second.started();
            }
            scheduler.idle().await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fatal_error_ends_everything_with_an_answer() {
    for method in [Method::Insert, Method::Claim, Method::Settle, Method::Cancel] {
        let (starter, mut attempts) = ScriptedStarter::by_hand();
        let (scheduler, store) = flaky(&starter, |builder| builder).await;
        let running = scheduler.submit(job(1)).unwrap().await.unwrap().guid;
        let waits = scheduler.submit(job(2).delay(HOUR)).unwrap().await.unwrap().guid;
        let attempt = attempts.next().await;
        let mut notices = scheduler.notices();
        let handle = scheduler.clone();
        let waiter = async move {
            tokio::join!(handle.started(running), handle.started(waits), handle.idle(), handle.fatal())
        };
        let spoil = async {
            quiet().await;
            store.fail(method, Why::Fatal, 1);
            match method {
                Method::Insert => assert!(scheduler.submit(job(3)).unwrap().await.unwrap_err().is_fatal()),
                Method::Cancel => assert!(scheduler.cancel(waits).await.unwrap_err().is_fatal()),
                Method::Settle => attempt.started(),
                _ => tokio::time::sleep(2 * HOUR).await,
            }
        };
        let ((first, second, idle, fatal), ()) = tokio::join!(waiter, spoil);
        for ended in [first, second] {
            match ended {
                Err(NotStarted::Error(err)) => assert!(err.is_fatal(), "{method:?}: {err}"),
                other => panic!("{method:?}: {other:?}"),
            }
        }
        assert!(idle.unwrap_err().is_fatal());
        assert!(fatal.is_fatal());
        // Nothing more is started, acknowledged, or waited for.
        let before = starter.seen().len();
        assert!(scheduler.submit(job(4)).unwrap_err().is_fatal());
        assert!(scheduler.cancel(waits).await.unwrap_err().is_fatal());
        assert!(scheduler.submit_batch(sendoff::Batch::atomic(vec![job(5)])).await.unwrap_err().is_fatal());
        assert!(scheduler.reschedule(waits, super::wall()).await.unwrap_err().is_fatal());
        assert!(scheduler.shutdown(Duration::MAX).await.unwrap_err().is_fatal());
        while let Some(notice) = notices.next().await {
            drop(notice);
        }
        tokio::time::sleep(48 * HOUR).await;
        assert_eq!(starter.seen().len(), before, "{method:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_fails_is_told_and_may_be_tried_again() {
    let starter = starter();
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    let guid = scheduler.submit(job(1).delay(HOUR)).unwrap().guid();
    store.fail(Method::Cancel, Why::Full, 1);
    assert!(scheduler.cancel(guid).await.unwrap_err().is_full());
    scheduler.cancel(guid).await.unwrap();
    assert_eq!(record(&scheduler, guid).await.state, State::Cancelled);
}
