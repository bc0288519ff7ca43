//! The limits of queues.

use std::time::Duration;

use crate::{
    job::{QueueLimits, Rate},
    testing::model::{Model, at, job},
};

fn limits(starts: u32) -> QueueLimits {
    let rate = Rate { starts, per: Duration::from_micros(1_500_001).into(), burst: 3 };
    QueueLimits { max_in_flight: Some(7), rate: Some(rate), paused: false }
}

fn paused() -> QueueLimits {
    QueueLimits { paused: true, ..QueueLimits::default() }
}

pub(super) async fn limits_are_kept(model: &mut Model) {
    model.verify(at(0)).await;
    // Of a queue that has no job, and of one that has some.
    model.set_queue("none", Some(limits(1))).await;
    model.submit(job(1)).await;
    model.set_queue("default", Some(paused())).await;
    model.set_queue("it's \"so\" / ü", Some(QueueLimits::default())).await;
    model.verify(at(1)).await;
    model.crash_and_reopen().await;
    model.verify(at(1)).await;
    let kept = model.store().queues().await.expect("queues");
    assert_eq!(kept.len(), 3);
    assert_eq!((kept["none"], kept["default"].paused), (limits(1), true));
}

pub(super) async fn limits_are_replaced_and_forgotten(model: &mut Model) {
    for queue in ["a", "b", "c"] {
        model.set_queue(queue, Some(limits(1))).await;
    }
    // As a whole, not field by field.
    model.set_queue("b", Some(paused())).await;
    model.verify(at(0)).await;
    model.set_queue("a", None).await;
    model.set_queue("unheard of", None).await;
    model.crash_and_reopen().await;
    model.verify(at(0)).await;
    assert_eq!(model.store().queues().await.expect("queues")["b"], paused());
    model.set_queue("a", Some(limits(2))).await;
    model.set_queue("c", Some(limits(3))).await;
    model.crash_and_reopen().await;
    model.verify(at(0)).await;
}

pub(super) async fn limits_follow_the_order_of_calls(model: &mut Model) {
    let store = model.store();
    drop(store.set_queue("a".into(), Some(limits(1))));
    let second = store.set_queue("a".into(), Some(limits(2)));
    let read = store.queues();
    let third = store.set_queue("b".into(), Some(paused()));
    third.await.expect("set");
    assert_eq!(read.await.expect("queues")["a"], limits(2));
    second.await.expect("set");
}
