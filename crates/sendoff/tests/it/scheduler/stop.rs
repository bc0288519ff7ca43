//! Every way to stop.

use std::{sync::Arc, time::Duration};

use sendoff::{
    Delivery, JobRecord, NotStarted, ShutdownReport, State,
    ports::{Filter, PageRequest, Store},
    store::MemoryStore,
    testing::{Answer, FlakyStore, Held, Method, Plan, ScriptedStarter, Why},
};
use tokio::time::Instant;

use super::{HOUR, SECOND, builder, flaky, job, quiet};

/// Begins, and answers by number: 0 at once, 1 after 5 s, 2 never; 3 never begins.
fn starter() -> ScriptedStarter {
    ScriptedStarter::by_script(|seen| match seen.job.n {
        0 => Plan::STARTED,
        1 => Plan::STARTED.taking(5 * SECOND),
        2 => Plan { answer: Answer::Hang, ..Plan::STARTED },
        _ => Plan { answer: Answer::Hang, begin: false, ..Plan::STARTED },
    })
}

async fn records(store: &MemoryStore) -> Vec<JobRecord> {
    let reopened = store.crash_and_reopen();
    reopened.list(Filter::default(), PageRequest::default()).await.unwrap().records
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_what_has_begun_and_gives_up_after_its_grace() {
    for (abandonable, delivery) in
        [(true, Delivery::AtMostOnce), (false, Delivery::AtMostOnce), (true, Delivery::AtLeastOnce)]
    {
        let starter = starter().with(|defaults| defaults.abandonable = abandonable);
        let store = Arc::new(MemoryStore::new());
        let scheduler = builder(&starter, store.clone()).start().await.unwrap();
        for n in 0..4 {
            let spec = job(n).delivery(delivery).start_timeout(HOUR);
            scheduler.submit(spec).unwrap().await.unwrap();
        }
        quiet().await;
        let later = scheduler.submit(job(9).delay(HOUR)).unwrap();
        let later_guid = later.guid();
        later.await.unwrap();
        let begin = Instant::now();
        let waiter = scheduler.started(later_guid);
        let (report, again, waited) = tokio::join!(
            scheduler.shutdown(10 * SECOND),
            async {
                quiet().await;
                // A second call waits for the first one's end, with the first one's grace.
                scheduler.shutdown(Duration::ZERO).await
            },
            waiter,
        );
        assert!(begin.elapsed() >= 10 * SECOND && begin.elapsed() < 11 * SECOND, "{:?}", begin.elapsed());
        assert_eq!(report.unwrap(), ShutdownReport { released: 1, abandoned: 1, unsettled: 0 });
        again.unwrap();
        assert!(matches!(waited, Err(NotStarted::Error(err)) if err.is_closed()));
        assert!(scheduler.shutdown(SECOND).await.is_ok(), "and once more");
        assert!(scheduler.submit(job(1)).unwrap_err().is_closed());
        assert!(scheduler.idle().await.unwrap_err().is_closed());

        let records = records(&store).await;
        let states: Vec<_> = records.iter().map(|record| record.state).collect();
        let doubtful = if delivery == Delivery::AtMostOnce { State::Unknown } else { State::Pending };
        // The one that never began is known not to have, whether it may be dropped or not.
        let expected = [State::Started, State::Started, doubtful, State::Pending, State::Pending];
        assert_eq!(states, expected, "{abandonable} {delivery:?}");
        assert_eq!(records[3].attempt, 0, "given back");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_all_handles_is_a_shutdown() {
    let starter = starter();
    let store = Arc::new(MemoryStore::new());
    let scheduler = builder(&starter, store.clone()).start().await.unwrap();
    for n in 0..4 {
        let spec = job(n).delivery(Delivery::AtMostOnce).start_timeout(HOUR);
        scheduler.submit(spec).unwrap().await.unwrap();
    }
    let mut notices = scheduler.notices();
    quiet().await;
    let begin = Instant::now();
    drop(scheduler);
    while notices.next().await.is_some() {}
    let took = begin.elapsed();
    assert!(took >= sendoff::DEFAULT_GRACE && took < sendoff::DEFAULT_GRACE + SECOND, "{took:?}");
    let states: Vec<_> = records(&store).await.iter().map(|record| record.state).collect();
    assert_eq!(states, [State::Started, State::Started, State::Unknown, State::Pending]);
}

#[tokio::test(start_paused = true)]
async fn grace_without_end() {
    let (scheduler, _) = flaky(&starter(), |builder| builder).await;
    let begin = Instant::now();
    scheduler.submit(job(2).start_timeout(HOUR)).unwrap().await.unwrap();
    quiet().await;
    let report = scheduler.shutdown(Duration::MAX).await.unwrap();
    assert_eq!(report, ShutdownReport::default(), "its own timeout ended it");
    assert!(begin.elapsed() >= HOUR);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_or_is_slow_while_it_stops() {
    for method in [Method::Claim, Method::Ready, Method::Settle, Method::Expire] {
        let (scheduler, store) = flaky(&starter(), |builder| builder).await;
        let soon = scheduler.submit(job(1)).unwrap().await.unwrap().guid;
        quiet().await;
        store.fail(method, Why::Unusable, 3);
        // Due, so that the claim fails, and past its deadline a moment later.
        scheduler.submit(job(0).delay(SECOND).expires_in(SECOND)).unwrap().await.unwrap();
        tokio::time::sleep(SECOND + Duration::from_millis(2)).await;
        let begin = Instant::now();
        let report = scheduler.shutdown(20 * SECOND).await.unwrap();
        assert_eq!((report.abandoned, report.unsettled), (0, 0), "{method:?}");
        assert!(begin.elapsed() < 6 * SECOND, "{method:?}: {:?}", begin.elapsed());
        assert!(store.get(soon).await.is_err(), "it is closed");
    }
}

#[tokio::test(start_paused = true)]
async fn outcomes_that_cannot_be_stored_are_counted() {
    let (scheduler, store) = flaky(&starter(), |builder| builder).await;
    store.fail(Method::Settle, Why::Full, 1_000);
    scheduler.submit(job(0)).unwrap().await.unwrap();
    quiet().await;
    let begin = Instant::now();
    let report = scheduler.shutdown(10 * SECOND).await.unwrap();
    assert_eq!(report, ShutdownReport { released: 0, abandoned: 0, unsettled: 1 });
    assert!(begin.elapsed() < 16 * SECOND, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn answers_that_never_come_hold_up_a_stop_for_a_time_only() {
    for method in [Method::Expire, Method::Due, Method::Claim] {
        let store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new())));
        let held: Vec<Held> = (0..3).map(|_| store.hold(method)).collect();
        let scheduler = builder(&starter(), store).start().await.unwrap();
        scheduler.submit(job(0).delay(SECOND).expires_in(SECOND)).unwrap().await.unwrap();
        scheduler.submit(job(0).delay(SECOND)).unwrap().await.unwrap();
        // Time goes on meanwhile.
        tokio::time::sleep(10 * SECOND).await;
        let begin = Instant::now();
        scheduler.shutdown(10 * SECOND).await.unwrap();
        assert!(begin.elapsed() < 16 * SECOND, "{method:?}: {:?}", begin.elapsed());
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_while_it_stops_is_answered() {
    let (scheduler, store) = flaky(&starter(), |builder| builder).await;
    scheduler.submit(job(1)).unwrap().await.unwrap();
    assert!(!scheduler.is_stopping());
    // On its way to the store when the stop comes.
    let held = store.hold(Method::Insert);
    let on_its_way = scheduler.submit(job(0).delay(HOUR)).unwrap();
    held.reached().await;
    // In the inbox, before and behind the stop.
    let before = scheduler.submit(job(0).delay(HOUR)).unwrap();
    let batch = sendoff::Batch::itemised((0..3).map(|n| job(n).delay(HOUR)).collect());
    let (stopped, first, second, third, cancelled, ()) = tokio::join!(
        scheduler.shutdown(20 * SECOND),
        on_its_way,
        before,
        scheduler.submit_batch(batch),
        scheduler.cancel(sendoff::Guid::from_bytes([7; 16])),
        async {
            assert!(scheduler.is_stopping());
            assert!(scheduler.submit(job(0)).unwrap_err().is_closed());
            quiet().await;
            held.release();
        }
    );
    assert!(first.unwrap().created, "it was on its way");
    assert!(second.unwrap().created, "it came before the stop");
    assert!(third.unwrap_err().is_closed());
    assert!(matches!(cancelled.unwrap(), sendoff::ports::CancelVerdict::NotFound));
    assert_eq!(stopped.unwrap(), ShutdownReport::default());
    assert!(scheduler.is_stopping() && scheduler.in_flight() == 0);
    assert!(scheduler.cancel_many(vec![sendoff::Guid::from_bytes([7; 16])]).await.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_store_is_told_to_the_host_and_to_all_who_wait() {
    for method in [Method::Insert, Method::Cancel, Method::Settle, Method::SetQueue] {
        let (scheduler, store) = flaky(&starter(), |builder| builder).await;
        let waiting = scheduler.submit(job(1).delay(HOUR)).unwrap();
        let guid = waiting.guid();
        let waiting = waiting.started();
        store.fail(method, Why::Fatal, 1);
        let asked = async {
            // One of them meets the poison; the others find it or come before it.
            let settled = scheduler.submit(job(0).delay(SECOND)).unwrap().await.map(drop);
            let cancelled = scheduler.cancel_many(vec![guid; 2_000]).await.map(drop);
            let limits = scheduler.set_queue_limits("q", None).await;
            [settled, cancelled, limits].into_iter().filter_map(Result::err).collect::<Vec<_>>()
        };
        let (fatal, errors, _) = tokio::join!(scheduler.fatal(), asked, waiting);
        assert!(fatal.is_fatal() && scheduler.is_stopping(), "{method:?}");
        assert!(errors.iter().all(sendoff::Error::is_fatal), "{method:?}: {errors:?}");
        assert!(scheduler.submit(job(0)).unwrap_err().is_fatal(), "{method:?}");
        assert!(scheduler.shutdown(SECOND).await.unwrap_err().is_fatal());
    }
}
