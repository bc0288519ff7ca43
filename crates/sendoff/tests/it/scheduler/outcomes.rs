//! What each end of an attempt leads to.

use std::time::Duration;

use sendoff::{
    Delivery, ErrorClass, JobRecord, State,
    ports::{StartError, StartErrorClass},
    testing::{Answer, Plan, ScriptedStarter},
};

use super::{HOUR, MILLISECOND, SECOND, job, quiet, record, scheduler};

/// Lets a job go its way to the end.
async fn play(starter: &ScriptedStarter, spec: sendoff::JobSpec) -> JobRecord {
    let scheduler = scheduler(starter).await;
    let guid = scheduler.submit(spec).unwrap().await.unwrap().guid;
    scheduler.idle().await.unwrap();
    record(&scheduler, guid).await
}

#[tokio::test(start_paused = true)]
async fn every_class_under_both_deliveries() {
    use Delivery::{AtLeastOnce, AtMostOnce};
    use StartErrorClass::{Ambiguous, NotStarted, Permanent};
    for (delivery, class, state, attempts, maybe, last) in [
        (AtLeastOnce, Permanent, State::Failed, 1, false, ErrorClass::Permanent),
        (AtMostOnce, Permanent, State::Failed, 1, false, ErrorClass::Permanent),
        (AtLeastOnce, NotStarted, State::Failed, 3, false, ErrorClass::NotStarted),
        (AtMostOnce, NotStarted, State::Failed, 3, false, ErrorClass::NotStarted),
        (AtLeastOnce, Ambiguous, State::Failed, 3, true, ErrorClass::Ambiguous),
        (AtMostOnce, Ambiguous, State::Unknown, 1, true, ErrorClass::Ambiguous),
    ] {
        let starter = ScriptedStarter::by_script(move |_| Plan::error(class).taking(MILLISECOND));
        let ended = play(&starter, job(1).delivery(delivery)).await;
        assert_eq!(
            (ended.state, ended.attempt, ended.possible_duplicate, ended.last_error.unwrap().class),
            (state, attempts, maybe, last),
            "{delivery:?} {class:?}"
        );
        assert_eq!(starter.begun(ended.guid), attempts as usize);
        assert_eq!(ended.fence, attempts);
        assert!(ended.started_at.is_none() && ended.took_us.is_none());
        assert!(ended.wait_us.unwrap() < 1_000, "of the first attempt: {:?}", ended.wait_us);
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_after_failed_attempts_keeps_their_traces() {
    for class in [StartErrorClass::NotStarted, StartErrorClass::Ambiguous] {
        let starter = ScriptedStarter::by_script(move |seen| {
            let plan = if seen.number < 3 { Plan::error(class) } else { Plan::STARTED };
            plan.taking(7 * MILLISECOND)
        });
        let ended = play(&starter, job(1)).await;
        assert_eq!((ended.state, ended.attempt, ended.took_us), (State::Started, 3, Some(7_000)));
        assert_eq!(ended.possible_duplicate, class == StartErrorClass::Ambiguous);
        assert!(ended.last_error.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn pressure_burns_no_attempt_and_pauses() {
    let starter = ScriptedStarter::by_script(|seen| {
        // The number of an attempt that did not count is given again.
        assert_eq!(seen.number, 1);
        Plan::error(StartErrorClass::Pressure).without_begin()
    });
    let scheduler = scheduler(&starter).await;
    let guid = scheduler.submit(job(1)).unwrap().await.unwrap().guid;
    tokio::time::sleep(10 * SECOND).await;
    let tries = starter.seen().len();
    assert!((10..=30).contains(&tries), "about one a second in the end, not {tries}");
    let pending = record(&scheduler, guid).await;
    assert_eq!((pending.attempt, pending.starting_at), (0, None));
    assert_eq!(pending.last_error.unwrap().class, ErrorClass::Pressure);
}

#[tokio::test(start_paused = true)]
async fn waits_between_attempts_are_bounded_and_retry_after_is_obeyed() {
    let begins = |starter: &ScriptedStarter| -> Vec<Duration> {
        let begun: Vec<_> = starter.seen().iter().map(|seen| seen.begun.unwrap()).collect();
        begun.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    let starter = ScriptedStarter::by_script(|_| Plan::error(StartErrorClass::NotStarted));
    play(&starter, job(1).max_attempts(12).backoff(SECOND, 20 * SECOND)).await;
    let waits = begins(&starter);
    assert_eq!(waits.len(), 11);
    for (n, wait) in waits.iter().enumerate() {
        let bound = (SECOND * 2_u32.pow(n as u32)).min(20 * SECOND) + 2 * MILLISECOND;
        assert!(*wait <= bound, "wait {n} is {wait:?}, more than {bound:?}");
    }
    assert!(waits.iter().any(|wait| *wait > SECOND), "{waits:?}");

    for (asked, expected) in [(90 * SECOND, 90 * SECOND), (30 * HOUR, HOUR)] {
        let starter = ScriptedStarter::by_script(move |_| Plan {
            answer: Answer::Error(StartError {
                retry_after: Some(asked),
                ..StartError::not_started("later")
            }),
            ..Plan::STARTED
        });
        play(&starter, job(1).max_attempts(2)).await;
        let wait = begins(&starter)[0];
        assert!(wait >= expected && wait < expected + 2 * SECOND, "{wait:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_timeout_is_ambiguous_after_the_beginning_and_not_before_it() {
    let hang = || Plan { answer: Answer::Hang, ..Plan::STARTED };
    for (delivery, begin, state, class) in [
        (Delivery::AtMostOnce, true, State::Unknown, ErrorClass::Ambiguous),
        (Delivery::AtMostOnce, false, State::Failed, ErrorClass::NotStarted),
        (Delivery::AtLeastOnce, true, State::Failed, ErrorClass::Ambiguous),
    ] {
        let starter = ScriptedStarter::by_script(move |_| Plan { begin, ..hang() });
        let spec = job(1).delivery(delivery).start_timeout(3 * SECOND).max_attempts(2);
        let ended = play(&starter, spec.backoff(SECOND, SECOND)).await;
        assert_eq!((ended.state, ended.last_error.unwrap().class), (state, class), "{delivery:?} {begin}");
        assert_eq!(ended.starting_at.is_some(), begin);
        let attempts = if state == State::Unknown { 1 } else { 2 };
        assert_eq!(ended.attempt, attempts);
        let lasted = ended.ended_at.unwrap().saturating_since(ended.queued_at);
        assert!(lasted >= 3 * SECOND * attempts && lasted < 4 * SECOND * attempts, "{lasted:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_be_dropped_is_waited_for() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED.taking(HOUR))
        .with(|defaults| defaults.abandonable = false);
    let ended = play(&starter, job(1).start_timeout(SECOND)).await;
    assert_eq!((ended.state, ended.attempt, ended.took_us), (State::Started, 1, Some(3_600_000_000)));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_outcome_and_holds_no_permit() {
    for answer in [Answer::Panic, Answer::PanicAtOnce] {
        let script = answer.clone();
        let starter = ScriptedStarter::by_script(move |_| Plan { answer: script.clone(), ..Plan::STARTED });
        let ended = play(&starter, job(1).max_attempts(2)).await;
        assert_eq!((ended.state, ended.attempt), (State::Failed, 2), "{answer:?}");
        let error = ended.last_error.unwrap();
        assert_eq!(error.class, ErrorClass::Ambiguous);
        assert!(error.message.contains("as the script says"), "{}", error.message);
        let ended = play(&starter, job(1).delivery(Delivery::AtMostOnce)).await;
        assert_eq!((ended.state, ended.attempt), (State::Unknown, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_starter_that_does_not_say_when_it_began_began_when_it_ended() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED.without_begin().taking(SECOND));
    let ended = play(&starter, job(1)).await;
    assert_eq!((ended.state, ended.took_us, ended.starting_at), (State::Started, Some(0), ended.started_at));
    assert!(ended.wait_us.unwrap() >= 1_000_000);
}

#[tokio::test(start_paused = true)]
async fn no_start_begins_after_its_deadline() {
    // Before it begins: the starter takes its time to get there.
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let scheduler = scheduler(&starter).await;
    let guid = scheduler.submit(job(1).expires_in(5 * SECOND)).unwrap().guid();
    let attempt = attempts.next().await;
    tokio::time::sleep(5 * SECOND).await;
    let refused = attempt.begin().unwrap_err();
    assert_eq!(refused.class, StartErrorClass::Expired);
    attempt.error(refused);
    scheduler.idle().await.unwrap();
    assert_eq!(record(&scheduler, guid).await.state, State::Expired);

    // While its queue is full, to the millisecond.
    let blocked = scheduler.submit(job(2).queue("full")).unwrap().await.unwrap().guid;
    let holds = attempts.next().await;
    scheduler
        .set_queue_limits("full", Some(sendoff::QueueLimits { max_in_flight: Some(1), ..Default::default() }))
        .await
        .unwrap();
    let guid = scheduler.submit(job(3).queue("full").expires_in(SECOND)).unwrap().guid();
    let ended = scheduler.started(guid).await.unwrap_err();
    assert!(matches!(ended, sendoff::NotStarted::Expired(_)), "{ended:?}");
    let ended = record(&scheduler, guid).await;
    let late = ended.ended_at.unwrap().saturating_since(ended.expires_at.unwrap());
    assert!(late <= 2 * MILLISECOND, "{late:?}");
    holds.started();
    scheduler.started(blocked).await.unwrap();
    quiet().await;
    assert!(attempts.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_retry_past_the_deadline_ends_the_job_with_its_error() {
    for class in [StartErrorClass::NotStarted, StartErrorClass::Ambiguous] {
        let starter = ScriptedStarter::by_script(move |_| Plan {
            answer: Answer::Error(StartError { retry_after: Some(HOUR), ..StartError::new(class, "no") }),
            ..Plan::STARTED
        });
        let ended = play(&starter, job(1).expires_in(60 * SECOND)).await;
        assert_eq!((ended.state, ended.attempt), (State::Failed, 1));
        assert!(ended.last_error.is_some());
        assert!(ended.ended_at.unwrap() < ended.expires_at.unwrap(), "at once");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_does_not_expire() {
    // The first attempt is ambiguous, the second is refused by the deadline right before it begins.
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let scheduler = scheduler(&starter).await;
    let guid = scheduler.submit(job(1).expires_in(5 * SECOND)).unwrap().guid();
    let first = attempts.next().await;
    first.begin().unwrap();
    first.error(StartError::ambiguous("no answer"));
    let second = attempts.next().await;
    tokio::time::sleep(5 * SECOND).await;
    let refused = second.begin().unwrap_err();
    second.error(refused);
    let ended = scheduler.started(guid).await.unwrap_err();
    assert!(matches!(ended, sendoff::NotStarted::Failed(_)), "{ended:?}");
}
