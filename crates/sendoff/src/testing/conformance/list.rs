//! Listing: filters, pages, budgets.

use super::words::{ALL, batch, begun, prune_before, started, unknown};
use crate::{
    job::{Delivery, Job, JobRecord},
    ports::{Filter, PageRequest},
    state::State,
    testing::model::{Model, at, job, lane},
};

async fn twelve(model: &mut Model) {
    let jobs = (0..12_u64).map(|n| Job {
        lane: lane(if n % 3 == 0 { "third" } else { "default" }),
        delivery: if n % 4 == 0 { Delivery::AtMostOnce } else { Delivery::AtLeastOnce },
        submitted_by: (n % 2 == 1).then(|| if n < 6 { "ann" } else { "bob" }.into()),
        run_at: at(10 * n.cast_signed()),
        ..job(n)
    });
    model.insert(batch(jobs, true)).await;
}

pub(super) async fn filters(model: &mut Model) {
    twelve(model).await;
    let ids: Vec<_> = model.rows().iter().map(|row| row.id).collect();
    model.claim(&ids[..3], at(200)).await;
    model.settle_one(begun(ids[1], 1, 201, started(202)), at(203)).await;
    model.claim(&[ids[5], ids[7], ids[9]], at(200)).await;
    for id in [ids[7], ids[9]] {
        model.settle_one(begun(id, 1, 201, unknown()), at(203)).await;
    }
    let label = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
    type Condition = fn(&JobRecord) -> bool;
    let filters: [(Filter, Condition); 14] = [
        (Filter { state: Some(State::Starting), ..Filter::default() }, |job| job.state == State::Starting),
        (Filter { state: Some(State::Started), ..Filter::default() }, |job| job.state == State::Started),
        (Filter { state: Some(State::Unknown), ..Filter::default() }, |job| job.state == State::Unknown),
        (Filter { unfinished: true, ..Filter::default() }, |job| !job.state.is_final()),
        (Filter { queue: Some("third".into()), ..Filter::default() }, |job| &*job.queue == "third"),
        (Filter { queue: Some("nowhere".into()), ..Filter::default() }, |_| false),
        (Filter { label: label("parity", "odd"), ..Filter::default() }, |job| job.labels["parity"] == "odd"),
        (Filter { label: label("parity", "1"), ..Filter::default() }, |_| false),
        (Filter { label: label("odd", "parity"), ..Filter::default() }, |_| false),
        (Filter { submitted_by: Some("ann".into()), ..Filter::default() }, |job| {
            job.submitted_by.as_deref() == Some("ann")
        }),
        (Filter { delivery: Some(Delivery::AtMostOnce), ..Filter::default() }, |job| {
            job.delivery == Delivery::AtMostOnce
        }),
        (Filter { from: Some(at(50)), ..Filter::default() }, |job| job.run_at >= at(50)),
        (Filter { to: Some(at(50)), ..Filter::default() }, |job| job.run_at < at(50)),
        (
            Filter {
                state: Some(State::Pending),
                queue: Some("default".into()),
                from: Some(at(40)),
                to: Some(at(100)),
                label: label("parity", "even"),
                ..Filter::default()
            },
            |job| [at(40), at(80)].contains(&job.run_at),
        ),
    ];
    for (filter, condition) in filters {
        let all = model.rows().iter().map(crate::testing::model::Row::record);
        let expected: Vec<_> = all.filter(condition).collect();
        for (limit, budget) in [(ALL, ALL), (1, ALL), (2, 3)] {
            let listed = model.list(filter.clone(), limit, budget).await;
            assert_eq!(listed, expected, "{filter:?}, {limit} a page, looking at {budget} rows");
            let mut listed = model.list_newest(filter.clone(), limit, budget).await;
            listed.reverse();
            assert_eq!(listed, expected, "{filter:?} from the newest, {limit} a page, {budget} rows");
        }
    }
}

pub(super) async fn a_suffix_of_the_guid(model: &mut Model) {
    // Of nearly equal guids, in both orders and together with another condition.
    let guid = |n: u64, text: &str| Job { guid: text.parse().expect("a guid"), ..job(n) };
    let jobs = [
        guid(0, "0190aaaa-0000-7000-8000-0000000000ff"),
        guid(1, "0190aaaa-0000-7000-8000-0000000000fe"),
        guid(2, "ff00aaaa-0000-7000-8000-0000000000f0"),
        guid(3, "0190aaaa-0000-7000-8000-000000000aff"),
        guid(4, "0190aaab-0000-7000-8000-0000000000ff"),
    ];
    model.insert(batch(jobs, true)).await;
    let found = async |model: &Model, suffix: &str, newest_first| {
        let filter = Filter { guid_suffix: Some(suffix.to_owned()), ..Filter::default() };
        let records =
            if newest_first { model.list_newest(filter, 2, 2).await } else { model.list(filter, 2, 2).await };
        let n = |record: &JobRecord| record.labels["n"].parse().expect("a number");
        records.iter().map(n).collect::<Vec<u64>>()
    };
    for (suffix, expected) in [
        ("f", &[0, 3, 4][..]),
        ("ff", &[0, 3, 4]),
        ("0ff", &[0, 4]),
        ("0190aaaa00007000800000000000ff00", &[]),
        ("0190aaaa000070008000000000000ff", &[]),
        ("0190aaaa0000700080000000000000ff", &[0]),
        ("190aaaa0000700080000000000000ff", &[0]),
        ("70008000000000000aff", &[3]),
        ("fe", &[1]),
        ("0", &[2]),
        ("ff00", &[]),
        ("1", &[]),
    ] {
        assert_eq!(found(model, suffix, false).await, expected, "{suffix}");
        let reversed: Vec<_> = expected.iter().rev().copied().collect();
        assert_eq!(found(model, suffix, true).await, reversed, "{suffix} from the newest");
    }
    model.cancel(&[model.rows()[3].job.guid], at(1)).await;
    let filter =
        Filter { guid_suffix: Some("ff".to_owned()), state: Some(State::Pending), ..Filter::default() };
    assert_eq!(model.list(filter, ALL, ALL).await.len(), 2);
    for refused in ["", "FF", "g", "0000-ff", "+f", &"0".repeat(33)] {
        let filter = Filter { guid_suffix: Some(refused.to_owned()), ..Filter::default() };
        let answer = model.store().list(filter, PageRequest::default()).await;
        assert!(answer.is_err_and(|err| err.is_invalid()), "{refused}");
    }
}

pub(super) async fn a_budget_of_rows(model: &mut Model) {
    let jobs = (0..300).map(|n| Job { lane: lane(if n == 299 { "last" } else { "default" }), ..job(n) });
    model.insert(batch(jobs, true)).await;
    // A label is not indexed: the one row in question is found in several steps.
    let filter = Filter { label: Some(("n".to_owned(), "299".to_owned())), ..Filter::default() };
    let page = PageRequest { limit: 10, row_budget: 20, ..PageRequest::default() };
    let first = model.store().list(filter.clone(), page).await.expect("list");
    assert!(first.records.is_empty(), "{:?}", first.records);
    assert!(first.next.is_some(), "a page that ends early has a cursor");
    assert_eq!(model.list(filter, 10, 20).await.len(), 1);
    let page = PageRequest { limit: 10, row_budget: ALL, ..PageRequest::default() };
    let first = model.store().list(Filter::default(), page).await.expect("list");
    assert_eq!(first.records.len(), 10);
    // From the newest, too; and a page after which nothing comes has no cursor.
    let page = PageRequest { limit: 10, row_budget: 20, newest_first: true, ..PageRequest::default() };
    let filter = Filter { label: Some(("n".to_owned(), "0".to_owned())), ..Filter::default() };
    let first = model.store().list(filter.clone(), page).await.expect("list");
    assert!(first.records.is_empty() && first.next.is_some());
    assert_eq!(model.list_newest(filter, 10, 20).await.len(), 1);
    for newest_first in [false, true] {
        let page = PageRequest { limit: 300, row_budget: 300, newest_first, ..PageRequest::default() };
        let all = model.store().list(Filter::default(), page).await.expect("list");
        assert_eq!((all.records.len(), all.next), (300, None));
    }
}

pub(super) async fn while_rows_come_and_go(model: &mut Model) {
    twelve(model).await;
    let mut listed = Vec::new();
    let mut after = None;
    for round in 0.. {
        let request = PageRequest { after, limit: 2, row_budget: ALL, ..PageRequest::default() };
        let page = model.store().list(Filter::default(), request).await.expect("list");
        listed.extend(page.records.iter().map(|record| record.guid));
        after = page.next;
        if after.is_none() {
            break;
        }
        // The row that the cursor names goes, one that was listed changes, and one comes.
        let last = *listed.last().expect("a page has a record");
        model.cancel(&[last], at(round)).await;
        assert_eq!(model.prune(prune_before(at(round + 1))).await, 1);
        model.reschedule(listed[listed.len() - 2], at(500), at(round)).await;
        if round < 3 {
            model.submit(job(100 + round.cast_unsigned())).await;
        }
    }
    let expected: Vec<_> = (0..12).chain(100..103).map(|n| job(n).guid).collect();
    assert_eq!(listed, expected, "each row once");
    model.verify(at(600)).await;
}

pub(super) async fn newest_first_while_rows_come_and_go(model: &mut Model) {
    twelve(model).await;
    let mut listed = Vec::new();
    let mut after = None;
    for round in 0.. {
        let request = PageRequest { after, newest_first: true, limit: 2, row_budget: ALL };
        let page = model.store().list(Filter::default(), request).await.expect("list");
        listed.extend(page.records.iter().map(|record| record.guid));
        after = page.next;
        if after.is_none() {
            break;
        }
        // The row that the cursor names goes, one that was listed changes, and one comes: too late.
        let last = *listed.last().expect("a page has a record");
        model.cancel(&[last], at(round)).await;
        assert_eq!(model.prune(prune_before(at(round + 1))).await, 1);
        model.reschedule(listed[listed.len() - 2], at(500), at(round)).await;
        model.submit(job(100 + round.cast_unsigned())).await;
        if round == 2 {
            model.crash_and_reopen().await;
        }
    }
    let expected: Vec<_> = (0..12).rev().map(|n| job(n).guid).collect();
    assert_eq!(listed, expected, "each row that was there all the time, once");
    model.verify(at(600)).await;
}
