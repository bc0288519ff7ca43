//! What a job was granted comes back with it, whatever happened in between.

use std::sync::Arc;

use super::words::{ALL, batch, prune_before, released, unbegun};
use crate::{
    job::{Grant, Job},
    ports::{Inserted, NewJob},
    testing::model::{Model, NODE, at, grant, job},
};

fn granted(n: u64, grant: Option<Arc<Grant>>) -> Job {
    Job { grant, ..job(n) }
}

pub(super) async fn come_with_claims(model: &mut Model) {
    // Equal ones that are not the same one, and jobs without any between them.
    let jobs = (0..9).map(|n| granted(n, (n % 3 > 0).then(|| grant(n % 3))));
    model.insert(batch(jobs, true)).await;
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    let claimed = model.claim(&ids[..3], at(1)).await;
    let grants: Vec<_> = claimed.into_iter().flatten().map(|claimed| claimed.job.grant.clone()).collect();
    assert_eq!(grants, [None, Some(grant(1)), Some(grant(2))]);
    model.crash_and_reopen().await;
    model.claim(&ids[3..6], at(2)).await;
    // And after another attempt.
    assert_eq!(model.reclaim(ALL, at(3)).await, 3);
    model.claim(&ids, at(4)).await;
    model.settle_one(unbegun(ids[7], 1, released(5)), at(5)).await;
    model.crash_and_reopen().await;
    let claimed = model.claim(&[ids[7]], at(6)).await;
    assert_eq!(claimed[0].as_ref().and_then(|claimed| claimed.job.grant.clone()), Some(grant(1)));
    model.verify(at(7)).await;
}

pub(super) async fn nothing_is_not_everything(model: &mut Model) {
    // A grant of nothing is another thing than none.
    let nothing = Arc::new(Grant::default());
    let ids = [
        model.submit(granted(1, Some(nothing.clone()))).await,
        model.submit(granted(2, None)).await,
        model.submit(granted(3, Some(grant(3)))).await,
    ];
    model.crash_and_reopen().await;
    let claimed = model.claim(&ids, at(1)).await;
    let grants: Vec<_> = claimed.into_iter().flatten().map(|claimed| claimed.job.grant.clone()).collect();
    assert_eq!(grants, [Some(nothing), None, Some(grant(3))]);
}

pub(super) async fn the_first_submit_grants(model: &mut Model) {
    // The same content from a caller who may reach more is the same job, as it was granted first.
    let id = model.submit(granted(1, Some(grant(1)))).await;
    let again = model.insert(batch([granted(1, Some(grant(9))), granted(1, None)], false)).await;
    assert_eq!(again, [Inserted::Existing(job(1).guid), Inserted::Existing(job(1).guid)]);
    model.crash_and_reopen().await;
    let claimed = model.claim_one(id, at(1)).await;
    assert_eq!(claimed, 1);
    // A guid that is free again has nothing left of it.
    model.settle_one(unbegun(id, 1, released(2)), at(2)).await;
    model.cancel(&[job(1).guid], at(3)).await;
    model.prune(prune_before(at(4))).await;
    let id = model.submit(granted(1, Some(grant(2)))).await;
    model.claim_one(id, at(5)).await;
}

pub(super) async fn known_ones_are_found_again(model: &mut Model) {
    let (mut ids, jobs) = (Vec::new(), [4, 2, 8, 2, 4, 8]);
    for (n, which) in (0..).zip(jobs) {
        ids.push(model.submit(granted(n, Some(grant(which)))).await);
        model.crash_and_reopen().await;
    }
    model.claim(&ids, at(1)).await;
    let claimed = NewJob { job: Arc::new(granted(9, Some(grant(2)))), claim: Some(NODE.into()) };
    model.insert(crate::ports::InsertBatch { jobs: vec![claimed], ..batch([], true) }).await;
    model.crash_and_reopen().await;
    model.reclaim(ALL, at(2)).await;
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    model.claim(&ids, at(3)).await;
}
