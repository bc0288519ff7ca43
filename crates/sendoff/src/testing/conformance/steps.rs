//! T2 to T8 and T11, one by one, with literal records.

use super::words::{ALL, begun, error, failed, released, retry, started, unbegun, unknown};
use crate::{
    job::{Delivery, ErrorClass, Job, JobId, Receipt},
    ports::{CancelVerdict, Settlement},
    state::{Begun, Outcome, State},
    testing::model::{Model, at, job},
};

pub(super) async fn a_claim_needs_a_due_job(model: &mut Model) {
    let id = model.submit(Job { run_at: at(10), ..job(1) }).await;
    let late = model.submit(Job { run_at: at(10), expires_at: Some(at(20)), ..job(2) }).await;
    let last = model.submit(Job { run_at: at(10), expires_at: Some(at(20)), ..job(3) }).await;
    assert!(model.claim(&[id], at(9)).await[0].is_none());
    assert!(model.claim(&[late], at(20)).await[0].is_none());
    model.verify(at(20)).await;
    let claimed = model.claim(&[id, last], at(10)).await;
    assert!(claimed.iter().all(Option::is_some), "{claimed:?}");
    assert!(model.claim(&[id], at(11)).await[0].is_none(), "claimed twice");
    assert!(model.claim(&[late], at(19)).await[0].is_some());
    model.verify(at(20)).await;
}

pub(super) async fn an_older_fence_changes_nothing(model: &mut Model) {
    let id = model.submit(job(1)).await;
    model.claim_one(id, at(1)).await;
    assert!(model.settle_one(unbegun(id, 1, released(2)), at(2)).await);
    assert_eq!(model.claim_one(id, at(3)).await, 2);
    for fence in [0, 1, 3] {
        for outcome in [started(4), retry(9, true), failed(false), unknown(), Outcome::Expired, released(9)] {
            assert!(!model.settle_one(begun(id, fence, 3, outcome), at(5)).await, "fence {fence}");
        }
    }
    assert!(model.settle_one(begun(id, 2, 3, started(4)), at(5)).await);
}

pub(super) async fn the_record_of_a_start(model: &mut Model) {
    let id = model.submit(Job { run_at: at(10), delivery: Delivery::AtMostOnce, ..job(1) }).await;
    let claimed = model.claim(&[id], at(15)).await;
    let claimed = claimed[0].as_ref().expect("claimed");
    assert_eq!((claimed.fence, claimed.attempt, claimed.run_at), (1, 1, at(10)));
    let settlement = Settlement {
        id,
        fence: 1,
        begun: Some(Begun { starting_at: at(17), clock_skew_us: 3 }),
        outcome: Outcome::Started {
            started_at: at(27),
            receipt: Receipt { status: None, pid: Some(u32::MAX) },
        },
    };
    assert!(model.settle_one(settlement, at(30)).await);
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!(record.state, State::Started);
    assert_eq!((record.starting_at, record.started_at), (Some(at(17)), Some(at(27))));
    assert_eq!((record.wait_us, record.took_us, record.clock_skew_us), (Some(7), Some(10), 3));
    assert_eq!((record.claimed_at, record.ended_at), (Some(at(15)), Some(at(30))));
    assert_eq!(record.receipt, Some(Receipt { status: None, pid: Some(u32::MAX) }));
    assert_eq!((record.last_error, record.possible_duplicate, record.crashes), (None, false, 0));
    model.verify(at(31)).await;
}

pub(super) async fn the_record_of_retries(model: &mut Model) {
    let id = model.submit(Job { run_at: at(10), ..job(1) }).await;
    model.claim_one(id, at(12)).await;
    assert!(model.settle_one(unbegun(id, 1, retry(50, false)), at(14)).await);
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.state, record.attempt, record.possible_duplicate), (State::Pending, 1, false));
    assert_eq!((record.run_at, record.next_at, record.wait_us), (at(10), at(50), None));
    assert_eq!((record.node, record.claimed_at), (None, Some(at(12))));
    assert_eq!(record.last_error, Some(error(ErrorClass::NotStarted, 49)));
    model.verify(at(49)).await;
    assert!(model.claim(&[id], at(49)).await[0].is_none());

    assert_eq!(model.claim_one(id, at(50)).await, 2);
    assert!(model.settle_one(begun(id, 2, 60, retry(100, true)), at(70)).await);
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.possible_duplicate, record.wait_us), (true, Some(50)));
    assert_eq!((record.starting_at, record.attempt), (Some(at(60)), 2));

    // A release does not count, and the stamps of the attempt before it are gone.
    model.claim_one(id, at(100)).await;
    let pressure = Outcome::Released { next_at: at(110), error: Some(error(ErrorClass::Pressure, 101)) };
    assert!(model.settle_one(unbegun(id, 3, pressure), at(102)).await);
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.attempt, record.fence, record.starting_at), (2, 3, None));
    assert_eq!(record.last_error, Some(error(ErrorClass::Pressure, 101)));

    model.claim_one(id, at(110)).await;
    assert!(model.settle_one(begun(id, 4, 115, started(116)), at(117)).await);
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.wait_us, record.took_us, record.attempt), (Some(50), Some(1), 3));
    assert!(record.possible_duplicate && record.last_error.is_some());
    model.verify(at(118)).await;
}

pub(super) async fn stamps_follow_the_attempt(model: &mut Model) {
    // The wall clock stepped back: the store writes the stamps that it is given, and a job does
    // not end before it started.
    let id = model.submit(Job { queued_at: at(100), run_at: at(5), ..job(1) }).await;
    model.claim_one(id, at(40)).await;
    let begun = Some(Begun { starting_at: at(101), clock_skew_us: 56 });
    let settlement = Settlement { id, fence: 1, begun, outcome: started(120) };
    assert!(model.settle_one(settlement, at(60)).await);
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.wait_us, record.clock_skew_us), (Some(1), 56));
    assert_eq!(record.ended_at, Some(at(120)));
    assert!(Some(record.queued_at) < record.starting_at && record.starting_at <= record.started_at);
}

pub(super) async fn settling_twice_is_harmless(model: &mut Model) {
    let outcomes =
        [started(5), retry(9, true), retry(9, false), failed(true), unknown(), Outcome::Expired, released(9)];
    for (n, outcome) in (0..).zip(outcomes) {
        // A retried or released one is not reached by a repeat, whichever its delivery.
        let id = model.submit(Job { delivery: Delivery::AtLeastOnce, ..job(n) }).await;
        model.claim_one(id, at(1)).await;
        let settlement = begun(id, 1, 2, outcome);
        assert!(model.settle_one(settlement.clone(), at(5)).await);
        let once = model.get(job(n).guid).await;
        assert!(!model.settle_one(settlement, at(6)).await);
        assert_eq!(model.get(job(n).guid).await, once);
    }
    model.verify(at(9)).await;
}

pub(super) async fn each_of_a_call_stands_alone(model: &mut Model) {
    let mut ids = Vec::new();
    for n in 0..4 {
        let later = if n == 1 { at(50) } else { at(0) };
        ids.push(model.submit(Job { run_at: later, ..job(n) }).await);
    }
    let nobody = JobId(u64::from(u32::MAX));
    let claimed = model.claim(&[ids[3], ids[1], nobody, ids[0], ids[0], ids[2]], at(5)).await;
    let got: Vec<_> = claimed.iter().map(Option::is_some).collect();
    assert_eq!(got, [true, false, false, true, false, true]);
    let settlements = vec![
        begun(ids[0], 1, 6, started(7)),
        begun(ids[1], 1, 6, started(7)),
        begun(nobody, 1, 6, started(7)),
        begun(ids[2], 9, 6, started(7)),
        begun(ids[3], 1, 6, retry(20, false)),
        begun(ids[3], 1, 6, started(7)),
    ];
    let applied: Vec<_> =
        model.settle(settlements, at(8)).await.iter().map(|settled| settled.applied).collect();
    assert_eq!(applied, [true, false, false, false, true, false]);
    let guids = [job(0).guid, job(1).guid, job(9).guid, job(1).guid, job(3).guid];
    let verdicts = model.cancel(&guids, at(9)).await;
    assert!(matches!(verdicts[0], CancelVerdict::TooLate(_)));
    assert!(matches!(verdicts[1], CancelVerdict::Cancelled { id: Some(id), .. } if id == ids[1]));
    assert!(matches!(verdicts[2], CancelVerdict::NotFound));
    assert!(matches!(verdicts[3], CancelVerdict::Cancelled { id: None, .. }));
    assert!(matches!(verdicts[4], CancelVerdict::Cancelled { id: Some(id), .. } if id == ids[3]));
    model.verify(at(60)).await;
}

pub(super) async fn cancel_is_final(model: &mut Model) {
    let id = model.submit(Job { expires_at: Some(at(50)), ..job(1) }).await;
    let verdicts = model.cancel(&[job(1).guid], at(5)).await;
    assert!(matches!(&verdicts[..], [CancelVerdict::Cancelled { id: Some(by), record }]
        if *by == id && record.state == State::Cancelled && record.ended_at == Some(at(5))));
    let verdicts = model.cancel(&[job(1).guid], at(6)).await;
    assert!(matches!(&verdicts[..], [CancelVerdict::Cancelled { id: None, record }]
        if record.ended_at == Some(at(5))));
    assert!(model.claim(&[id], at(7)).await[0].is_none());
    assert!(model.expire(ALL, at(60)).await.ended.is_empty());
    model.verify(at(60)).await;

    // Starting: too late, but remembered, and at the first time.
    let id = model.submit(job(2)).await;
    model.claim_one(id, at(8)).await;
    for now in [9, 10] {
        let verdicts = model.cancel(&[job(2).guid], at(now)).await;
        assert!(matches!(&verdicts[..], [CancelVerdict::TooLate(record)]
            if record.state == State::Starting && record.cancel_requested_at == Some(at(9))));
    }
    assert!(model.settle_one(begun(id, 1, 8, started(11)), at(12)).await);
    let verdicts = model.cancel(&[job(2).guid], at(13)).await;
    assert!(matches!(&verdicts[..], [CancelVerdict::TooLate(record)] if record.state == State::Started));

    // An earlier attempt that may have happened is told.
    let id = model.submit(job(3)).await;
    model.claim_one(id, at(14)).await;
    model.settle_one(begun(id, 1, 14, retry(20, true)), at(15)).await;
    let verdicts = model.cancel(&[job(3).guid], at(16)).await;
    assert!(matches!(&verdicts[..], [CancelVerdict::Cancelled { record, .. }] if record.possible_duplicate));
    model.crash_and_reopen().await;
    model.verify(at(60)).await;
}

pub(super) async fn a_late_cancel_ends_every_way_back(model: &mut Model) {
    let ends = [
        (released(9), State::Cancelled),
        (retry(9, false), State::Cancelled),
        (retry(9, true), State::Cancelled),
        (failed(false), State::Failed),
        (started(5), State::Started),
        (unknown(), State::Unknown),
    ];
    for (n, (outcome, state)) in (0..).zip(ends) {
        let id = model.submit(job(n)).await;
        model.claim_one(id, at(1)).await;
        model.cancel(&[job(n).guid], at(2)).await;
        model.settle_one(begun(id, 1, 3, outcome), at(5)).await;
        assert_eq!(model.get(job(n).guid).await.map(|record| record.state), Some(state));
    }
    for (n, delivery, state) in
        [(10, Delivery::AtLeastOnce, State::Cancelled), (11, Delivery::AtMostOnce, State::Unknown)]
    {
        let id = model.submit(Job { delivery, ..job(n) }).await;
        model.claim_one(id, at(1)).await;
        model.cancel(&[job(n).guid], at(2)).await;
        model.crash_and_reopen().await;
        assert_eq!(model.reclaim(ALL, at(6)).await, 1);
        assert_eq!(model.get(job(n).guid).await.map(|record| record.state), Some(state));
    }
    model.verify(at(9)).await;
}
