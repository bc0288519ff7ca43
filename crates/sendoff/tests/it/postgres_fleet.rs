//! Nodes on one PostgreSQL: who lives, who is dead, and what becomes of what they had in hand.

use std::{net::Ipv4Addr, process::Command, sync::Arc, time::Duration};

use futures_util::FutureExt;
use sendoff::{
    Delivery, Job, JobRecord, Receipt, State,
    ports::{
        Claim, ClaimVerdict, Fleet, InsertBatch, Inserted, NewJob, NodeState, Settlement, Store, Wake, Wanted,
    },
    state::{Begun, Outcome},
    store::{PostgresOptions, PostgresStore, postgres::Rehearsal},
    testing::model::{at, job},
    time::{Clock, SystemClock},
};
use testpg::{Proxy, Server};

/// A heartbeat each quarter of a second, a lease of one second, death after two and a quarter.
const QUICK: Rehearsal = Rehearsal { pace: 0.05, certain_death: false, reclaims: true };
/// Where a node must not be taken for dead because the machine is busy.
const STEADY: Rehearsal = Rehearsal { pace: 0.15, ..QUICK };

fn options(rehearsal: Rehearsal) -> PostgresOptions {
    PostgresOptions { rehearsal, ..PostgresOptions::default() }
}

async fn open(url: &str, rehearsal: Rehearsal) -> (PostgresStore, Arc<dyn Fleet>) {
    let store = PostgresStore::connect(url, options(rehearsal)).await.unwrap();
    let fleet = store.fleet().unwrap();
    (store, fleet)
}

/// Waits until it is so.
macro_rules! until {
    ($what:literal, $so:expr) => {
        let begun = SystemClock.elapsed();
        while !$so {
            assert!(SystemClock.elapsed() - begun < Duration::from_secs(60), "never: {}", $what);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
}

/// Inserts it `starting`, in the name of this node.
async fn start(store: &PostgresStore, job: Job) -> sendoff::JobId {
    let node = store.fleet().unwrap().lease().node().clone();
    let jobs = vec![NewJob { job: Arc::new(job), claim: Some(node) }];
    let inserted =
        store.insert(InsertBatch { jobs, atomic: true, bookmark: None, now: at(1) }).await.unwrap();
    match inserted[..] {
        [Inserted::Created(id)] => id,
        ref other => panic!("{other:?}"),
    }
}

async fn record(store: &PostgresStore, n: u64) -> JobRecord {
    store.get(job(n).guid).await.unwrap().unwrap()
}

fn database() -> Option<(&'static Server, String, String)> {
    if !testpg::wanted() {
        return None;
    }
    let server = testpg::shared();
    let url = server.new_database().unwrap();
    let name = url.rsplit('/').next().unwrap().to_owned();
    Some((server, url, name))
}

#[tokio::test]
async fn a_node_whose_heartbeat_stops_is_dead_and_its_late_outcome_counts() {
    let Some((_, url, _)) = database() else { return };
    let (stalled, fleet) = open(&url, QUICK).await;
    let (other, others) = open(&url, QUICK).await;
    let id = start(&stalled, job(1)).await;
    start(&stalled, Job { delivery: Delivery::AtMostOnce, ..job(2) }).await;
    let lease = fleet.lease();
    assert!(lease.holds(SystemClock.elapsed()));
    stalled.pause_heartbeat(true);
    until!("what it had in hand comes back", record(&other, 1).await.state == State::Pending);
    assert!(!lease.holds(SystemClock.elapsed()), "it begins nothing any more, long before it is dead");
    until!("all of it", record(&other, 2).await.state == State::Unknown);
    assert_eq!(others.woken().await, Wake::Hint);

    // It was alive after all, and its start had happened.
    let settlement = Settlement {
        id,
        fence: 1,
        begun: Some(Begun { starting_at: at(2), clock_skew_us: 0 }),
        outcome: Outcome::Started { started_at: at(3), receipt: Receipt::default() },
    };
    let settled = stalled.settle(vec![settlement], at(4)).await.unwrap();
    assert!(settled[0].applied);
    stalled.pause_heartbeat(false);
    until!("it registers anew", !Arc::ptr_eq(&fleet.lease(), &lease));
    until!("and may begin again", fleet.lease().holds(SystemClock.elapsed()));
    assert_ne!(fleet.lease().node(), lease.node());
    assert!(!lease.holds(Duration::ZERO), "what it had in hand before ends under the old lease");

    let late = stalled.insert(InsertBatch {
        jobs: vec![NewJob { job: Arc::new(job(3)), claim: None }],
        atomic: true,
        bookmark: None,
        now: at(1),
    });
    let [Inserted::Created(id)] = late.await.unwrap()[..] else { panic!("it is new") };
    let wanted = vec![Wanted { id, lane: job(3).lane.clone(), only: false }];
    let by = Claim { node: lease.node().clone(), now: at(9) };
    assert!(matches!(fleet.claim(wanted.clone(), by).await.unwrap()[..], [ClaimVerdict::Lost]));
    let by = Claim { node: fleet.lease().node().clone(), now: at(9) };
    assert!(matches!(fleet.claim(wanted, by).await.unwrap()[..], [ClaimVerdict::Claimed(_)]));
    assert_eq!(fleet.mine().await.unwrap(), [(id, 1)]);

    until!("the dead one is forgotten", others.nodes().await.unwrap().len() == 2);
    let (one, two) = (record(&other, 1).await, record(&other, 2).await);
    assert_eq!((one.state, one.possible_duplicate), (State::Started, true));
    assert_eq!((two.state, two.crashes), (State::Unknown, 1), "it is taken back once");
    let counts = other.counts().await.unwrap();
    assert_eq!((counts.total(State::Started), counts.total(State::Unknown)), (1, 1));
    assert_eq!(counts.total(State::Starting), 1);
}

#[tokio::test]
async fn an_outage_of_the_database_is_nobodys_death() {
    let Some((server, _, name)) = database() else { return };
    let proxy = Proxy::start((Ipv4Addr::LOCALHOST, server.port()).into());
    let url = format!("postgres://sendoff@127.0.0.1:{}/{name}", proxy.port());
    let (_one, first) = open(&url, STEADY).await;
    let (_two, second) = open(&url, STEADY).await;
    let leases = [first.lease(), second.lease()];
    // Shorter than a lease, then longer than it takes to be dead.
    for outage in [Duration::from_millis(300), Duration::from_secs(9)] {
        proxy.cut();
        tokio::time::sleep(outage).await;
        proxy.heal();
        until!("both beat again", leases.iter().all(|lease| lease.holds(SystemClock.elapsed())));
    }
    let nodes = first.nodes().await.unwrap();
    assert_eq!(nodes.len(), 2);
    assert!(nodes.iter().all(|node| node.state == NodeState::Alive), "{nodes:?}");
    for (fleet, lease) in [(&first, &leases[0]), (&second, &leases[1])] {
        assert!(Arc::ptr_eq(&fleet.lease(), lease), "it is the same registration");
    }
}

#[tokio::test]
async fn a_process_of_this_machine_that_has_ended_is_dead_at_once() {
    let Some((server, url, name)) = database() else { return };
    let mut ended = Command::new("true").spawn().unwrap();
    let pid = ended.id();
    ended.wait().unwrap();
    let unhurried = Rehearsal { pace: 1.0, ..QUICK };
    let (living, _fleet) = open(&url, unhurried.clone()).await;
    start(&living, job(1)).await;
    // A node that looks like this one, but for its process, and another that ran elsewhere.
    let copied = |pid: u32, boot: &str| {
        format!(
            "WITH named AS (INSERT INTO sendoff.node_name (name) VALUES ('gone') RETURNING id)
             INSERT INTO sendoff.node (id, host, pid, boot_id, pid_namespace, pid_started, version)
             SELECT named.id, host, {pid}, {boot}, pid_namespace, pid_started, version
             FROM sendoff.node, named ORDER BY node.started_at LIMIT 1"
        )
    };
    server.sql_in(&name, &copied(pid, "'elsewhere'")).unwrap();
    server.sql_in(&name, &copied(pid, "boot_id")).unwrap();
    let its = format!("(SELECT id FROM sendoff.node WHERE pid = {pid} AND boot_id <> 'elsewhere')");
    server.sql_in(&name, &format!("UPDATE sendoff.job SET node = {its}")).unwrap();
    // The first heartbeat of whoever comes next sees it.
    let (_second, fleet) = open(&url, Rehearsal { certain_death: true, ..unhurried }).await;
    until!("its job is taken back", record(&living, 1).await.state == State::Pending);
    until!("it is forgotten, and nobody else", fleet.nodes().await.unwrap().len() == 3);
}

#[tokio::test]
async fn who_leaves_is_gone_or_leaves_its_jobs_to_others() {
    let Some((_, url, _)) = database() else { return };
    let (staying, fleet) = open(&url, QUICK).await;
    let (clean, _) = open(&url, QUICK).await;
    assert_eq!(fleet.nodes().await.unwrap().len(), 2);
    clean.close().await.unwrap();
    assert_eq!(fleet.nodes().await.unwrap().len(), 1);
    // At the usual pace it would be missed after 45 s.
    let (hasty, own) = open(&url, Rehearsal { pace: 1.0, ..QUICK }).await;
    start(&hasty, job(1)).await;
    let lease = own.lease();
    hasty.close().await.unwrap();
    assert!(!lease.holds(SystemClock.elapsed()));
    until!("its job is taken back", record(&staying, 1).await.state == State::Pending);
    until!("and it is gone", fleet.nodes().await.unwrap().len() == 1);
    // One that is dropped leaves, too.
    let (dropped, own) = open(&url, Rehearsal { pace: 1.0, ..QUICK }).await;
    drop((dropped, own));
    until!("it has left", fleet.nodes().await.unwrap().len() == 1);
}

#[tokio::test]
async fn the_clock_is_the_databases() {
    let Some((server, url, name)) = database() else { return };
    let (_store, fleet) = open(&url, QUICK).await;
    let clock = fleet.clock();
    let mut session = server.session(&name).unwrap();
    for _ in 0..200 {
        let least = clock.now();
        let rows = session.sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").unwrap();
        let most = clock.latest();
        let shown: i64 = rows[0][0].as_deref().unwrap().parse().unwrap();
        // A microsecond for what is rounded.
        assert!(least.as_micros() <= shown + 1 && shown <= most.as_micros() + 1, "{least} {shown} {most}");
    }
}

#[tokio::test]
async fn hints_wake_the_others_and_not_oneself() {
    let Some((_, url, _)) = database() else { return };
    let (_one, first) = open(&url, QUICK).await;
    let (_two, second) = open(&url, QUICK).await;
    let (_deaf, third) = {
        let store =
            PostgresStore::connect(&url, PostgresOptions { hints: false, ..options(QUICK) }).await.unwrap();
        let fleet = store.fleet().unwrap();
        (store, fleet)
    };
    // Each looks once when it begins to listen.
    assert_eq!(first.woken().await, Wake::Hint);
    assert_eq!(second.woken().await, Wake::Hint);
    for _ in 0..3 {
        first.hint();
        assert_eq!(second.woken().await, Wake::Hint);
    }
    // By an answer to that one its own hints have come back, too.
    second.hint();
    assert_eq!(first.woken().await, Wake::Hint);
    assert_eq!(third.woken().now_or_never(), None, "it does not listen");
}

#[tokio::test]
async fn nodes_are_shown_as_they_are() {
    let Some((_, url, _)) = database() else { return };
    let watcher = PostgresOptions {
        queues: Some(vec!["mail".into(), "web".into()]),
        ..options(Rehearsal { reclaims: false, ..QUICK })
    };
    let watching = PostgresStore::connect(&url, watcher).await.unwrap();
    let fleet = watching.fleet().unwrap();
    let (stalled, its) = open(&url, Rehearsal { reclaims: false, ..QUICK }).await;
    fleet.report(7);
    until!("it tells what it has in flight", fleet.nodes().await.unwrap()[0].in_flight == 7);
    let nodes = fleet.nodes().await.unwrap();
    let names: Vec<_> = nodes.iter().map(|node| &*node.node).collect();
    assert_eq!(names, [&**fleet.lease().node(), &**its.lease().node()]);
    assert_eq!([nodes[0].this, nodes[1].this], [true, false]);
    assert_eq!(nodes[0].queues.as_deref(), Some(["mail".to_owned(), "web".to_owned()].as_slice()));
    assert_eq!(nodes[1].queues, None);
    assert!(nodes[0].address.ends_with(&format!(":{}", std::process::id())), "{}", nodes[0].address);
    assert!(nodes.iter().all(|node| node.state == NodeState::Alive && node.started_at <= node.heartbeat_at));
    // What it has in hand keeps its row.
    start(&stalled, job(1)).await;
    stalled.pause_heartbeat(true);
    for state in [NodeState::Late, NodeState::Dead] {
        until!("it is late, then dead", fleet.nodes().await.unwrap()[1].state == state);
    }
    assert_eq!(fleet.nodes().await.unwrap()[0].state, NodeState::Alive);
}
