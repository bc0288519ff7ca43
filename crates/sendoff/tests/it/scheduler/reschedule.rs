//! A time that is changed: never earlier than the new one, at once if that has come, wherever the
//! job was.

use sendoff::{
    Batch, Delivery, QueueLimits, State,
    ports::{StartError, StartErrorClass},
    testing::{Plan, ScriptedStarter},
};
use tokio::time::Instant;

use super::{HOUR, MILLISECOND, SECOND, flaky, job, quiet, record, scheduler, wall};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// More than the near window keeps, far ahead.
async fn crowd(scheduler: &sendoff::Scheduler, jobs: u64) {
    let far = (0..jobs).map(|n| job(1_000_000 + n).delay(DAY + n as u32 * MILLISECOND)).collect();
    scheduler.submit_batch(Batch::itemised(far)).await.unwrap();
    quiet().await;
}

#[tokio::test(start_paused = true)]
async fn among_more_than_memory_keeps() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let scheduler = scheduler(&starter).await;
    let near = scheduler.submit(job(1).delay(2 * SECOND)).unwrap().await.unwrap().guid;
    let soon = scheduler.submit(job(2).delay(2 * SECOND)).unwrap().await.unwrap().guid;
    crowd(&scheduler, 70_000).await;
    // Behind the horizon: only in the store.
    let [far, farther] = [3, 4].map(|n| scheduler.submit(job(n).delay(300 * DAY)).unwrap());
    let (far, farther) = (far.await.unwrap().guid, farther.await.unwrap().guid);

    let begin = Instant::now();
    scheduler.start_now(far).await.unwrap().unwrap();
    scheduler.started(far).await.unwrap();
    assert!(begin.elapsed() < 5 * MILLISECOND, "from far ahead to now: {:?}", begin.elapsed());
    scheduler.reschedule(near, wall().saturating_add(400 * DAY)).await.unwrap().unwrap();
    scheduler.reschedule(soon, wall().saturating_add(5 * SECOND)).await.unwrap().unwrap();
    scheduler.reschedule(farther, wall().saturating_add(3 * SECOND)).await.unwrap().unwrap();
    scheduler.started(farther).await.unwrap();
    assert!(begin.elapsed() < 3 * SECOND + 5 * MILLISECOND, "{:?}", begin.elapsed());
    scheduler.started(soon).await.unwrap();
    assert!(begin.elapsed() < 5 * SECOND + 5 * MILLISECOND, "{:?}", begin.elapsed());
    tokio::time::sleep(HOUR).await;
    assert_eq!(starter.order(), [3, 4, 2], "the one that was moved far ahead is not started early");
    scheduler.start_now(near).await.unwrap().unwrap();
    quiet().await;
    assert_eq!(starter.order(), [3, 4, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn of_a_due_job_that_waits_in_its_lane() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (scheduler, _) = flaky(&starter, |builder| builder.max_in_flight(1)).await;
    let guids: Vec<_> = (0..4).map(|n| scheduler.submit(job(n)).unwrap().guid()).collect();
    let first = attempts.next().await;
    let at = |seconds: u32| wall().saturating_add(seconds * SECOND);
    assert!(scheduler.reschedule(guids[1], at(60)).await.unwrap().unwrap().applied);
    assert!(scheduler.reschedule(guids[2], at(1)).await.unwrap().unwrap().applied);
    first.started();
    let next = attempts.next().await;
    assert_eq!(next.seen.job.n, 3);
    next.started();
    quiet().await;
    assert!(attempts.try_next().is_none(), "1 and 2 are not due");
    for (n, seconds) in [(2, 1), (1, 60)] {
        let attempt = attempts.next().await;
        assert_eq!(attempt.seen.job.n, n);
        attempt.started();
        let record = scheduler.started(guids[n as usize]).await.unwrap();
        assert!(record.starting_at.unwrap() >= at(seconds) && record.wait_us.unwrap() < 5_000);
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_job_that_waits_for_its_next_attempt() {
    let starter = ScriptedStarter::by_script(|seen| match seen.number {
        1 => Plan::error(StartErrorClass::NotStarted),
        _ => Plan::STARTED,
    });
    let scheduler = scheduler(&starter).await;
    let submit = |n| scheduler.submit(job(n).max_attempts(5).backoff(HOUR, HOUR)).unwrap().guid();
    let (now, later) = (submit(1), submit(2));
    quiet().await;
    assert_eq!(record(&scheduler, now).await.attempt, 1);
    assert!(scheduler.reschedule(later, wall().saturating_add(DAY)).await.unwrap().unwrap().applied);
    let begin = Instant::now();
    assert!(scheduler.start_now(now).await.unwrap().unwrap().applied);
    let started = scheduler.started(now).await.unwrap();
    assert!(begin.elapsed() < 5 * MILLISECOND, "the backoff is not waited for");
    assert_eq!((started.attempt, started.state), (2, State::Started));
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(starter.begun(later), 1, "nor is its retry early");
    scheduler.started(later).await.unwrap();
    assert!(begin.elapsed() + SECOND > DAY);
}

#[tokio::test(start_paused = true)]
async fn start_now_while_the_attempt_before_is_settled() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    let guid = scheduler.submit(job(1).max_attempts(5).backoff(HOUR, HOUR)).unwrap().guid();
    let attempt = attempts.next().await;
    attempt.begin().unwrap();
    let held = store.hold(sendoff::testing::Method::Settle);
    attempt.error(StartError::not_started("not now"));
    held.reached().await;
    // Pending again in the store; the loop has not heard of it.
    let changed = scheduler.start_now(guid).await.unwrap().unwrap();
    assert!(changed.applied && changed.record.state == State::Pending);
    held.release();
    let begin = Instant::now();
    attempts.next().await.started();
    scheduler.started(guid).await.unwrap();
    assert!(begin.elapsed() < 5 * MILLISECOND, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn not_past_the_deadline_nor_of_what_is_held_up_by_its_queue() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let scheduler = scheduler(&starter).await;
    let paused = QueueLimits { paused: true, ..QueueLimits::default() };
    scheduler.set_queue_limits("q", Some(paused)).await.unwrap();
    let spec = job(1).queue("q").delay(HOUR).expires_in(HOUR).delivery(Delivery::AtMostOnce);
    let guid = scheduler.submit(spec).unwrap().await.unwrap().guid;
    let deadline = record(&scheduler, guid).await.expires_at.unwrap();
    let refused = scheduler.reschedule(guid, deadline).await.unwrap().unwrap();
    assert!(!refused.applied && refused.record.state == State::Pending);
    assert!(scheduler.start_now(guid).await.unwrap().unwrap().applied);
    quiet().await;
    assert!(starter.order().is_empty());
    scheduler.set_queue_limits("q", None).await.unwrap();
    quiet().await;
    assert_eq!(starter.order(), [1]);
}
