//! What a caller can see and change of a job while it lives.

use sendoff::{
    Batch, Delivery, Lagged, NotStarted, State,
    ports::{Prune, StartErrorClass},
    state::Resolution,
    testing::{Method, Plan, ScriptedStarter},
};
use tokio::time::Instant;

use super::{HOUR, MILLISECOND, SECOND, flaky, job, quiet, record, scheduler, wall};

fn starter() -> ScriptedStarter {
    ScriptedStarter::by_script(|_| Plan::STARTED)
}

#[tokio::test(start_paused = true)]
async fn rescheduled_earlier_later_and_to_now() {
    let starter = starter();
    let scheduler = scheduler(&starter).await;
    let begin = Instant::now();
    let at = |hours: u32| wall().saturating_add(hours * HOUR);
    let submit = |n| scheduler.submit(job(n).delay(5 * HOUR)).unwrap().guid();
    let (earlier, later, now) = (submit(1), submit(2), submit(3));
    assert!(scheduler.reschedule(later, at(9)).await.unwrap().unwrap().applied);
    assert!(scheduler.reschedule(earlier, at(1)).await.unwrap().unwrap().applied);
    assert!(scheduler.start_now(now).await.unwrap().unwrap().applied);
    scheduler.idle().await.unwrap();
    assert_eq!(starter.order(), [3, 1, 2]);
    let hours: Vec<_> =
        starter.seen().iter().map(|seen| (seen.begun.unwrap() - begin + SECOND).as_secs() / 3600).collect();
    assert_eq!(hours, [0, 1, 9]);
    for guid in [earlier, later, now] {
        let record = record(&scheduler, guid).await;
        assert!(record.wait_us.unwrap() < 5_000, "{record:?}");
        assert!(record.starting_at.unwrap() >= record.run_at);
    }
    let final_one = scheduler.start_now(now).await.unwrap().unwrap();
    assert!(!final_one.applied && final_one.record.state == State::Started);
    assert!(
        scheduler.start_now("00000000-0000-4000-8000-000000000001".parse().unwrap()).await.unwrap().is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn rescheduled_while_it_is_being_claimed() {
    let starter = starter();
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    let guid = scheduler.submit(job(1).delay(SECOND)).unwrap().await.unwrap().guid;
    // The store takes the new time before the claim, and both answers come late.
    let (held, claim) = (store.hold(Method::Reschedule), store.hold(Method::Claim));
    let handle = scheduler.clone();
    let rescheduled = async move { handle.reschedule(guid, wall().saturating_add(3 * SECOND)).await };
    let answers = async {
        held.reached().await;
        claim.reached().await;
        tokio::time::sleep(5 * SECOND).await;
        held.release();
        quiet().await;
        claim.release();
    };
    let (rescheduled, ()) = tokio::join!(rescheduled, answers);
    assert!(rescheduled.unwrap().unwrap().applied);
    tokio::time::timeout(SECOND, scheduler.idle()).await.expect("it is not forgotten").unwrap();
    assert_eq!(starter.begun(guid), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_job_is_resolved_each_way() {
    let starter = ScriptedStarter::by_script(|seen| {
        if seen.number == 1 && seen.job.n > 0 {
            Plan::error(StartErrorClass::Ambiguous)
        } else {
            Plan::STARTED
        }
    });
    let scheduler = scheduler(&starter).await;
    let mut notices = scheduler.notices();
    for (to, state) in [
        (Resolution::Started, State::Started),
        (Resolution::Failed, State::Failed),
        (Resolution::Pending, State::Started),
    ] {
        let spec = job(1).delivery(Delivery::AtMostOnce).max_attempts(2);
        let submission = scheduler.submit(spec).unwrap();
        let guid = submission.guid();
        assert!(matches!(submission.started().await, Err(NotStarted::Unknown(_))));
        let resolved = scheduler.resolve_unknown(guid, to).await.unwrap().unwrap();
        assert!(resolved.applied && resolved.record.possible_duplicate);
        scheduler.idle().await.unwrap();
        assert_eq!(record(&scheduler, guid).await.state, state);
        assert_eq!(starter.begun(guid), if to == Resolution::Pending { 2 } else { 1 });
        let again = scheduler.resolve_unknown(guid, to).await.unwrap().unwrap();
        assert!(!again.applied, "it is unknown no more");
        // Listeners are told of the decision as of any other change.
        let mut states = Vec::new();
        while let Ok(Some(Ok(notice))) = tokio::time::timeout(MILLISECOND, notices.next()).await {
            states.push(notice.state);
        }
        let told = match to {
            Resolution::Started => vec![State::Started],
            Resolution::Failed => vec![State::Failed],
            Resolution::Pending => vec![State::Pending, State::Starting, State::Started],
        };
        assert_eq!(states[..3], [State::Pending, State::Starting, State::Unknown]);
        assert_eq!(states[3..], told);
    }
}

#[tokio::test(start_paused = true)]
async fn notices_come_in_order_and_say_what_was_missed() {
    let starter = ScriptedStarter::by_script(|seen| {
        if seen.number == 1 { Plan::error(StartErrorClass::NotStarted) } else { Plan::STARTED }
    });
    let (scheduler, _) = flaky(&starter, |builder| builder.notice_buffer(8)).await;
    let mut notices = scheduler.notices();
    let guid = scheduler.submit(job(1)).unwrap().guid();
    scheduler.idle().await.unwrap();
    let mut told = Vec::new();
    while let Ok(Some(notice)) = tokio::time::timeout(MILLISECOND, notices.next()).await {
        let notice = notice.unwrap();
        assert_eq!((notice.guid, &*notice.queue), (guid, "default"));
        told.push((notice.state, notice.attempt));
    }
    use State::{Pending, Started, Starting};
    assert_eq!(told, [(Pending, 0), (Starting, 1), (Pending, 1), (Starting, 2), (Started, 2)]);

    scheduler.submit_batch(Batch::itemised((0..10).map(|n| job(n).delay(HOUR)).collect())).await.unwrap();
    quiet().await;
    assert_eq!(notices.next().await, Some(Err(Lagged(2))));
    for _ in 0..8 {
        assert_eq!(notices.next().await.unwrap().unwrap().state, Pending);
    }
    // After the end there is nothing, though a handle is left.
    scheduler.shutdown(SECOND).await.unwrap();
    assert_eq!(notices.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_told_of_what_is_final_pruned_or_nobody() {
    let starter = starter();
    let scheduler = scheduler(&starter).await;
    let guid = scheduler.submit(job(1)).unwrap().started().await.unwrap().guid;
    assert_eq!(scheduler.started(guid).await.unwrap().state, State::Started, "it is final already");
    tokio::time::sleep(SECOND).await;
    let prune =
        Prune { before: wall().saturating_add(HOUR), submitted_by: None, unknown_too: false, limit: 10 };
    let waiting = scheduler.submit(job(2).delay(HOUR)).unwrap().await.unwrap().guid;
    assert_eq!(scheduler.prune(prune).await.unwrap(), 1, "only what is final");
    for gone in [guid, "00000000-0000-4000-8000-000000000001".parse().unwrap()] {
        let Err(NotStarted::Error(err)) = scheduler.started(gone).await else { panic!("it started") };
        assert!(err.is_not_found(), "{err}");
    }
    assert_eq!(scheduler.started(waiting).await.unwrap().guid, waiting);
}

#[tokio::test(start_paused = true)]
async fn a_handle_that_is_dropped_at_once_stops_nothing() {
    let starter = starter();
    let scheduler = scheduler(&starter).await;
    for n in 0..1_000 {
        drop(scheduler.submit(job(n)).unwrap());
    }
    scheduler.idle().await.unwrap();
    assert_eq!(starter.begun_in_all(), (1_000, 1_000));
    // Waiting that is given up leaves nothing behind either.
    let guid = scheduler.submit(job(1).delay(HOUR)).unwrap().guid();
    for _ in 0..10 {
        tokio::time::timeout(MILLISECOND, scheduler.started(guid)).await.unwrap_err();
    }
    assert_eq!(scheduler.started(guid).await.unwrap().guid, guid);
}
