//! Submits, one by one and many at once.

use futures_util::FutureExt;
use sendoff::{
    Batch, JobSpec, State, Verdict,
    ports::{Filter, PageRequest},
    testing::{Method, Plan, Scripted, ScriptedStarter, Why},
};

use super::{HOUR, SECOND, flaky, job, quiet, scheduler};

fn starter() -> ScriptedStarter {
    ScriptedStarter::by_script(|_| Plan::STARTED)
}

fn guid(n: u64) -> sendoff::Guid {
    format!("00000000-0000-4000-8000-{n:012x}").parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_atomic_batch_is_all_or_none_and_names_the_job() {
    let scheduler = scheduler(&starter()).await;
    scheduler.submit(job(1).guid(guid(1)).delay(HOUR)).unwrap().await.unwrap();
    let cases: [(Vec<JobSpec>, &[&str]); 4] = [
        (vec![job(5), job(6).priority(10), job(7)], &["job 2: ", "priority"]),
        (
            vec![job(5), job(6), job(2).guid(guid(1))],
            &["job 3: guid", "00000000-0000-4000-8000-000000000001"],
        ),
        (
            vec![job(5).idempotency_key("k"), job(6), job(7).idempotency_key("k")],
            &["job 3: idempotency_key", "job 1 of the same batch"],
        ),
        ((0..10_001).map(job).collect(), &["at most 10000"]),
    ];
    for (specs, words) in cases {
        let err = scheduler.submit_batch(Batch::atomic(specs).bookmark("b", "x")).await.unwrap_err();
        assert!(words.iter().all(|words| err.to_string().contains(words)), "{err}");
        let named = err.item().map_or(String::new(), |item| format!("job {}: ", item + 1));
        assert!(words[0].starts_with(&named), "{err}");
        let (whole, alone) = (err.to_string(), err.of_one_job().to_string());
        assert_eq!(whole, named + &alone);
        quiet().await;
        assert_eq!(scheduler.counts().await.unwrap().unfinished(), 1);
        assert_eq!(scheduler.counts().await.unwrap().total(State::Started), 0);
        assert!(scheduler.bookmark("b").await.unwrap().is_none());
    }
    let verdicts = scheduler.submit_batch(Batch::atomic((0..10_000).map(job).collect())).await.unwrap();
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Created(_))));
    assert!(scheduler.submit_batch(Batch::atomic(Vec::new())).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn jobs_are_called_by_the_numbers_that_were_given() {
    let scheduler = scheduler(&starter()).await;
    let batch = [job(1).guid(guid(1)), job(2), job(3).guid(guid(1))].map(|job| job.delay(HOUR));
    let verdicts =
        scheduler.submit_batch(Batch::itemised(batch.into()).numbered(vec![71, 72, 75])).await.unwrap();
    let Verdict::Conflict(err) = &verdicts[2] else { panic!("{verdicts:?}") };
    assert!(err.to_string().contains("job 71 of the same batch"), "{err}");
}

#[tokio::test(start_paused = true)]
async fn who_submits_one_job_is_not_told_of_a_batch() {
    let scheduler = scheduler(&starter()).await;
    // They go to the store together.
    let first = scheduler.submit(job(1).idempotency_key("k").delay(HOUR)).unwrap();
    let second = scheduler.submit(job(2).idempotency_key("k").delay(HOUR)).unwrap();
    let name = first.await.unwrap().guid;
    let err = second.await.unwrap_err().to_string();
    assert!(err.contains(&format!("names job {name} already")), "{err}");
}

#[tokio::test(start_paused = true)]
async fn verdicts_on_a_hundred_thousand_jobs_in_their_order() {
    const JOBS: u64 = 100_000;
    let scheduler = scheduler(&starter()).await;
    // Of each ten: one invalid, one equal to its predecessor, one that conflicts with the first.
    let named = |n: u64, name: u64| job(n).guid(guid(name)).delay(HOUR);
    let spec = |n: u64| match n % 10 {
        3 => job(n).queue("no name"),
        6 => named(n - 1, n - 1),
        8 => named(n, n - 8),
        _ => named(n, n),
    };
    let batch = Batch::itemised((0..JOBS).map(spec).collect()).bookmark("read", "100000");
    let verdicts = scheduler.submit_batch(batch).await.unwrap();
    assert_eq!(verdicts.len() as u64, JOBS);
    for (n, verdict) in (0..).zip(&verdicts) {
        match (n % 10, verdict) {
            (3, Verdict::Invalid(err)) => assert!(err.to_string().contains("queue"), "{n}: {err}"),
            (6, Verdict::Existing(first)) => assert_eq!(*first, guid(n - 1), "{n}"),
            // The number of the job in the whole batch, as the caller counts.
            (8, Verdict::Conflict(err)) => {
                let words = format!("job {} of the same batch", n - 8 + 1);
                assert!(err.is_conflict() && err.to_string().contains(&words), "{n}: {err}");
            }
            (0..=2 | 4 | 5 | 7 | 9, Verdict::Created(made)) => assert_eq!(*made, guid(n), "{n}"),
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(scheduler.counts().await.unwrap().total(State::Pending), JOBS / 10 * 7);
    assert_eq!(scheduler.bookmark("read").await.unwrap().unwrap(), b"100000");
}

#[tokio::test(start_paused = true)]
async fn a_bookmark_comes_with_the_last_job() {
    let starter = starter();
    let (scheduler, store) = flaky(&starter, |builder| builder).await;
    // The second part of three fails: the first stays, the bookmark does not move.
    store.plan(Method::Insert, [sendoff::testing::Trouble::None]);
    store.fail(Method::Insert, Why::Full, 1);
    let batch = || Batch::itemised((0..2_500).map(|n| job(n).guid(guid(n))).collect()).bookmark("at", "2500");
    let err = scheduler.submit_batch(batch()).await.unwrap_err();
    assert!(err.is_full(), "{err}");
    assert!(scheduler.bookmark("at").await.unwrap().is_none());
    // The same again continues where it failed.
    let verdicts = scheduler.submit_batch(batch()).await.unwrap();
    let existing = verdicts.iter().take_while(|verdict| matches!(verdict, Verdict::Existing(_))).count();
    assert_eq!(existing, 1_000);
    assert_eq!(scheduler.bookmark("at").await.unwrap().unwrap(), b"2500");
    // One of invalid jobs alone, or of none, moves it as well.
    for (specs, value) in [(vec![job(1).priority(99)], "a"), (vec![], "b")] {
        scheduler.submit_batch(Batch::itemised(specs).bookmark("at", value)).await.unwrap();
        assert_eq!(scheduler.bookmark("at").await.unwrap().unwrap(), value.as_bytes());
    }
    scheduler.idle().await.unwrap();
    assert_eq!(starter.begun_in_all(), (2_500, 2_500));
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_is_given_up_leaves_a_first_part() {
    let scheduler = scheduler(&starter()).await;
    let specs = (0..2_500).map(|n| job(n).guid(guid(n)).delay(HOUR)).collect();
    let mut batch = Box::pin(scheduler.submit_batch(Batch::itemised(specs).bookmark("at", "2500")));
    let stored = loop {
        assert!((&mut batch).now_or_never().is_none());
        quiet().await;
        let stored = scheduler.counts().await.unwrap().unfinished();
        if stored > 0 {
            break stored;
        }
    };
    drop(batch);
    quiet().await;
    assert_eq!((stored, scheduler.counts().await.unwrap().unfinished()), (1_000, 1_000));
    assert!(scheduler.bookmark("at").await.unwrap().is_none());
    for n in [0, 999, 1_000] {
        assert_eq!(scheduler.get(guid(n)).await.unwrap().is_some(), n < 1_000, "{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_job_again_is_the_first_one() {
    let starter = starter();
    let scheduler = scheduler(&starter).await;
    let first = scheduler.submit(job(1).idempotency_key("k").delay(HOUR)).unwrap().await.unwrap();
    assert!(first.created);
    let mut second = scheduler.submit(job(1).idempotency_key("k").delay(HOUR)).unwrap();
    let accepted = (&mut second).await.unwrap();
    assert_eq!((accepted.guid, accepted.created), (first.guid, false));
    // Its handle is that of the first one from here on.
    assert_eq!(second.guid(), first.guid);
    assert_eq!((&mut second).await.unwrap(), accepted, "an answer is given as often as it is asked for");
    let other = scheduler.submit(job(2).idempotency_key("k").delay(HOUR)).unwrap().await.unwrap_err();
    assert!(other.is_conflict() && other.to_string().contains(&first.guid.to_string()), "{other}");
    let other = scheduler.submit(job(2).guid(first.guid)).unwrap().await.unwrap_err();
    assert!(other.is_conflict() && other.to_string().contains(&first.guid.to_string()), "{other}");
    let started = second.started().await.unwrap();
    assert_eq!(started.guid, first.guid);
    assert_eq!(starter.begun_in_all(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_refused_job_leaves_nothing_behind() {
    let starter = starter();
    let (scheduler, store) = flaky(&starter, |builder| builder.max_in_flight(4).inbox(10_000)).await;
    assert!(scheduler.submit(job(1).priority(10)).unwrap_err().is_invalid());
    let payload = serde_json::value::to_raw_value(&Scripted::default()).unwrap();
    assert!(scheduler.submit(JobSpec::raw("nobody", payload)).unwrap_err().is_invalid());
    // More failures than there are permits and room in the inbox's accounts.
    for _ in 0..2 {
        store.fail(Method::Insert, Why::Full, 1);
        let submissions: Vec<_> = (0..4_500).map(|n| scheduler.submit(job(n)).unwrap()).collect();
        let mut refused = 0;
        for submission in submissions {
            match submission.await {
                Ok(_) => {}
                Err(err) if err.is_full() => refused += 1,
                Err(err) => panic!("{err}"),
            }
        }
        assert!(refused > 1_000, "{refused}");
    }
    scheduler.idle().await.unwrap();
    // Afterwards as many as may be in flight are so at once.
    let begin = tokio::time::Instant::now();
    for n in 0..4 {
        scheduler.submit(job(n)).unwrap().await.unwrap();
    }
    scheduler.idle().await.unwrap();
    assert!(begin.elapsed() < SECOND);
    let all: Vec<_> = (0..10_000).map(|n| scheduler.submit(job(n).delay(HOUR)).unwrap()).collect();
    assert!(scheduler.submit(job(0)).unwrap_err().is_busy(), "the inbox's room came back, and no more");
    drop(all);
}

#[tokio::test(start_paused = true)]
async fn lists_and_counts() {
    let scheduler = scheduler(&starter()).await;
    let specs =
        (0..25).map(|n| job(n).queue("q").label("parity", ["even", "odd"][n as usize % 2]).delay(HOUR));
    scheduler.submit_batch(Batch::itemised(specs.collect())).await.unwrap();
    scheduler.submit(job(99)).unwrap().started().await.unwrap();
    let filter = Filter { label: Some(("parity".into(), "odd".into())), ..Filter::default() };
    let (mut page, mut records) = (PageRequest { limit: 5, ..PageRequest::default() }, Vec::new());
    loop {
        let found = scheduler.list(filter.clone(), page).await.unwrap();
        assert!(found.records.len() <= 5);
        records.extend(found.records);
        match found.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    assert_eq!(records.len(), 12);
    assert!(records.iter().all(|record| record.labels["parity"] == "odd" && record.state == State::Pending));
    let counts = scheduler.counts().await.unwrap();
    assert_eq!((counts.queues["q"][&State::Pending], counts.queues["default"][&State::Started]), (25, 1));
}
