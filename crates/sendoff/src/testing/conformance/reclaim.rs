//! T10: what a crash leaves behind.

use std::sync::Arc;

use super::words::{ALL, begun, released, retry, started, unbegun};
use crate::{
    job::{Delivery, ErrorClass, Job},
    ports::{InsertBatch, NewJob},
    state::{Resolution, State},
    testing::model::{Model, NODE, at, job},
};

pub(super) async fn only_what_was_starting(model: &mut Model) {
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(model.submit(job(n)).await);
    }
    model.claim(&[ids[1], ids[2], ids[3]], at(1)).await;
    model.settle_one(begun(ids[2], 1, 2, started(3)), at(4)).await;
    model.settle_one(begun(ids[3], 1, 2, retry(9, false)), at(4)).await;
    assert_eq!(model.reclaim(ALL, at(5)).await, 0, "nobody died");
    model.crash_and_reopen().await;
    assert_eq!(model.reclaim(ALL, at(6)).await, 1);
    assert_eq!(model.reclaim(ALL, at(7)).await, 0, "it is reclaimed once");
    model.verify(at(9)).await;
}

pub(super) async fn works_in_steps(model: &mut Model) {
    for n in 0..5 {
        let delivery = if n % 2 == 0 { Delivery::AtLeastOnce } else { Delivery::AtMostOnce };
        let id = model.submit(Job { delivery, ..job(n) }).await;
        model.claim_one(id, at(1)).await;
    }
    model.crash_and_reopen().await;
    assert_eq!(model.reclaim(2, at(2)).await, 2);
    // A crash while reclaiming: the rest is found again.
    model.crash_and_reopen().await;
    assert_eq!(model.reclaim(2, at(3)).await, 2);
    assert_eq!(model.reclaim(2, at(4)).await, 1);
    assert_eq!(model.reclaim(2, at(5)).await, 0);
    model.verify(at(9)).await;
}

pub(super) async fn keeps_the_fence(model: &mut Model) {
    let id = model.submit(Job { run_at: at(1), ..job(1) }).await;
    model.claim_one(id, at(2)).await;
    model.crash_and_reopen().await;
    model.reclaim(ALL, at(5)).await;
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.state, record.fence, record.attempt, record.crashes), (State::Pending, 1, 1, 1));
    assert_eq!((record.node, record.next_at), (None, at(1)));
    assert!(record.possible_duplicate);
    assert_eq!(record.last_error.map(|error| (error.class, error.at)), Some((ErrorClass::Crash, at(5))));
    // The attempt was alive after all: its outcome counts, as nobody has claimed since.
    assert!(!model.settle_one(begun(id, 1, 3, retry(9, true)), at(6)).await);
    assert!(model.settle_one(begun(id, 1, 3, started(4)), at(7)).await);
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.state, record.crashes, record.started_at), (State::Started, 0, Some(at(4))));
    model.verify(at(9)).await;

    // Once claimed again it does not.
    let id = model.submit(job(2)).await;
    model.claim_one(id, at(2)).await;
    model.crash_and_reopen().await;
    model.reclaim(ALL, at(5)).await;
    assert_eq!(model.claim_one(id, at(6)).await, 2);
    assert!(!model.settle_one(begun(id, 1, 3, started(4)), at(7)).await);
    assert!(model.settle_one(begun(id, 2, 6, started(8)), at(9)).await);
    model.verify(at(9)).await;
}

pub(super) async fn at_most_once_is_unknown(model: &mut Model) {
    let id = model.submit(Job { delivery: Delivery::AtMostOnce, ..job(1) }).await;
    model.claim_one(id, at(2)).await;
    model.crash_and_reopen().await;
    model.reclaim(ALL, at(5)).await;
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.state, record.fence, record.ended_at), (State::Unknown, 1, Some(at(5))));
    assert!(model.claim(&[id], at(6)).await[0].is_none());
    model.verify(at(6)).await;
    assert!(!model.settle_one(unbegun(id, 1, released(9)), at(7)).await);
    assert!(model.settle_one(begun(id, 1, 3, started(4)), at(8)).await);
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.state, record.ended_at), (State::Started, Some(at(8))));
    model.verify(at(9)).await;
}

pub(super) async fn poison(model: &mut Model) {
    // Under at_most_once each crash leaves it unknown, and an operator tries it again.
    for (n, delivery, between, end) in [
        (1, Delivery::AtLeastOnce, State::Pending, State::Failed),
        (2, Delivery::AtMostOnce, State::Unknown, State::Unknown),
    ] {
        let id = model.submit(Job { max_attempts: 100, delivery, ..job(n) }).await;
        for crashes in 1..=3 {
            model.claim_one(id, at(1)).await;
            model.crash_and_reopen().await;
            model.reclaim(ALL, at(1)).await;
            let record = model.get(job(n).guid).await.expect("it is there");
            let (state, class) =
                if crashes == 3 { (end, ErrorClass::Poison) } else { (between, ErrorClass::Crash) };
            assert_eq!((record.state, record.crashes), (state, crashes));
            assert_eq!(record.last_error.map(|error| error.class), Some(class));
            if crashes == 3 {
                break;
            }
            model.resolve(job(n).guid, Resolution::Pending, at(1)).await;
            let due = model.store().due(None, at(9), ALL).await.expect("due");
            assert_eq!(due[0].alone, crashes == 2, "started alone after two crashes");
        }
    }
    // A settled attempt ends the row of crashes; attempts that are spent end the job.
    let id = model.submit(job(3)).await;
    for now in [10, 20] {
        model.claim_one(id, at(now)).await;
        model.crash_and_reopen().await;
        model.reclaim(ALL, at(now + 1)).await;
    }
    model.claim_one(id, at(30)).await;
    model.settle_one(begun(id, 3, 30, retry(40, false)), at(31)).await;
    assert_eq!(model.get(job(3).guid).await.map(|record| record.crashes), Some(0));
    let id = model.submit(Job { max_attempts: 1, ..job(4) }).await;
    model.claim_one(id, at(40)).await;
    model.crash_and_reopen().await;
    model.reclaim(ALL, at(41)).await;
    let record = model.get(job(4).guid).await.expect("it is there");
    assert_eq!(record.state, State::Failed);
    assert_eq!(record.last_error.map(|error| error.class), Some(ErrorClass::Crash));
    model.verify(at(50)).await;
}

pub(super) async fn not_what_was_claimed_since(model: &mut Model) {
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(model.submit(job(n)).await);
    }
    model.claim(&ids[..2], at(1)).await;
    model.crash_and_reopen().await;
    // One more is claimed, one comes in claimed, and one orphan is given back and claimed again.
    model.claim_one(ids[2], at(2)).await;
    let jobs = vec![NewJob { job: Arc::new(job(3)), claim: Some(NODE.into()) }];
    model.insert(InsertBatch { jobs, atomic: false, bookmark: None, now: at(3) }).await;
    assert!(model.settle_one(unbegun(ids[0], 1, released(4)), at(4)).await);
    assert_eq!(model.claim_one(ids[0], at(5)).await, 2);
    assert_eq!(model.reclaim(ALL, at(6)).await, 1);
    assert_eq!(model.row(ids[1]).life.state, State::Pending);
    assert_eq!(model.row(ids[0]).life.state, State::Starting);
    model.verify(at(7)).await;
}
