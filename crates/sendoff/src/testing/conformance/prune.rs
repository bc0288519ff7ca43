//! T13.

use std::time::Duration;

use super::words::{ALL, batch, begun, failed, prune_before, started, unknown};
use crate::{
    job::{Job, JobId},
    ports::{Inserted, Prune},
    state::State,
    testing::model::{Model, at, job},
    time::Timestamp,
};

/// One job in each state: ended ones at `at(10)`.
async fn one_in_each_state(model: &mut Model) -> Vec<JobId> {
    let jobs = (0..7).map(|n| Job { expires_at: (n == 5).then_some(at(10)), ..job(n) });
    model.insert(batch(jobs, true)).await;
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    model.claim(&[ids[1], ids[2], ids[3], ids[6]], at(5)).await;
    model.settle_one(begun(ids[2], 1, 6, started(7)), at(10)).await;
    model.settle_one(begun(ids[3], 1, 6, failed(false)), at(10)).await;
    model.settle_one(begun(ids[6], 1, 6, unknown()), at(10)).await;
    model.cancel(&[job(4).guid], at(10)).await;
    model.expire(ALL, at(10)).await;
    let states: Vec<_> = ids.iter().map(|id| model.row(*id).life.state).collect();
    assert_eq!(states, State::ALL);
    ids
}

pub(super) async fn only_final_and_only_before(model: &mut Model) {
    one_in_each_state(model).await;
    let far = at(0).saturating_add(Duration::from_secs(50 * 365 * 86_400));
    model.submit(Job { run_at: far, ..job(20) }).await;
    assert_eq!(model.prune(prune_before(at(10))).await, 0, "ended at the very instant");
    model.verify(at(11)).await;
    assert_eq!(model.prune(prune_before(at(11))).await, 4);
    model.verify(at(11)).await;
    assert_eq!(model.prune(prune_before(Timestamp::MAX)).await, 0);
    let states: Vec<_> = model.rows().iter().map(|row| row.life.state).collect();
    assert_eq!(states, [State::Pending, State::Starting, State::Unknown, State::Pending]);
    model.crash_and_reopen().await;
    model.verify(at(11)).await;
}

pub(super) async fn unknown_only_if_asked(model: &mut Model) {
    one_in_each_state(model).await;
    assert_eq!(model.prune(Prune { unknown_too: true, ..prune_before(at(10)) }).await, 0);
    assert_eq!(model.prune(Prune { unknown_too: true, ..prune_before(at(11)) }).await, 5);
    model.verify(at(11)).await;
}

pub(super) async fn one_submitter(model: &mut Model) {
    let jobs = (0..9).map(|n| {
        let submitted_by = [None, Some("ann".into()), Some("bob".into())][n as usize % 3].clone();
        Job { submitted_by, ..job(n) }
    });
    model.insert(batch(jobs, true)).await;
    let guids: Vec<_> = (0..9).map(|n| job(n).guid).collect();
    model.cancel(&guids[..6], at(5)).await;
    let prune = Prune { submitted_by: Some("ann".to_owned()), ..prune_before(at(9)) };
    assert_eq!(model.prune(Prune { limit: 1, ..prune.clone() }).await, 1);
    assert_eq!(model.prune(prune.clone()).await, 1);
    assert_eq!(model.prune(prune).await, 0);
    model.verify(at(9)).await;
    assert_eq!(model.rows().len(), 7);
}

pub(super) async fn in_steps(model: &mut Model) {
    model.insert(batch((0..7).map(job), true)).await;
    let guids: Vec<_> = (0..7).map(|n| job(n).guid).collect();
    model.cancel(&guids, at(5)).await;
    for expected in [3, 3, 1, 0] {
        assert_eq!(model.prune(Prune { limit: 3, ..prune_before(at(9)) }).await, expected);
        model.verify(at(9)).await;
    }
    let counts = model.store().counts().await.expect("counts");
    assert!(counts.queues.is_empty(), "zeros are left out: {counts:?}");
}

pub(super) async fn a_pruned_guid_is_free(model: &mut Model) {
    let keyed = Job { idempotency_key: Some("key".into()), ..job(1) };
    let id = model.submit(keyed.clone()).await;
    model.cancel(&[keyed.guid], at(5)).await;
    assert_eq!(model.insert(batch([keyed.clone()], false)).await, [Inserted::Existing(keyed.guid)]);
    assert_eq!(model.prune(prune_before(at(6))).await, 1);
    assert!(model.claim(&[id], at(7)).await[0].is_none());
    assert!(!model.settle_one(begun(id, 1, 7, started(8)), at(9)).await);
    // New, also with other content, and under another number.
    let other = Job { guid: job(1).guid, idempotency_key: Some("key".into()), ..job(2) };
    assert!(model.submit(other).await > id);
    model.crash_and_reopen().await;
    model.verify(at(9)).await;
}
