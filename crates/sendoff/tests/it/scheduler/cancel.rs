//! Cancel gives a final answer, whatever is under way.

use sendoff::{
    Delivery, NotStarted, State, Timestamp,
    ports::{CancelVerdict, StartError, StartErrorClass},
    testing::{Method, Plan, ScriptedStarter},
};

use super::{HOUR, MILLISECOND, SECOND, flaky, job, quiet, record, scheduler};

fn state(verdict: &CancelVerdict) -> State {
    match verdict {
        CancelVerdict::Cancelled { record, .. } | CancelVerdict::TooLate(record) => record.state,
        CancelVerdict::NotFound => panic!("not found"),
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_insert_is_in_flight() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    // Once of a job that waits, once of one that is claimed as it is inserted.
    for (delay, expected) in [(HOUR, State::Cancelled), (std::time::Duration::ZERO, State::Starting)] {
        let held = store.hold(Method::Insert);
        let submission = scheduler.submit(job(1).delay(delay)).unwrap();
        held.reached().await;
        let verdict = submission.cancel().await.unwrap();
        assert_eq!(state(&verdict), expected, "the cancel is answered though the submit is not");
        held.release();
        let ended = submission.started().await;
        if expected == State::Cancelled {
            assert!(matches!(ended, Err(NotStarted::Cancelled(_))), "{ended:?}");
            assert_eq!(starter.begun_in_all().0, 0);
        } else {
            // Too late: the claim came first, and nothing hindered its start.
            let ended = ended.unwrap();
            assert!(ended.cancel_requested_at.is_some());
        }
    }
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(starter.begun_in_all().0, 1, "the cancelled one never starts");
}

#[tokio::test(start_paused = true)]
async fn before_the_submit_is_durable_by_guid() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let scheduler = scheduler(&starter).await;
    // Nothing has been taken out of the inbox when the cancel follows.
    let submission = scheduler.submit(job(1).delay(HOUR)).unwrap();
    let verdict = scheduler.cancel(submission.guid()).await.unwrap();
    assert_eq!(state(&verdict), State::Cancelled);
    assert!(submission.await.unwrap().created, "the insert came before it");
    tokio::time::sleep(2 * HOUR).await;
    assert!(attempts.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn while_the_claim_is_in_flight() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    let held = store.hold(Method::Claim);
    let submission = scheduler.submit(job(1).delay(SECOND)).unwrap();
    held.reached().await;
    // The claim is stored and its answer is not here: the claim has won.
    let verdict = scheduler.cancel(submission.guid()).await.unwrap();
    assert!(matches!(verdict, CancelVerdict::TooLate(_)));
    assert_eq!(state(&verdict), State::Starting);
    held.release();
    // I5: no further attempt, also if this one did not start it.
    let attempt = attempts.next().await;
    attempt.begin().unwrap();
    attempt.error(StartError::not_started("try again"));
    let ended = submission.started().await;
    let Err(NotStarted::Cancelled(ended)) = ended else { panic!("{ended:?}") };
    assert!(!ended.possible_duplicate);
    tokio::time::sleep(2 * HOUR).await;
    assert!(attempts.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn while_the_settlement_is_in_flight() {
    for (class, expected) in [
        (None, State::Started),
        (Some(StartErrorClass::Ambiguous), State::Cancelled),
        (Some(StartErrorClass::Permanent), State::Failed),
    ] {
        let starter =
            ScriptedStarter::by_script(move |_| class.map_or(Plan::STARTED, Plan::error).taking(SECOND));
        let (scheduler, store) = flaky(&starter, |builder| builder).await;
        let held = store.hold(Method::Settle);
        let submission = scheduler.submit(job(1)).unwrap();
        held.reached().await;
        let verdict = scheduler.cancel(submission.guid()).await.unwrap();
        // I6: it was final, or pending for its retry, before the cancel.
        assert_eq!(state(&verdict), expected);
        held.release();
        if let CancelVerdict::Cancelled { record, .. } = verdict {
            assert!(record.possible_duplicate, "the attempt may have happened");
        }
        tokio::time::sleep(2 * HOUR).await;
        assert_eq!(starter.begun_in_all().0, 1);
        assert_eq!(record(&scheduler, submission.guid()).await.state, expected);
        scheduler.idle().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_cancel_ends_every_way_back() {
    for (delivery, class, expected, maybe) in [
        (Delivery::AtLeastOnce, StartErrorClass::NotStarted, State::Cancelled, false),
        (Delivery::AtLeastOnce, StartErrorClass::Ambiguous, State::Cancelled, true),
        (Delivery::AtLeastOnce, StartErrorClass::Pressure, State::Cancelled, false),
        (Delivery::AtMostOnce, StartErrorClass::NotStarted, State::Cancelled, false),
        (Delivery::AtMostOnce, StartErrorClass::Ambiguous, State::Unknown, true),
    ] {
        let (starter, mut attempts) = ScriptedStarter::by_hand();
        let scheduler = scheduler(&starter).await;
        let submission = scheduler.submit(job(1).delivery(delivery)).unwrap();
        let attempt = attempts.next().await;
        let waiter = scheduler.clone();
        let guid = submission.guid();
        let waiting = async move { waiter.started(guid).await };
        let verdict = scheduler.cancel(submission.guid()).await.unwrap();
        assert_eq!(state(&verdict), State::Starting);
        attempt.error(StartError::new(class, "no"));
        let ended = waiting.await.unwrap_err();
        drop(submission);
        let (NotStarted::Cancelled(ended) | NotStarted::Unknown(ended)) = ended else { panic!("{ended:?}") };
        assert_eq!((ended.state, ended.possible_duplicate), (expected, maybe), "{class:?}");
        tokio::time::sleep(2 * HOUR).await;
        assert!(attempts.try_next().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn twice_is_still_cancelled_and_of_nobody_is_not_found() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let scheduler = scheduler(&starter).await;
    let guid = scheduler.submit(job(1).delay(HOUR)).unwrap().await.unwrap().guid;
    let first = scheduler.cancel(guid).await.unwrap();
    tokio::time::sleep(MILLISECOND).await;
    let second = scheduler.cancel(guid).await.unwrap();
    let ended_at = |verdict: CancelVerdict| -> Option<Timestamp> {
        match verdict {
            CancelVerdict::Cancelled { record, .. } => record.ended_at,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(ended_at(first), ended_at(second), "nothing changed");
    let nobody = "00000000-0000-4000-8000-000000000001".parse().unwrap();
    assert_eq!(scheduler.cancel(nobody).await.unwrap(), CancelVerdict::NotFound);
}

#[tokio::test(start_paused = true)]
async fn of_a_due_job_that_waits_for_a_permit() {
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (scheduler, store) = flaky(&starter, |builder| builder.max_in_flight(1)).await;
    scheduler.submit(job(1)).unwrap().await.unwrap();
    let waits = scheduler.submit(job(2)).unwrap().await.unwrap().guid;
    let running = attempts.next().await;
    assert_eq!(state(&scheduler.cancel(waits).await.unwrap()), State::Cancelled);
    // The claim of the cancelled one is lost while somebody waits for all to end.
    let held = store.hold(Method::Claim);
    let end = async {
        quiet().await;
        running.started();
        held.reached().await;
        held.release();
    };
    let (idle, ()) = tokio::join!(tokio::time::timeout(HOUR, scheduler.idle()), end);
    idle.expect("it is told").unwrap();
    assert!(attempts.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn many_at_a_time_in_order_and_behind_their_submits() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED.taking(HOUR));
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    let mut guids = vec![scheduler.submit(job(0).start_timeout(2 * HOUR)).unwrap().await.unwrap().guid];
    guids.push("00000000-0000-4000-8000-000000000001".parse().unwrap());
    // Not one of these has reached the loop when the cancel is asked for.
    let waiting: Vec<_> = (0..2_500).map(|n| scheduler.submit(job(n).delay(HOUR)).unwrap()).collect();
    guids.extend(waiting.iter().map(|submission| submission.guid()));
    let verdicts = scheduler.cancel_many(guids.clone()).await.unwrap();
    assert_eq!(verdicts.len(), guids.len());
    assert!(matches!(&verdicts[0], CancelVerdict::TooLate(record) if record.guid == guids[0]));
    assert!(matches!(verdicts[1], CancelVerdict::NotFound));
    for (verdict, guid) in verdicts.iter().zip(&guids).skip(2) {
        assert!(matches!(verdict, CancelVerdict::Cancelled { id: Some(_), record } if record.guid == *guid));
    }
    assert_eq!(store.calls(Method::Cancel), 3, "a thousand in each call");
    assert!(scheduler.cancel_many(Vec::new()).await.unwrap().is_empty());
    // Singles that come together go together, and each gets its own answer.
    let more: Vec<_> = (0..10).map(|n| scheduler.submit(job(n).delay(HOUR)).unwrap().guid()).collect();
    let answers = futures_util::future::join_all(more.iter().map(|guid| scheduler.cancel(*guid))).await;
    for (answer, guid) in answers.into_iter().zip(more) {
        assert!(matches!(answer, Ok(CancelVerdict::Cancelled { record, .. }) if record.guid == guid));
    }
    assert_eq!(store.calls(Method::Cancel), 4);
}
