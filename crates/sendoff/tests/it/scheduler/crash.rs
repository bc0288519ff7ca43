//! Crashes: the runtime goes as a killed process does, the store is opened again.

use std::sync::Arc;

use sendoff::{
    Delivery, ErrorClass, JobRecord, Scheduler, State,
    ports::{Filter, PageRequest},
    store::MemoryStore,
    testing::{Answer, Plan, ScriptedStarter, Seen},
};

use super::{HOUR, SECOND, builder, job, quiet};

/// One life of a process: a runtime of its own, dropped with everything in it at the end.
fn life<T>(
    store: &Arc<MemoryStore>,
    starter: &ScriptedStarter,
    act: impl AsyncFnOnce(Scheduler) -> T,
) -> (T, Arc<MemoryStore>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let done = runtime.block_on(async {
        let scheduler = builder(starter, store.clone()).start().await.unwrap();
        act(scheduler).await
    });
    drop(runtime);
    (done, Arc::new(store.crash_and_reopen()))
}

async fn records(scheduler: &Scheduler) -> Vec<JobRecord> {
    scheduler.list(Filter::default(), PageRequest::default()).await.unwrap().records
}

#[test]
fn what_was_in_flight_is_started_again_or_unknown() {
    for begin in [true, false] {
        // Hangs in its first life, by the attempt's number or, begun or not, by at_most_once.
        let starter = ScriptedStarter::by_script(move |seen: &Seen| {
            let hangs = seen.job.n < 10 && seen.number == 1;
            if hangs { Plan { answer: Answer::Hang, begin, ..Plan::STARTED } } else { Plan::STARTED }
        });
        let (_, store) = life(&Arc::new(MemoryStore::new()), &starter, async |scheduler| {
            for (n, delivery) in [
                (1, Delivery::AtLeastOnce),
                (2, Delivery::AtMostOnce),
                (11, Delivery::AtLeastOnce),
                (12, Delivery::AtMostOnce),
            ] {
                scheduler.submit(job(n).delivery(delivery)).unwrap().await.unwrap();
            }
            scheduler.submit(job(13).delivery(Delivery::AtMostOnce).delay(HOUR)).unwrap().await.unwrap();
            quiet().await;
        });
        let (records, _) = life(&store, &starter, async |scheduler| {
            scheduler.idle().await.unwrap();
            records(&scheduler).await
        });
        let ends: Vec<_> =
            records.iter().map(|record| (record.state, record.attempt, record.possible_duplicate)).collect();
        assert_eq!(
            ends,
            [
                (State::Started, 2, true),
                (State::Unknown, 1, true),
                (State::Started, 1, false),
                (State::Started, 1, false),
                (State::Started, 1, false),
            ]
        );
        assert_eq!(records[1].last_error.as_ref().unwrap().class, ErrorClass::Crash);
        assert_eq!(starter.begun(records[0].guid), 1 + usize::from(begin));
        assert_eq!(starter.begun(records[1].guid), usize::from(begin), "never twice");
    }
}

#[test]
fn a_job_that_kills_is_started_alone_and_then_not_at_all() {
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        let hang = |seen: &Seen| match seen.job.n {
            0 => Plan { answer: Answer::Hang, ..Plan::STARTED },
            _ => Plan::STARTED.taking(SECOND),
        };
        let starter = ScriptedStarter::by_script(hang);
        let mut store = Arc::new(MemoryStore::new());
        let mut killer = None;
        for crashes in 0..4 {
            let (state, reopened) = life(&store, &starter, async |scheduler| {
                let guid = match killer {
                    Some(guid) => guid,
                    None => {
                        let spec = job(0).delivery(delivery).max_attempts(100).start_timeout(HOUR);
                        *killer.insert(scheduler.submit(spec).unwrap().await.unwrap().guid)
                    }
                };
                for n in 1..20 {
                    scheduler.submit(job(n)).unwrap().await.unwrap();
                }
                tokio::time::sleep(10 * SECOND).await;
                let record = scheduler.get(guid).await.unwrap().unwrap();
                if crashes == 2 && record.state == State::Starting {
                    let starting = scheduler.counts().await.unwrap().total(State::Starting);
                    assert_eq!(starting, 1, "it is alone, though others are due");
                    assert!(scheduler.counts().await.unwrap().total(State::Pending) > 0);
                }
                record
            });
            store = reopened;
            match (delivery, crashes) {
                (Delivery::AtMostOnce, 0) | (Delivery::AtLeastOnce, 0..=2) => {
                    assert_eq!((state.state, state.crashes), (State::Starting, crashes));
                }
                (Delivery::AtMostOnce, _) => assert_eq!((state.state, state.crashes), (State::Unknown, 1)),
                (Delivery::AtLeastOnce, _) => {
                    assert_eq!((state.state, state.crashes), (State::Failed, 3));
                    assert_eq!(state.last_error.unwrap().class, ErrorClass::Poison);
                }
            }
        }
        let expected = if delivery == Delivery::AtLeastOnce { 3 } else { 1 };
        assert_eq!(starter.begun(killer.unwrap()), expected);
    }
}

#[test]
fn deadlines_and_due_times_that_passed_meanwhile() {
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED);
    let (_, store) = life(&Arc::new(MemoryStore::new()), &starter, async |scheduler| {
        let paused = sendoff::QueueLimits { paused: true, ..Default::default() };
        scheduler.set_queue_limits("default", Some(paused)).await.unwrap();
        scheduler.submit(job(1).run_at(super::wall()).expires_in(SECOND)).unwrap().await.unwrap();
        scheduler.submit(job(2)).unwrap().await.unwrap();
        let later = (3..5_000).map(|n| job(n).delay(HOUR)).collect();
        scheduler.submit_batch(sendoff::Batch::itemised(later)).await.unwrap();
    });
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let clock = sendoff::time::TokioClock::starting_at(super::wall().saturating_add(2 * HOUR));
        let scheduler =
            Scheduler::builder().store(store).starter(starter.clone()).clock(clock).start().await.unwrap();
        super::quiet().await;
        assert!(starter.order().is_empty(), "it is paused still");
        scheduler.set_queue_limits("default", None).await.unwrap();
        scheduler.idle().await.unwrap();
        let counts = scheduler.counts().await.unwrap();
        assert_eq!((counts.total(State::Expired), counts.total(State::Started)), (1, 4_998));
        assert_eq!(starter.begun_in_all(), (4_998, 4_998));
    });
}
