//! The writes of the PostgreSQL store where the conformance suite does not look: lost answers, ended
//! connections, several nodes at once.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use sendoff::{
    Job, JobId, QueueLimits, Rate, Receipt,
    ports::{CancelVerdict, Claim, ClaimVerdict, InsertBatch, Inserted, NewJob, Settlement, Store, Wanted},
    state::{Begun, Outcome, State},
    store::{PostgresOptions, PostgresStore, postgres::Rehearsal},
    testing::model::{at, job, lane},
};
use testpg::Proxy;

pub(super) fn options() -> PostgresOptions {
    let rehearsal = Rehearsal { reclaims: false, certain_death: false, ..Rehearsal::default() };
    PostgresOptions { hints: false, rehearsal, ..PostgresOptions::default() }
}

pub(super) async fn connect(url: &str) -> PostgresStore {
    PostgresStore::connect(url, options()).await.expect("it connects")
}

/// A new database behind a network that can fail, and its name.
pub(super) fn behind_proxy() -> (Proxy, String, String) {
    let server = testpg::shared();
    let url = server.new_database().expect("a database");
    let database = url.rsplit('/').next().expect("a path").split('?').next().expect("a name").to_owned();
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let through = url.replace(&server.port().to_string(), &proxy.port().to_string());
    (proxy, through, database)
}

pub(super) fn batch(
    jobs: impl IntoIterator<Item = Job>,
    claim: Option<&Arc<str>>,
    atomic: bool,
) -> InsertBatch {
    let jobs = jobs.into_iter().map(|job| NewJob { job: Arc::new(job), claim: claim.cloned() }).collect();
    InsertBatch { jobs, atomic, bookmark: None, now: at(1) }
}

pub(super) fn created(verdicts: &[Inserted]) -> Vec<JobId> {
    let id = |verdict: &Inserted| match verdict {
        Inserted::Created(id) => *id,
        other => panic!("{other:?}"),
    };
    verdicts.iter().map(id).collect()
}

pub(super) fn started(id: JobId) -> Settlement {
    let begun = Some(Begun { starting_at: at(2), clock_skew_us: 0 });
    let outcome = Outcome::Started { started_at: at(3), receipt: Receipt::default() };
    Settlement { id, fence: 1, begun, outcome }
}

pub(super) fn node(store: &PostgresStore) -> Arc<str> {
    store.fleet().expect("it has one").lease().node().clone()
}

fn stored(database: &str) -> usize {
    let rows = testpg::shared().sql_in(database, "SELECT id FROM sendoff.job").expect("it reads");
    rows.len()
}

#[tokio::test]
async fn an_insert_whose_answer_is_lost_is_found_again() {
    if !testpg::wanted() {
        return;
    }
    let (proxy, url, database) = behind_proxy();
    let store = connect(&url).await;
    let me = node(&store);
    created(&store.insert(batch([job(0)], None, false)).await.expect("insert"));
    for (n, claim) in [(10, None), (20, Some(&me))] {
        let before = stored(&database);
        proxy.stall_replies();
        let answer = store.insert(batch([job(n), job(n + 1)], claim, false));
        let again = store.insert(batch([job(n)], None, false));
        let lost = async {
            while stored(&database) == before {
                tokio::task::yield_now().await;
            }
            proxy.cut();
            proxy.heal();
        };
        let (answer, again, ()) = tokio::join!(answer, again, lost);
        let ids = created(&answer.expect("it is found again"));
        assert_eq!((ids.len(), stored(&database)), (2, before + 2));
        assert_eq!(again.expect("insert"), [Inserted::Existing(job(n).guid)]);
        let record = store.get(job(n).guid).await.expect("get").expect("it is there");
        assert_eq!(record.fence, u32::from(claim.is_some()));
    }
}

/// Jobs are inserted claimed, and settled, while connections end in every way: each answer is true.
#[tokio::test]
async fn answers_are_true_whatever_happens_to_connections() {
    if !testpg::wanted() {
        return;
    }
    let (proxy, url, database) = behind_proxy();
    let store = connect(&url).await;
    let me = node(&store);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let caller = |first: u64| {
        let (store, me, stopped) = (&store, &me, stopped.clone());
        async move {
            let (mut acknowledged, mut settled) = (Vec::new(), 0);
            for n in (first..first + 100_000).step_by(2) {
                if *stopped.borrow() {
                    break;
                }
                let Ok(verdicts) = store.insert(batch([job(n), job(n + 1)], Some(me), n % 4 == 0)).await
                else {
                    continue;
                };
                acknowledged.extend([n, n + 1]);
                let ids = created(&verdicts);
                let settlements: Vec<_> = ids.iter().map(|id| started(*id)).collect();
                // As the engine does: until the store has taken it.
                loop {
                    if let Ok(answers) = store.settle(settlements.clone(), at(4)).await {
                        for answer in answers {
                            assert!(answer.applied && answer.state == State::Started, "{answer:?}");
                        }
                        break;
                    }
                }
                settled += ids.len();
            }
            (acknowledged, settled)
        }
    };
    let faults = async {
        for round in 0..12 {
            let before = stored(&database);
            while stored(&database) < before + 50 {
                tokio::task::yield_now().await;
            }
            match round % 3 {
                0 => {
                    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                               WHERE datname = current_database() AND pid <> pg_backend_pid()";
                    testpg::shared().sql_in(&database, end).expect("it ends them");
                }
                1 => {
                    proxy.cut();
                    proxy.heal();
                }
                _ => {
                    proxy.stall_replies();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    proxy.cut();
                    proxy.heal();
                }
            }
        }
        stop.send_replace(true);
    };
    let callers = join_all((0..4).map(|caller_no| caller(caller_no * 1_000_000)));
    let (told, ()) = tokio::join!(callers, faults);
    let mut all = 0;
    for (acknowledged, settled) in told {
        all += acknowledged.len();
        assert_eq!(acknowledged.len(), settled);
        for n in acknowledged.iter().step_by(17) {
            let record = store.get(job(*n).guid).await.expect("get").expect("acknowledged, so it is there");
            assert_eq!(record.state, State::Started);
        }
    }
    let counts = store.counts().await.expect("counts");
    assert_eq!(counts.total(State::Started), all as u64);
    let there = counts.total(State::Started) + counts.total(State::Starting);
    assert_eq!(there, stored(&database) as u64, "the tally agrees with the rows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_many_callers_take_effect_in_their_order() {
    if !testpg::wanted() {
        return;
    }
    let store = Arc::new(connect(&testpg::shared().new_database().expect("a database")).await);
    let callers = (0..8_u64).map(|caller| {
        let store = store.clone();
        async move {
            for n in (caller * 1000)..(caller * 1000 + 40) {
                let inserted = store.insert(batch([job(n)], None, n % 2 == 0));
                let cancelled = store.cancel(vec![job(n).guid], at(5));
                let again = store.insert(batch([job(n)], None, true));
                let id = created(&inserted.await.expect("insert"))[0];
                let cancelled = cancelled.await.expect("cancel");
                assert!(matches!(cancelled[0], CancelVerdict::Cancelled { id: Some(by), .. } if by == id));
                assert_eq!(again.await.expect("insert"), [Inserted::Existing(job(n).guid)]);
            }
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    callers.for_each(|caller| drop(tasks.spawn(caller)));
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    assert_eq!(store.counts().await.expect("counts").total(State::Cancelled), 320);
}

fn wanted(ids: &[JobId], queue: &str) -> Vec<Wanted> {
    ids.iter().map(|id| Wanted { id: *id, lane: lane(queue), only: false }).collect()
}

fn claimed(verdicts: &[ClaimVerdict]) -> Vec<JobId> {
    let id = |verdict: &ClaimVerdict| match verdict {
        ClaimVerdict::Claimed(claimed) => Some(claimed.id),
        _ => None,
    };
    verdicts.iter().filter_map(id).collect()
}

#[tokio::test]
async fn nodes_that_want_the_same_jobs_get_different_ones() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().expect("a database");
    let (one, other) = (connect(&url).await, connect(&url).await);
    let ids = created(&one.insert(batch((0..40).map(job), None, true)).await.expect("insert"));
    let claim = |store: &PostgresStore| {
        let by = Claim { node: node(store), now: at(1) };
        store.fleet().expect("it has one").claim(wanted(&ids[..20], "default"), by)
    };
    let (first, second) = tokio::join!(claim(&one), claim(&other));
    let got: BTreeSet<_> =
        [first, second].into_iter().flat_map(|got| claimed(&got.expect("claim"))).collect();
    assert_eq!(got, ids.iter().copied().collect(), "40 jobs, each claimed once");
    // Nothing is left, and nothing is claimed under another's name.
    assert!(claimed(&claim(&one).await.expect("claim")).is_empty());
    let by = Claim { node: "another".into(), now: at(1) };
    let more = created(&one.insert(batch([job(99)], None, true)).await.expect("insert"));
    let fleet = one.fleet().expect("it has one");
    let verdicts = fleet.claim(wanted(&more, "default"), by).await.expect("claim");
    assert!(matches!(verdicts[..], [ClaimVerdict::Lost]));
}

#[tokio::test]
async fn limits_of_a_queue_hold_for_all_nodes_together() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().expect("a database");
    let (one, other) = (connect(&url).await, connect(&url).await);
    let in_queue = |n| Job { lane: lane("gpu"), ..job(n) };
    let ids = created(&one.insert(batch((0..12).map(in_queue), None, true)).await.expect("insert"));
    let claim = |store: &PostgresStore, ids: &[JobId]| {
        let by = Claim { node: node(store), now: at(1) };
        store.fleet().expect("it has one").claim(wanted(ids, "gpu"), by)
    };
    let held = |verdicts: &[ClaimVerdict]| {
        verdicts.iter().filter(|verdict| matches!(verdict, ClaimVerdict::Held(_))).count()
    };
    let limits = QueueLimits { max_in_flight: Some(3), ..QueueLimits::default() };
    one.set_queue("gpu".into(), Some(limits)).await.expect("it is set");
    let (first, second) = tokio::join!(claim(&one, &ids[..6]), claim(&other, &ids[6..]));
    let (first, second) = (first.expect("claim"), second.expect("claim"));
    let got = [claimed(&first), claimed(&second)].concat();
    assert_eq!((got.len(), held(&first) + held(&second)), (3, 9));
    // One ends, so one may start.
    other.settle(vec![started(got[0])], at(4)).await.expect("settle");
    let rest: Vec<_> = ids.iter().copied().filter(|id| !got.contains(id)).collect();
    assert_eq!(claimed(&claim(&one, &rest).await.expect("claim")).len(), 1);

    let paused = QueueLimits { paused: true, ..QueueLimits::default() };
    one.set_queue("gpu".into(), Some(paused)).await.expect("it is set");
    assert_eq!(held(&claim(&other, &rest[..2]).await.expect("claim")), 2);

    // A burst of two, then one an hour.
    let rate = Rate { starts: 1, per: Duration::from_secs(3600).into(), burst: 2 };
    let limits = QueueLimits { rate: Some(rate), ..QueueLimits::default() };
    one.set_queue("gpu".into(), Some(limits)).await.expect("it is set");
    let (first, second) = tokio::join!(claim(&one, &rest), claim(&other, &rest));
    let got = [claimed(&first.expect("claim")), claimed(&second.expect("claim"))].concat();
    assert_eq!(got.len(), 2);
    one.set_queue("gpu".into(), None).await.expect("it is forgotten");
    assert!(claimed(&claim(&one, &rest).await.expect("claim")).len() >= 5);
}

#[tokio::test]
async fn a_node_that_was_declared_dead_claims_nothing() {
    if !testpg::wanted() {
        return;
    }
    let (_proxy, url, database) = behind_proxy();
    let store = connect(&url).await;
    let me = node(&store);
    let ids = created(&store.insert(batch([job(1)], None, true)).await.expect("insert"));
    testpg::shared().sql_in(&database, "UPDATE sendoff.node SET dead_at = now()").expect("it is written");
    let refused = store.insert(batch([job(2)], Some(&me), true)).await;
    assert!(refused.is_err_and(|err| err.is_unavailable()));
    let by = Claim { node: me, now: at(1) };
    assert!(store.claim(ids, by).await.expect("claim")[0].is_none());
    assert_eq!(stored(&database), 1, "the others go on all the same");
    created(&store.insert(batch([job(3)], None, true)).await.expect("insert"));
}

#[tokio::test]
async fn what_cannot_be_stored_is_said_and_costs_nobody_else_anything() {
    if !testpg::wanted() {
        return;
    }
    let store = connect(&testpg::shared().new_database().expect("a database")).await;
    let key = Job { idempotency_key: Some("a\0b".into()), ..job(2) };
    let (before, bad, after) = tokio::join!(
        store.insert(batch([job(1)], None, true)),
        store.insert(batch([job(5), key], None, true)),
        store.insert(batch([job(3)], None, true)),
    );
    created(&before.expect("insert"));
    created(&after.expect("insert"));
    let err = bad.expect_err("it holds a NUL");
    assert!(
        err.is_invalid() && err.item() == Some(1) && err.to_string().contains("idempotency_key"),
        "{err}"
    );
    assert_eq!(store.counts().await.expect("counts").total(State::Pending), 2);
}
