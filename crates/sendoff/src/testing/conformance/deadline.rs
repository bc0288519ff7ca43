//! T9 for jobs that wait.

use super::words::{ALL, begun, retry, unbegun};
use crate::{
    job::Job,
    state::State,
    testing::model::{Model, at, job},
};

pub(super) async fn the_deadline_is_exclusive(model: &mut Model) {
    let id = model.submit(Job { expires_at: Some(at(20)), ..job(1) }).await;
    model.submit(Job { expires_at: Some(at(30)), run_at: at(25), ..job(2) }).await;
    model.submit(job(3)).await;
    let expired = model.expire(ALL, at(19)).await;
    assert!(expired.ended.is_empty());
    assert_eq!(expired.next, Some(at(20)));
    assert!(model.claim(&[id], at(20)).await[0].is_none());
    let expired = model.expire(ALL, at(20)).await;
    assert_eq!(expired.ended.len(), 1);
    assert_eq!((expired.ended[0].0, expired.ended[0].3), (id, State::Expired));
    assert_eq!(expired.next, Some(at(30)));
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.state, record.ended_at, record.attempt), (State::Expired, Some(at(20)), 0));
    model.verify(at(40)).await;
    assert_eq!(model.expire(ALL, at(40)).await.next, None);
    model.verify(at(40)).await;
}

pub(super) async fn expire_works_in_steps(model: &mut Model) {
    for n in 0..5_u64 {
        model.submit(Job { expires_at: Some(at(10 + n.cast_signed())), ..job(n) }).await;
    }
    // What is starting has begun in time, or is told by its attempt.
    let starting = model.submit(Job { expires_at: Some(at(10)), ..job(5) }).await;
    model.claim_one(starting, at(5)).await;
    for left in [3, 1, 0] {
        let expired = model.expire(2, at(50)).await;
        assert_eq!(expired.next.is_some(), left > 0, "{expired:?}");
        model.verify(at(50)).await;
    }
    assert_eq!(model.row(starting).life.state, State::Starting);
    model.crash_and_reopen().await;
    model.verify(at(50)).await;
}

pub(super) async fn an_attempt_that_may_have_happened_fails(model: &mut Model) {
    let mut ids = Vec::new();
    for n in 0..3 {
        let id = model.submit(Job { expires_at: Some(at(90)), ..job(n) }).await;
        model.claim_one(id, at(1)).await;
        ids.push(id);
    }
    model.settle_one(begun(ids[0], 1, 2, retry(50, true)), at(3)).await;
    model.settle_one(unbegun(ids[1], 1, retry(50, false)), at(3)).await;
    model.crash_and_reopen().await;
    assert_eq!(model.reclaim(ALL, at(4)).await, 1);
    assert_eq!(model.expire(ALL, at(90)).await.ended.len(), 3);
    let states: Vec<_> = ids.iter().map(|id| model.row(*id).life.state).collect();
    assert_eq!(states, [State::Failed, State::Expired, State::Failed]);
    model.verify(at(90)).await;
}
