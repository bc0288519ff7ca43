//! Limits end to end, and that who is held up by one delays nobody else.

use std::{collections::BTreeSet, time::Duration};

use sendoff::{
    Batch, QueueLimits, Rate, Scheduler, State,
    ports::StartErrorClass,
    testing::{HeldAttempts, Plan, ScriptedStarter, Seen},
};
use tokio::time::Instant;

use super::{HOUR, MILLISECOND, SECOND, flaky, job, job_to, quiet, scheduler};

fn drain(attempts: &mut HeldAttempts) -> Vec<sendoff::testing::HeldAttempt> {
    std::iter::from_fn(|| attempts.try_next()).collect()
}

async fn submit(scheduler: &Scheduler, specs: impl IntoIterator<Item = sendoff::JobSpec>) {
    let verdicts = scheduler.submit_batch(Batch::itemised(specs.into_iter().collect())).await.unwrap();
    assert!(verdicts.iter().all(|verdict| verdict.guid().is_some()));
    quiet().await;
}

#[tokio::test(start_paused = true)]
async fn max_in_flight_of_all_and_of_a_queue() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let limits = QueueLimits { max_in_flight: Some(2), ..QueueLimits::default() };
    let (scheduler, _) =
        flaky(&starter, |builder| builder.max_in_flight(5).queue_limits("narrow", limits)).await;
    submit(&scheduler, (0..20).map(|n| job(n).queue(if n < 10 { "narrow" } else { "wide" }))).await;
    let mut ended = 0;
    loop {
        let held = drain(&mut attempts);
        if held.is_empty() {
            break;
        }
        let narrow = held.iter().filter(|attempt| &*attempt.seen.queue == "narrow").count();
        assert!(held.len() <= 5 && narrow <= 2, "{held:?}");
        assert!(ended > 10 || held.len() == 5, "as many as are allowed");
        ended += held.len();
        held.into_iter().for_each(|attempt| attempt.started());
        quiet().await;
    }
    assert_eq!(ended, 20);
}

#[tokio::test(start_paused = true)]
async fn a_rate_paces_and_duplicates_do_not_use_it_up() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let rate = Rate { starts: 2, per: SECOND.into(), burst: 3 };
    let limits = QueueLimits { rate: Some(rate), ..QueueLimits::default() };
    let (scheduler, _) = flaky(&starter, |builder| builder.queue_limits("paced", limits)).await;
    let begin = Instant::now();
    // The same job three times is one start.
    for _ in 0..3 {
        scheduler.submit(job(0).queue("paced").idempotency_key("k")).unwrap().await.unwrap();
    }
    submit(&scheduler, (1..9).map(|n| job(n).queue("paced"))).await;
    scheduler.idle().await.unwrap();
    let millis: Vec<_> =
        starter.seen().iter().map(|seen| (seen.begun.unwrap() - begin).as_millis() / 10 * 10).collect();
    assert_eq!(millis, [0, 0, 0, 500, 1_000, 1_500, 2_000, 2_500, 3_000]);
}

#[tokio::test(start_paused = true)]
async fn an_endless_interval_is_a_rate_too() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let rate = Rate { starts: 1, per: Duration::MAX.into(), burst: u32::MAX };
    let limits = QueueLimits { rate: Some(rate), ..QueueLimits::default() };
    let (scheduler, _) = flaky(&starter, |builder| builder.queue_limits("default", limits)).await;
    scheduler.submit(job(1)).unwrap().started().await.unwrap();
    scheduler.submit(job(2)).unwrap().await.unwrap();
    quiet().await;
    assert_eq!(scheduler.counts().await.unwrap().unfinished(), 0, "the burst lets all pass");
}

#[tokio::test(start_paused = true)]
async fn a_queue_is_paused_and_resumed() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let scheduler = scheduler(&starter).await;
    let paused = QueueLimits { paused: true, ..QueueLimits::default() };
    scheduler.set_queue_limits("q", Some(paused)).await.unwrap();
    submit(&scheduler, (0..3).map(|n| job(n).queue("q"))).await;
    submit(&scheduler, [job(7).queue("other"), job(8).queue("q").delay(SECOND)]).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(starter.order(), [7]);
    scheduler.set_queue_limits("q", None).await.unwrap();
    quiet().await;
    assert_eq!(starter.order(), [7, 0, 1, 2, 8]);
}

#[tokio::test(start_paused = true)]
async fn each_destination_has_its_own_permits() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let scheduler = scheduler(&starter).await;
    submit(&scheduler, (0..9).map(|n| job_to(n, ["a:1", "b:1", "c:1"][n as usize % 3]))).await;
    let held = drain(&mut attempts);
    assert_eq!(held.len(), 6, "two each");
    for attempt in held.into_iter().filter(|attempt| attempt.seen.job.to.as_deref() == Some("b:1")) {
        attempt.started();
    }
    quiet().await;
    let next: Vec<_> = drain(&mut attempts).iter().map(|attempt| attempt.seen.job.n).collect();
    assert_eq!(next, [7], "the third to b");
}

#[tokio::test(start_paused = true)]
async fn what_runs_on_is_bounded_until_it_ends() {
    let starter = ScriptedStarter::by_script(|seen: &Seen| {
        if seen.job.n == 1 { Plan::error(StartErrorClass::Permanent) } else { Plan::STARTED }
    })
    .max_running(3);
    let scheduler = scheduler(&starter).await;
    submit(&scheduler, (0..10).map(job)).await;
    assert_eq!(starter.order(), [0, 1, 2, 3], "the one that failed runs no more");
    tokio::time::sleep(HOUR).await;
    assert_eq!(starter.order().len(), 4);
    assert_eq!(starter.end_running(2), 2);
    quiet().await;
    assert_eq!(starter.order().len(), 6);
    while starter.end_running(3) > 0 {
        quiet().await;
    }
    scheduler.idle().await.unwrap();
    assert_eq!(starter.begun_in_all(), (10, 10));
}

/// Thousands of due jobs that cannot start, and one that can.
#[tokio::test(start_paused = true)]
async fn a_dead_destination_a_full_and_a_paused_queue_delay_nobody() {
    let dead = |seen: &Seen| seen.job.to.as_deref() == Some("dead:1") || &*seen.queue == "full";
    let starter =
        ScriptedStarter::by_script(
            move |seen| {
                if dead(seen) { Plan::STARTED.taking(20 * HOUR) } else { Plan::STARTED }
            },
        );
    let full = QueueLimits { max_in_flight: Some(1), ..QueueLimits::default() };
    let paused = QueueLimits { paused: true, ..QueueLimits::default() };
    let (scheduler, _) = flaky(&starter, |builder| {
        builder.max_in_flight(16).queue_limits("full", full).queue_limits("paused", paused)
    })
    .await;
    let day = 24 * HOUR;
    submit(&scheduler, (0..3_000).map(|n| job_to(n, "dead:1").start_timeout(day))).await;
    submit(&scheduler, (0..3_000).map(|n| job(n).queue("full").start_timeout(day).priority(9))).await;
    submit(&scheduler, (0..3_000).map(|n| job(n).queue("paused").priority(9))).await;
    for (n, spec) in
        [job_to(90_000, "alive:1"), job(90_001).queue("other"), job(90_002)].into_iter().enumerate()
    {
        let begin = Instant::now();
        let record = scheduler.submit(spec).unwrap().started().await.unwrap();
        assert!(begin.elapsed() < 5 * MILLISECOND, "{n}: {:?}", begin.elapsed());
        assert!(record.wait_us.unwrap() < 5_000, "{n}: {:?}", record.wait_us);
    }
    // Nor when they come back with a time, through the window.
    let begin = Instant::now();
    let later = scheduler.submit(job(90_003).delay(SECOND)).unwrap().started().await.unwrap();
    assert!(begin.elapsed() < SECOND + 5 * MILLISECOND && later.wait_us.unwrap() < 5_000);
    assert_eq!(scheduler.counts().await.unwrap().total(State::Starting), 3, "two to dead, one of full");
}

#[tokio::test(start_paused = true)]
async fn more_due_jobs_than_are_kept_in_memory() {
    const JOBS: u64 = 70_000;
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let (scheduler, _) = flaky(&starter, |builder| builder.max_in_flight(64)).await;
    // All at the same instant, in three lanes.
    let at = super::wall().saturating_add(SECOND);
    let spec = |n: u64| match n % 3 {
        0 => job(n).run_at(at),
        1 => job(n).run_at(at).queue("other"),
        _ => job(n).run_at(at).queue("third"),
    };
    let verdicts = scheduler.submit_batch(Batch::itemised((0..JOBS).map(spec).collect())).await.unwrap();
    assert_eq!(verdicts.len() as u64, JOBS);
    scheduler.idle().await.unwrap();
    assert_eq!(scheduler.counts().await.unwrap().total(State::Started), JOBS);
    assert_eq!(starter.begun_in_all(), (JOBS as usize, JOBS as usize), "each exactly once");
    let numbers: BTreeSet<_> = starter.order().into_iter().collect();
    assert_eq!(numbers.len() as u64, JOBS);
}

#[tokio::test(start_paused = true)]
async fn due_jobs_go_by_priority_then_time_then_insertion() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (scheduler, _) = flaky(&starter, |builder| builder.max_in_flight(1)).await;
    submit(&scheduler, [job(0)]).await;
    let first = attempts.next().await;
    let early = super::wall();
    let early = |n, second| job(n).run_at(early.saturating_add(second * SECOND));
    submit(&scheduler, [early(3, 2), early(4, 2), early(5, 3), early(2, 1), early(1, 3).priority(5)]).await;
    tokio::time::sleep(4 * SECOND).await;
    first.started();
    for n in 1..=5 {
        let attempt = attempts.next().await;
        assert_eq!(attempt.seen.job.n, n);
        attempt.started();
    }
}
