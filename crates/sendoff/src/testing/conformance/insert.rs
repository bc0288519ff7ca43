//! T1: new jobs, repeats and conflicts.

use std::sync::Arc;

use super::words::{ALL, batch, started, unbegun};
use crate::{
    job::{Job, Lane},
    ports::{Conflict, Filter, InsertBatch, Inserted, NewJob},
    state::State,
    testing::model::{Model, NODE, at, job, lane},
};

pub(super) async fn a_new_job_is_pending(model: &mut Model) {
    let destination = Some("example.org:443".into());
    let lane = Arc::new(Lane { queue: "mail".into(), starter: "http".into(), destination });
    let all = Job {
        idempotency_key: Some("k \u{1F511} '\"".into()),
        lane,
        priority: 9,
        max_attempts: 7,
        run_at: at(50),
        expires_at: Some(at(90)),
        submitted_by: Some("someone".into()),
        ..job(1)
    };
    let guid = all.guid;
    let id = model.submit(all).await;
    model.submit(job(2)).await;
    let record = model.get(guid).await.expect("it is there");
    assert_eq!((record.state, record.fence, record.attempt), (State::Pending, 0, 0));
    assert_eq!((record.run_at, record.next_at, record.queued_at), (at(50), at(50), at(0)));
    assert_eq!((&*record.queue, &*record.starter), ("mail", "http"));
    assert_eq!(record.target.as_deref(), Some("example.org:443"));
    assert_eq!(record.labels.get("parity").map(String::as_str), Some("odd"));
    assert_eq!((record.claimed_at, record.started_at, record.ended_at), (None, None, None));
    assert_eq!(record.submitted_by.as_deref(), Some("someone"));
    model.verify(at(60)).await;
    model.claim_one(id, at(60)).await;
}

pub(super) async fn the_same_content_twice_is_one_job(model: &mut Model) {
    let first = Job { idempotency_key: Some("key".into()), ..job(1) };
    let id = model.submit(first.clone()).await;
    // Equal as JSON, not as text; what is not content may differ.
    let respelt: Arc<str> = format!(" {} ", first.request.replace(':', " : ")).into();
    let respelt = Job { request: respelt, queued_at: at(5), run_at: at(5), ..first.clone() };
    let by_key = Job { guid: job(2).guid, ..respelt.clone() };
    let by_guid = Job { idempotency_key: Some("another".into()), ..first.clone() };
    for (again, atomic) in [(first, true), (respelt, true), (by_key, false), (by_guid, false)] {
        let verdicts = model.insert(batch([again], atomic)).await;
        assert_eq!(verdicts, [Inserted::Existing(job(1).guid)]);
    }
    // Also when it is final.
    model.claim_one(id, at(6)).await;
    model.settle_one(unbegun(id, 1, started(7)), at(8)).await;
    let verdicts = model.insert(batch([job(1)], false)).await;
    assert_eq!(verdicts, [Inserted::Existing(job(1).guid)]);
    model.verify(at(9)).await;
}

pub(super) async fn other_content_is_a_conflict(model: &mut Model) {
    model.submit(Job { idempotency_key: Some("key".into()), ..job(1) }).await;
    let same_guid = Job { guid: job(1).guid, ..job(2) };
    let same_key = Job { idempotency_key: Some("key".into()), ..job(3) };
    for atomic in [false, true] {
        for (other, field) in [(same_guid.clone(), "guid"), (same_key.clone(), "idempotency_key")] {
            let verdicts = model.insert(batch([other], atomic)).await;
            let conflict = Conflict { with: job(1).guid, with_item: None, field };
            assert_eq!(verdicts, [Inserted::Conflict(conflict)]);
        }
    }
    model.verify(at(1)).await;
}

pub(super) async fn guid_and_key_of_two_jobs_conflict(model: &mut Model) {
    model.submit(job(1)).await;
    model.submit(Job { idempotency_key: Some("key".into()), ..job(2) }).await;
    // The content is that of the first; the key still names the second.
    let both = Job { idempotency_key: Some("key".into()), ..job(1) };
    let verdicts = model.insert(batch([both], false)).await;
    assert!(matches!(verdicts[..], [Inserted::Conflict(_)]), "{verdicts:?}");
    model.verify(at(1)).await;
}

pub(super) async fn equal_items_of_a_batch_are_one_job(model: &mut Model) {
    for (n, atomic) in [(10, true), (20, false)] {
        let keyed = Job { idempotency_key: Some(format!("key {n}").into()), ..job(n) };
        let same_key = Job { guid: job(n + 2).guid, ..keyed.clone() };
        let verdicts = model.insert(batch([keyed, job(n + 1), job(n + 1), same_key], atomic)).await;
        assert_eq!(verdicts[2], Inserted::Existing(job(n + 1).guid));
        assert_eq!(verdicts[3], Inserted::Existing(job(n).guid));
    }
    model.verify(at(1)).await;
}

pub(super) async fn an_atomic_batch_is_all_or_none(model: &mut Model) {
    model.submit(job(1)).await;
    let with_stored = Job { guid: job(1).guid, ..job(99) };
    let keyed = Job { idempotency_key: Some("key".into()), ..job(3) };
    let with_item = Job { idempotency_key: Some("key".into()), ..job(4) };
    let jobs = [job(2), with_stored, keyed, with_item, job(5)];
    let verdicts = model.insert(batch(jobs, true)).await;
    assert_eq!(verdicts[0], Inserted::Skipped);
    let conflict = Conflict { with: job(1).guid, with_item: None, field: "guid" };
    assert_eq!(verdicts[1], Inserted::Conflict(conflict));
    let conflict = Conflict { with: job(3).guid, with_item: Some(2), field: "idempotency_key" };
    assert_eq!(verdicts[3], Inserted::Conflict(conflict));
    assert_eq!(verdicts[4], Inserted::Skipped);
    assert_eq!(model.rows().len(), 1);
    model.verify(at(1)).await;
    // Nothing of it holds a guid or a key.
    let other_content = Job { idempotency_key: Some("key".into()), guid: job(2).guid, ..job(6) };
    model.submit(other_content).await;
    model.crash_and_reopen().await;
    model.verify(at(1)).await;
}

pub(super) async fn an_itemised_batch_keeps_the_rest(model: &mut Model) {
    let conflict = Job { guid: job(1).guid, ..job(99) };
    let verdicts = model.insert(batch([job(1), conflict, job(2)], false)).await;
    assert!(matches!(verdicts[0], Inserted::Created(_)));
    let conflict = Conflict { with: job(1).guid, with_item: Some(0), field: "guid" };
    assert_eq!(verdicts[1], Inserted::Conflict(conflict));
    assert!(matches!(verdicts[2], Inserted::Created(_)));
    assert_eq!(model.rows().len(), 2);
    model.crash_and_reopen().await;
    model.verify(at(1)).await;
}

pub(super) async fn a_bookmark_comes_with_its_batch(model: &mut Model) {
    let marked = |n, atomic, name: &str, value: &[u8]| {
        let clash = Job { guid: job(1).guid, ..job(100 + n) };
        let jobs = if n > 1 { vec![job(n), clash] } else { vec![job(n)] };
        InsertBatch { bookmark: Some((name.to_owned(), value.to_vec())), ..batch(jobs, atomic) }
    };
    model.insert(marked(1, true, "run", b"\x00one\xff")).await;
    model.insert(marked(2, true, "run", b"not kept")).await;
    model.insert(marked(3, true, "other", b"not kept either")).await;
    let bookmark = model.store().bookmark("run".to_owned()).await.expect("bookmark");
    assert_eq!(bookmark.as_deref(), Some(&b"\x00one\xff"[..]));
    assert_eq!(model.store().bookmark("other".to_owned()).await.expect("bookmark"), None);
    // A conflict in an itemised batch is an answer, no failure.
    model.insert(marked(4, false, "run", b"two")).await;
    // A batch may be nothing but a bookmark.
    model.insert(InsertBatch { bookmark: Some(("empty".to_owned(), Vec::new())), ..batch([], true) }).await;
    model.crash_and_reopen().await;
    let bookmark = model.store().bookmark("run".to_owned()).await.expect("bookmark");
    assert_eq!(bookmark.as_deref(), Some(&b"two"[..]));
    model.verify(at(1)).await;
}

pub(super) async fn a_job_claimed_as_it_is_inserted(model: &mut Model) {
    let claimed = |n| NewJob { job: Arc::new(job(n)), claim: Some(NODE.into()) };
    let jobs = vec![claimed(1), NewJob { job: Arc::new(job(2)), claim: None }, claimed(3)];
    let verdicts = model.insert(InsertBatch { jobs, atomic: true, bookmark: None, now: at(4) }).await;
    let [Inserted::Created(one), Inserted::Created(two), Inserted::Created(three)] = verdicts[..] else {
        panic!("not created: {verdicts:?}");
    };
    let record = model.get(job(1).guid).await.expect("it is there");
    assert_eq!((record.state, record.fence, record.attempt), (State::Starting, 1, 1));
    assert_eq!((record.claimed_at, record.node.as_deref()), (Some(at(4)), Some(NODE)));
    model.verify(at(5)).await;
    assert!(model.claim(&[one], at(5)).await[0].is_none());
    assert!(model.settle_one(unbegun(one, 1, started(6)), at(7)).await);
    model.claim_one(two, at(8)).await;
    // The repeat of a claimed one claims nothing.
    let jobs = vec![claimed(3)];
    let verdicts = model.insert(InsertBatch { jobs, atomic: false, bookmark: None, now: at(9) }).await;
    assert_eq!(verdicts, [Inserted::Existing(job(3).guid)]);
    model.crash_and_reopen().await;
    assert_eq!(model.reclaim(ALL, at(10)).await, 2);
    assert_eq!(model.row(three).life.state, State::Pending);
    model.verify(at(10)).await;
}

pub(super) async fn a_large_batch_keeps_its_order(model: &mut Model) {
    let queues = [lane("a"), lane("b"), lane("c")];
    let jobs = (0..2_500).map(|n| Job { lane: queues[n % 3].clone(), ..job(n as u64) });
    model.insert(batch(jobs, true)).await;
    model.submit(job(9_999)).await;
    let records = model.list(Filter::default(), 999, ALL).await;
    assert!(records.iter().map(|record| record.guid).eq(model.rows().iter().map(|row| row.job.guid)));
    let due = model.store().due(None, at(0), ALL).await.expect("due");
    assert!(due.iter().map(|header| header.id).eq(model.rows().iter().map(|row| row.id)));
}
