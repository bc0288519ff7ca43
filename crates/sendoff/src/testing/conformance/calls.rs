//! Calls as such: their order, dropped answers, crashes, unknown names.

use std::sync::Arc;

use super::words::{ALL, batch, begun, prune_before, released, retry, started, unbegun, unknown};
use crate::{
    job::{Delivery, Job, JobId},
    ports::{CancelVerdict, Claim, Durability, InsertBatch, Inserted, NewJob},
    state::{Resolution, State},
    testing::model::{Model, NODE, at, job},
};

fn by(micros: i64) -> Claim {
    Claim { node: NODE.into(), now: at(micros) }
}

pub(super) async fn effects_follow_the_order_of_calls(model: &mut Model) {
    let store = model.store();
    // A cancel of what is being inserted comes after it.
    let inserted = store.insert(batch([job(1)], false));
    let cancelled = store.cancel(vec![job(1).guid], at(1));
    let again = store.insert(batch([Job { guid: job(1).guid, ..job(2) }], false));
    assert!(matches!(again.await.expect("insert")[..], [Inserted::Conflict(_)]));
    let cancelled = cancelled.await.expect("cancel");
    let inserted = inserted.await.expect("insert");
    let [Inserted::Created(id)] = inserted[..] else { panic!("{inserted:?}") };
    assert!(
        matches!(&cancelled[..], [CancelVerdict::Cancelled { id: Some(by), .. }] if *by == id),
        "{cancelled:?}"
    );

    // Exactly one of claim and cancel wins, and the first call is the first.
    for (n, claim_first) in [(3, true), (4, false)] {
        let inserted = store.insert(batch([job(n)], true)).await.expect("insert");
        let [Inserted::Created(id)] = inserted[..] else { panic!("{inserted:?}") };
        let (claimed, cancelled) = if claim_first {
            let claimed = store.claim(vec![id], by(2));
            (claimed, store.cancel(vec![job(n).guid], at(3)))
        } else {
            let cancelled = store.cancel(vec![job(n).guid], at(3));
            (store.claim(vec![id], by(2)), cancelled)
        };
        let released = store.settle(vec![unbegun(id, 1, released(5))], at(4));
        let released = released.await.expect("settle");
        let (cancelled, claimed) = (cancelled.await.expect("cancel"), claimed.await.expect("claim"));
        assert_eq!(claimed[0].is_some(), claim_first);
        assert_eq!(matches!(cancelled[0], CancelVerdict::TooLate(_)), claim_first);
        assert_eq!((released[0].state, released[0].applied), (State::Cancelled, claim_first));
    }

    // Many at once, with answers awaited from the last to the first.
    let answers: Vec<_> = (100..200).map(|n| store.insert(batch([job(n)], n % 2 == 0))).collect();
    let mut ids = Vec::new();
    for answer in answers.into_iter().rev() {
        match answer.await.expect("insert")[..] {
            [Inserted::Created(id)] => ids.push(id),
            ref other => panic!("{other:?}"),
        }
    }
    assert!(ids.is_sorted_by(|later, earlier| later > earlier), "ids follow the order of the calls");
}

pub(super) async fn a_dropped_answer_is_no_undo(model: &mut Model) {
    let store = model.store();
    drop(store.insert(batch([job(1)], true)));
    let marked = InsertBatch { bookmark: Some(("mark".to_owned(), b"1".to_vec())), ..batch([job(2)], false) };
    drop(store.insert(marked));
    // The answer to a later write says that the earlier ones are done.
    let last = store.insert(batch([job(3)], true)).await.expect("insert");
    assert!(matches!(last[..], [Inserted::Created(_)]));
    assert_eq!(store.counts().await.expect("counts").total(State::Pending), 3);
    assert_eq!(store.bookmark("mark".to_owned()).await.expect("bookmark").as_deref(), Some(&b"1"[..]));
    let due = store.due(None, at(0), ALL).await.expect("due");
    drop(store.claim(vec![due[0].id, due[1].id], by(1)));
    drop(store.cancel(vec![job(1).guid, job(3).guid], at(2)));
    drop(store.settle(vec![begun(due[1].id, 1, 2, started(3))], at(4)));
    drop(store.reschedule(job(2).guid, at(9), at(5)));
    let too_late = store.cancel(vec![job(2).guid], at(6)).await.expect("cancel");
    assert!(matches!(&too_late[..], [CancelVerdict::TooLate(record)] if record.state == State::Started));
    let states = [job(1), job(2), job(3)].map(|job| store.get(job.guid));
    let mut found = Vec::new();
    for record in states {
        found.push(record.await.expect("get").expect("it is there").state);
    }
    assert_eq!(found, [State::Starting, State::Started, State::Cancelled]);
}

pub(super) async fn a_crash_after_every_kind_of_write(model: &mut Model) {
    for n in 0..8 {
        let delivery = if n % 2 == 0 { Delivery::AtLeastOnce } else { Delivery::AtMostOnce };
        model.submit(Job { delivery, expires_at: (n == 7).then_some(at(90)), ..job(n) }).await;
        model.crash_and_reopen().await;
    }
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    let again = async |model: &mut Model| {
        model.crash_and_reopen().await;
        model.verify(at(100)).await;
    };
    let marked = InsertBatch {
        bookmark: Some(("mark".to_owned(), vec![7; 300])),
        jobs: vec![NewJob { job: Arc::new(job(8)), claim: Some(NODE.into()) }],
        ..batch([], true)
    };
    model.insert(marked).await;
    again(model).await;
    model.claim(&ids[..6], at(1)).await;
    again(model).await;
    let settlements = vec![
        begun(ids[0], 1, 2, started(3)),
        begun(ids[1], 1, 2, unknown()),
        begun(ids[2], 1, 2, retry(9, true)),
        unbegun(ids[3], 1, released(9)),
    ];
    model.settle(settlements, at(5)).await;
    again(model).await;
    model.cancel(&[job(2).guid, job(4).guid, job(6).guid], at(6)).await;
    again(model).await;
    model.reschedule(job(3).guid, at(50), at(7)).await;
    again(model).await;
    // Of the three attempts under way one is reclaimed before the next crash.
    assert_eq!(model.reclaim(1, at(8)).await, 1);
    again(model).await;
    assert_eq!(model.reclaim(ALL, at(8)).await, 2);
    again(model).await;
    model.resolve(job(1).guid, Resolution::Pending, at(9)).await;
    again(model).await;
    model.expire(ALL, at(91)).await;
    again(model).await;
    model.prune(prune_before(at(7))).await;
    again(model).await;
}

pub(super) async fn unknown_names_are_no_error(model: &mut Model) {
    let nobody = JobId(u64::from(u32::MAX));
    for _ in 0..2 {
        assert_eq!(model.get(job(99).guid).await, None);
        assert_eq!(model.cancel(&[job(99).guid], at(1)).await, [CancelVerdict::NotFound]);
        assert_eq!(model.reschedule(job(99).guid, at(2), at(1)).await, None);
        assert_eq!(model.resolve(job(99).guid, Resolution::Failed, at(1)).await, None);
        assert!(model.claim(&[nobody], at(1)).await[0].is_none());
        assert!(!model.settle_one(begun(nobody, 1, 1, started(2)), at(3)).await);
        assert_eq!(model.reclaim(ALL, at(1)).await, 0);
        assert!(model.expire(ALL, at(1)).await.ended.is_empty());
        assert_eq!(model.prune(prune_before(at(1))).await, 0);
        assert_eq!(model.store().bookmark("none".to_owned()).await.expect("bookmark"), None);
        assert!(model.insert(batch([], true)).await.is_empty());
        assert!(model.claim(&[], at(1)).await.is_empty());
        assert!(model.settle(Vec::new(), at(1)).await.is_empty());
        assert!(model.cancel(&[], at(1)).await.is_empty());
        model.verify(at(1)).await;
        // Once in an empty store, once in one with a job.
        if model.rows().is_empty() {
            model.submit(job(1)).await;
        }
    }
}

pub(super) async fn after_close(model: &mut Model) {
    model.submit(job(1)).await;
    // Asked for before the close, so done by it.
    let last = model.store().insert(batch([job(2)], true));
    model.store().close().await.expect("close");
    assert!(matches!(last.await.expect("insert")[..], [Inserted::Created(_)]));
    assert!(model.store().insert(batch([job(3)], true)).await.is_err(), "a closed store takes nothing");
    model.crash_and_reopen().await;
    for (n, there) in [(1, true), (2, true), (3, false)] {
        assert_eq!(model.get(job(n).guid).await.is_some(), there, "job {n}");
    }
    if model.store().durability() == Durability::Memory {
        let backup = model.store().backup("nowhere".into()).await;
        assert!(backup.is_err_and(|error| error.is_unusable()));
    }
}
