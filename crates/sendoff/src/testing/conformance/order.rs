//! What is due, in which order, and in which lanes.

use std::sync::Arc;

use super::words::{ALL, batch, retry, unbegun};
use crate::{
    job::{Header, Job, JobId, Lane},
    testing::model::{Model, at, job, lane},
    time::Timestamp,
};

/// Where these are in the order of insertion.
fn places(ids: &[JobId], headers: &[Header]) -> Vec<usize> {
    headers.iter().filter_map(|header| ids.iter().position(|id| *id == header.id)).collect()
}

pub(super) async fn due_by_time_then_insertion(model: &mut Model) {
    let times = [30, 10, 20, 10, 20, 10, 40];
    let jobs = (0..).zip(times).map(|(n, time)| Job { run_at: at(time), priority: (n % 10) as u8, ..job(n) });
    model.insert(batch(jobs, true)).await;
    model.verify(at(20)).await;
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    let due = async |after: Option<(i64, usize)>, until, limit| {
        let after = after.map(|(time, place)| (at(time), ids[place]));
        let due = model.store().due(after, at(until), limit).await.expect("due");
        places(&ids, &due)
    };
    assert_eq!(due(None, 20, ALL).await, [1, 3, 5, 2, 4], "up to and with the end");
    assert_eq!(due(None, 19, ALL).await, [1, 3, 5]);
    assert!(due(None, 9, ALL).await.is_empty());
    assert_eq!(due(None, 99, 4).await, [1, 3, 5, 2]);
    assert_eq!(due(Some((10, 3)), 20, ALL).await, [5, 2, 4], "without the beginning");
    assert_eq!(due(Some((10, 6)), 20, 1).await, [2], "after a place between two rows");
    assert!(due(Some((40, 6)), 99, ALL).await.is_empty());
    // A place that a row has left is still a place.
    model.claim(&[ids[3]], at(15)).await;
    let left = model.store().due(Some((at(10), ids[3])), at(10), ALL).await.expect("due");
    assert_eq!(left.iter().map(|header| header.id).collect::<Vec<_>>(), [ids[5]]);
    model.verify(at(15)).await;
    model.settle_one(unbegun(ids[3], 1, retry(35, false)), at(16)).await;
    model.verify(Timestamp::MAX).await;
}

pub(super) async fn ready_by_priority(model: &mut Model) {
    let (one, two) = (lane("one"), lane("two"));
    let rows = [
        (&one, 0, 10),
        (&one, 9, 30),
        (&one, 5, 20),
        (&two, 9, 5),
        (&one, 5, 10),
        (&one, 9, 31),
        (&one, 5, 20),
        (&one, 0, 9),
    ];
    let jobs = (0..).zip(rows).map(|(n, (lane, priority, time))| Job {
        lane: lane.clone(),
        priority,
        run_at: at(time),
        ..job(n)
    });
    model.insert(batch(jobs, true)).await;
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    let ready = async |lane: &Arc<Lane>, now, limit| {
        let ready = model.store().ready(lane.clone(), at(now), limit).await.expect("ready");
        places(&ids, &ready)
    };
    assert_eq!(ready(&one, 30, ALL).await, [1, 4, 2, 6, 7, 0]);
    assert_eq!(ready(&one, 30, 3).await, [1, 4, 2]);
    assert_eq!(
        ready(&one, 29, 2).await,
        [4, 2],
        "what is due comes before what is not, whatever its priority"
    );
    assert!(ready(&one, 8, ALL).await.is_empty());
    assert_eq!(ready(&two, 30, ALL).await, [3]);
    assert!(ready(&lane("three"), 30, ALL).await.is_empty());
    for now in [8, 20, 30, 31] {
        model.verify(at(now)).await;
    }
}

/// Those that were to wait long when they were submitted, and those that were not.
pub(super) async fn ready_however_long_they_waited(model: &mut Model) {
    const MINUTE: i64 = 60_000_000;
    let rows = [(0, 9 * MINUTE), (0, 5), (0, MINUTE + 9), (7, 9 * MINUTE), (0, 8 * MINUTE), (7, 7)];
    let jobs = (0..).zip(rows).map(|(n, (priority, time))| Job { priority, run_at: at(time), ..job(n) });
    model.insert(batch(jobs, true)).await;
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    let lane = job(0).lane;
    let ready = async |now, limit| {
        let ready = model.store().ready(lane.clone(), at(now), limit).await.expect("ready");
        places(&ids, &ready)
    };
    assert_eq!(ready(9, ALL).await, [5, 1]);
    assert_eq!(ready(MINUTE + 9, ALL).await, [5, 1, 2]);
    assert_eq!(ready(9 * MINUTE - 1, ALL).await, [5, 1, 2, 4]);
    assert_eq!(ready(9 * MINUTE, ALL).await, [5, 3, 1, 2, 4, 0]);
    assert_eq!(ready(9 * MINUTE, 4).await, [5, 3, 1, 2]);
    // One that waits for another attempt waits long by its submit.
    model.claim(&[ids[1], ids[5]], at(20 * MINUTE)).await;
    model.settle_one(unbegun(ids[1], 1, retry(25 * MINUTE, false)), at(20 * MINUTE)).await;
    for now in [20, 25] {
        model.verify(at(now * MINUTE)).await;
    }
}

pub(super) async fn lanes_come_and_go(model: &mut Model) {
    let lane = |queue: &str, starter: &str, destination: Option<&str>| {
        Arc::new(Lane {
            queue: queue.into(),
            starter: starter.into(),
            destination: destination.map(Into::into),
        })
    };
    let lanes = [
        lane("b", "http", Some("z:1")),
        lane("b", "http", None),
        lane("b", "http", Some("a:1")),
        lane("a", "process", None),
        lane("a", "http", Some("z:1")),
        lane("B", "http", None),
        lane("\u{e9}", "http", None),
    ];
    assert_eq!(model.store().lanes(None, ALL).await.expect("lanes"), []);
    let jobs = (0..).zip(&lanes).map(|(n, lane)| Job { lane: lane.clone(), ..job(n) });
    model.insert(batch(jobs, true)).await;
    // Far in the future counts as waiting, too.
    let far = Job { lane: lanes[3].clone(), run_at: Timestamp::MAX, ..job(50) };
    model.submit(far).await;
    model.verify(at(0)).await;
    let before = model.store().lanes(None, ALL).await.expect("lanes");
    // Starting, cancelled and started ones wait no more.
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    model.claim(&[ids[0], ids[3]], at(1)).await;
    model.cancel(&[model.guid(ids[5])], at(1)).await;
    model.verify(at(1)).await;
    let left = model.store().lanes(None, ALL).await.expect("lanes");
    assert!(!left.contains(&lanes[0]) && !left.contains(&lanes[5]) && left.contains(&lanes[3]));
    for gone in [&lanes[0], &lanes[5]] {
        let place = before.iter().position(|lane| lane == gone).expect("it was there");
        let after = model.store().lanes(Some(gone.clone()), ALL).await.expect("lanes");
        let expected: Vec<_> = before[place..].iter().filter(|lane| left.contains(lane)).cloned().collect();
        assert_eq!(after, expected, "after a lane that is there no more");
    }
    model.settle_one(unbegun(ids[0], 1, retry(9, false)), at(2)).await;
    model.crash_and_reopen().await;
    model.verify(at(9)).await;
}
