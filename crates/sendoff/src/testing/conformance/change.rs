//! Reschedule, and T12.

use super::words::{ALL, begun, retry, started, unbegun, unknown};
use crate::{
    job::{Delivery, Job},
    state::{Resolution, State},
    testing::model::{Model, at, job},
};

pub(super) async fn a_reschedule_moves_the_job(model: &mut Model) {
    let id = model.submit(Job { run_at: at(100), ..job(1) }).await;
    model.submit(Job { run_at: at(50), ..job(2) }).await;
    let changed = model.reschedule(job(1).guid, at(10), at(5)).await.expect("it is there");
    assert!(changed.applied);
    assert_eq!(changed.header.map(|header| header.next_at), Some(at(10)));
    assert_eq!((changed.record.run_at, changed.record.next_at), (at(10), at(10)));
    model.verify(at(60)).await;
    model.reschedule(job(1).guid, at(200), at(5)).await;
    assert!(model.claim(&[id], at(100)).await[0].is_none());
    model.verify(at(100)).await;
    // After a retry it moves the next attempt, too.
    model.claim_one(id, at(200)).await;
    model.settle_one(unbegun(id, 1, retry(500, false)), at(210)).await;
    model.reschedule(job(1).guid, at(300), at(220)).await;
    model.crash_and_reopen().await;
    let claimed = model.claim(&[id], at(300)).await;
    assert_eq!(claimed[0].as_ref().map(|claimed| (claimed.run_at, claimed.attempt)), Some((at(300), 2)));
    model.verify(at(300)).await;
}

pub(super) async fn only_pending_is_rescheduled(model: &mut Model) {
    let id = model.submit(job(1)).await;
    model.claim_one(id, at(1)).await;
    let changed = model.reschedule(job(1).guid, at(50), at(2)).await.expect("it is there");
    assert!(!changed.applied && changed.header.is_none());
    assert_eq!((changed.record.state, changed.record.run_at), (State::Starting, at(0)));
    model.settle_one(begun(id, 1, 2, started(3)), at(4)).await;
    let changed = model.reschedule(job(1).guid, at(50), at(5)).await.expect("it is there");
    assert!(!changed.applied && changed.header.is_none());
    assert_eq!(model.reschedule(job(2).guid, at(50), at(6)).await, None);
    model.verify(at(60)).await;
}

pub(super) async fn a_resolve_decides(model: &mut Model) {
    let decisions = [
        (Resolution::Started, State::Started),
        (Resolution::Failed, State::Failed),
        (Resolution::Pending, State::Pending),
    ];
    for (n, (to, state)) in (0..).zip(decisions) {
        let id = model.submit(Job { delivery: Delivery::AtMostOnce, max_attempts: 1, ..job(n) }).await;
        model.claim_one(id, at(1)).await;
        model.settle_one(begun(id, 1, 2, unknown()), at(3)).await;
        let changed = model.resolve(job(n).guid, to, at(9)).await.expect("it is there");
        assert!(changed.applied && changed.record.possible_duplicate);
        assert_eq!((changed.record.state, changed.record.fence), (state, 2));
        assert_eq!(changed.record.ended_at, state.is_final().then_some(at(9)));
        // The old attempt has nothing to say any more.
        assert!(!model.settle_one(begun(id, 1, 2, started(4)), at(10)).await);
        assert!(!model.resolve(job(n).guid, to, at(11)).await.expect("it is there").applied);
        if state == State::Pending {
            assert_eq!(changed.header.map(|header| header.next_at), Some(at(9)));
            // One more attempt, whatever was spent.
            let claimed = model.claim(&[id], at(9)).await;
            assert_eq!(claimed[0].as_ref().map(|claimed| (claimed.fence, claimed.attempt)), Some((3, 1)));
        }
        model.verify(at(20)).await;
    }
}

pub(super) async fn only_unknown_is_resolved(model: &mut Model) {
    let id = model.submit(job(1)).await;
    for to in [Resolution::Started, Resolution::Failed, Resolution::Pending] {
        assert!(!model.resolve(job(1).guid, to, at(1)).await.expect("it is there").applied);
        assert_eq!(model.resolve(job(2).guid, to, at(1)).await, None);
    }
    model.claim_one(id, at(2)).await;
    assert!(!model.resolve(job(1).guid, Resolution::Pending, at(3)).await.expect("it is there").applied);
    model.crash_and_reopen().await;
    model.reclaim(ALL, at(4)).await;
    model.verify(at(5)).await;
}
