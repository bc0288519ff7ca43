//! Limits of queues that are set at run time: durable, in force when the call returns, in one order.

use std::sync::Arc;

use sendoff::{
    QueueLimits, Rate, Scheduler,
    store::MemoryStore,
    testing::{FlakyStore, HeldAttempts, Method, Plan, ScriptedStarter, Why},
};
use tokio::time::Instant;

use super::{HOUR, MILLISECOND, SECOND, builder, flaky, job, quiet};

const PAUSED: QueueLimits = QueueLimits { max_in_flight: None, rate: None, paused: true };

fn at_once(starts: usize) -> QueueLimits {
    QueueLimits { max_in_flight: Some(starts), ..QueueLimits::default() }
}

fn rate(starts: u32, per: std::time::Duration) -> QueueLimits {
    QueueLimits { rate: Some(Rate { starts, per: per.into(), burst: 1 }), ..QueueLimits::default() }
}

fn started(attempts: &mut HeldAttempts) -> Vec<u64> {
    std::iter::from_fn(|| attempts.try_next())
        .map(|attempt| {
            let n = attempt.seen.job.n;
            attempt.started();
            n
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_set_lasts_and_counts_more_than_what_was_built() {
    let store = Arc::new(MemoryStore::new());
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let built = |store: Arc<MemoryStore>| {
        builder(&starter, store).queue_limits("built", PAUSED).queue_limits("both", PAUSED).start()
    };
    let first = built(store.clone()).await.unwrap();
    first.set_queue_limits("both", Some(at_once(7))).await.unwrap();
    first.set_queue_limits("set", Some(PAUSED)).await.unwrap();
    first.set_queue_limits("forgotten", Some(PAUSED)).await.unwrap();
    first.set_queue_limits("forgotten", None).await.unwrap();
    let shown = |scheduler: Scheduler| async move { scheduler.queues().await.unwrap() };
    let before = shown(first.clone()).await;
    assert_eq!(before.keys().map(|name| &**name).collect::<Vec<_>>(), ["both", "built", "set"]);
    assert_eq!(before["both"], at_once(7));

    let second = built(Arc::new(store.crash_and_reopen())).await.unwrap();
    assert_eq!(shown(second.clone()).await, before);
    for (n, queue) in ["both", "built", "set", "forgotten"].into_iter().enumerate() {
        second.submit(job(n as u64).queue(queue)).unwrap().await.unwrap();
    }
    quiet().await;
    assert_eq!(starter.order(), [0, 3]);
    // Forgetting what was set leaves what was built.
    second.set_queue_limits("both", None).await.unwrap();
    second.submit(job(4).queue("both")).unwrap().await.unwrap();
    second.set_queue_limits("set", None).await.unwrap();
    quiet().await;
    assert_eq!(starter.order(), [0, 3, 2]);
}

#[tokio::test(start_paused = true)]
async fn refused_if_it_is_no_name_or_nothing_could_start() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    let no_burst = Rate { starts: 1, per: SECOND.into(), burst: 0 };
    let no_burst = QueueLimits { rate: Some(no_burst), ..QueueLimits::default() };
    for (queue, limits, words) in [
        ("../etc", PAUSED, "queue: "),
        ("", PAUSED, "queue: "),
        ("q", at_once(0), "max_in_flight: "),
        ("q", rate(0, SECOND), "rate.starts: "),
        ("q", rate(1, std::time::Duration::ZERO), "rate.per: "),
        ("q", no_burst, "rate.burst: "),
    ] {
        let err = scheduler.set_queue_limits(queue, Some(limits)).await.unwrap_err();
        assert!(err.is_invalid() && err.to_string().starts_with(words), "{err}");
        let built = builder(&starter, store.clone()).queue_limits(queue, limits).start().await;
        assert!(built.unwrap_err().to_string().starts_with(words));
    }
    assert_eq!(store.calls(Method::SetQueue), 0);
}

#[tokio::test(start_paused = true)]
async fn in_force_when_it_returns_and_not_if_the_store_refused_it() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    scheduler.set_queue_limits("q", Some(PAUSED)).await.unwrap();
    scheduler.submit(job(1).queue("q")).unwrap().await.unwrap();
    quiet().await;
    assert!(started(&mut attempts).is_empty());
    store.fail(Method::SetQueue, Why::Full, 1);
    assert!(scheduler.set_queue_limits("q", None).await.unwrap_err().is_full());
    quiet().await;
    assert!(started(&mut attempts).is_empty());
    assert_eq!(scheduler.queues().await.unwrap()["q"], PAUSED);
    scheduler.set_queue_limits("q", None).await.unwrap();
    quiet().await;
    assert_eq!(started(&mut attempts), [1]);
}

#[tokio::test(start_paused = true)]
async fn of_two_at_the_same_time_the_second_counts_in_the_store_and_in_force() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    let held = store.hold(Method::SetQueue);
    let (first, second, ()) = tokio::join!(
        scheduler.set_queue_limits("q", Some(PAUSED)),
        scheduler.set_queue_limits("q", Some(at_once(1))),
        async {
            held.reached().await;
            // The first is stored and not answered: whatever comes is not in force before it.
            quiet().await;
            assert_eq!(store.calls(Method::SetQueue), 1);
            held.release();
        }
    );
    first.unwrap();
    second.unwrap();
    assert_eq!(scheduler.queues().await.unwrap()["q"], at_once(1));
    for n in 0..3 {
        scheduler.submit(job(n).queue("q")).unwrap().await.unwrap();
    }
    quiet().await;
    assert_eq!(started(&mut attempts), [0]);
}

#[tokio::test(start_paused = true)]
async fn lowering_lets_end_what_is_in_flight_and_raising_starts_more() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (scheduler, _) = flaky(&starter, |builder| builder.max_in_flight(4)).await;
    for n in 0..20 {
        scheduler.submit(job(n).queue("q")).unwrap().await.unwrap();
    }
    quiet().await;
    assert_eq!(scheduler.in_flight(), 4);
    scheduler.set_max_in_flight(2).unwrap();
    scheduler.set_queue_limits("other", Some(PAUSED)).await.unwrap();
    assert_eq!(scheduler.in_flight(), 4, "nothing is broken off");
    assert_eq!(started(&mut attempts), [0, 1, 2, 3]);
    quiet().await;
    assert_eq!(scheduler.in_flight(), 2);
    scheduler.set_queue_limits("q", Some(at_once(1))).await.unwrap();
    assert_eq!(started(&mut attempts), [4, 5]);
    quiet().await;
    assert_eq!((started(&mut attempts), scheduler.in_flight()), (vec![6], 1));
    quiet().await;
    scheduler.set_queue_limits("q", None).await.unwrap();
    scheduler.set_max_in_flight(usize::MAX).unwrap();
    quiet().await;
    assert_eq!(scheduler.in_flight(), 13);
    assert_eq!(started(&mut attempts).len(), 13);
    scheduler.set_max_in_flight(0).unwrap();
    scheduler.submit(job(99)).unwrap().await.unwrap();
    quiet().await;
    assert_eq!(started(&mut attempts), [99], "one at least");
}

#[tokio::test(start_paused = true)]
async fn a_faster_rate_does_not_wait_for_the_slower_one() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let scheduler = super::scheduler(&starter).await;
    scheduler.set_queue_limits("q", Some(rate(1, HOUR))).await.unwrap();
    for n in 0..3 {
        scheduler.submit(job(n).queue("q")).unwrap().await.unwrap();
    }
    quiet().await;
    assert_eq!(starter.order(), [0]);
    let begin = Instant::now();
    scheduler.set_queue_limits("q", Some(rate(1, SECOND))).await.unwrap();
    scheduler.idle().await.unwrap();
    let took = begin.elapsed();
    assert!(took > SECOND && took < 2 * SECOND + 10 * MILLISECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_shutdown_is_answered() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED.taking(5 * SECOND));
    let store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new())));
    let scheduler = builder(&starter, store.clone()).start().await.unwrap();
    scheduler.submit(job(1)).unwrap().await.unwrap();
    let held = store.hold(Method::SetQueue);
    let (stopped, first, second, ()) = tokio::join!(
        scheduler.shutdown(HOUR),
        scheduler.set_queue_limits("q", Some(PAUSED)),
        scheduler.set_queue_limits("q", Some(at_once(3))),
        async {
            held.reached().await;
            held.release();
        }
    );
    stopped.unwrap();
    first.unwrap();
    second.unwrap();
    assert!(scheduler.set_queue_limits("q", None).await.unwrap_err().is_closed());
    assert!(scheduler.set_max_in_flight(1).unwrap_err().is_closed());
}
