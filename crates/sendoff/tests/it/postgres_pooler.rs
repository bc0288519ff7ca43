//! PostgreSQL by way of a pooler that pools by transaction and knows no prepared statements: each
//! transaction may run in another session.

use std::{sync::Arc, time::Duration};

use sendoff::{
    JobSpec, QueueLimits, Scheduler, State,
    ports::{NodeState, Store},
    store::{PostgresOptions, PostgresStore, postgres::Rehearsal},
    testing::{Plan, Scripted, ScriptedStarter, conformance::exercise},
    time::{Clock, SystemClock},
};
use testpg::Pooler;

use super::postgres_store::OnServer;

/// Fewer sessions than two nodes have connections.
const SESSIONS: usize = 4;
const JOBS: u64 = 400;
const ROUNDS: usize = 64;

fn pooler() -> Option<Pooler> {
    if !testpg::wanted() {
        return None;
    }
    Pooler::start(testpg::shared(), SESSIONS).unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn the_postgres_store_conforms_behind_a_pooler() {
    if let Some(pooler) = pooler() {
        exercise(&OnServer { pooler: Some(pooler), ..OnServer::default() }).await;
    }
}

/// A node that serves these queues, with heartbeats twice a second, and looks for others' jobs ten times.
async fn node(url: &str, starter: &ScriptedStarter, queues: &[&str]) -> Scheduler {
    let options = PostgresOptions {
        queues: Some(queues.iter().map(|queue| (*queue).to_owned()).collect()),
        poll_interval: Duration::from_millis(100),
        rehearsal: Rehearsal { pace: 0.1, ..Rehearsal::default() },
        ..PostgresOptions::default()
    };
    let store = PostgresStore::connect(url, options).await.unwrap();
    let builder = Scheduler::builder().store(Arc::new(store)).starter(starter.clone());
    builder.max_in_flight(8).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_behind_a_pooler_start_each_job_once_within_limits() {
    let Some(pooler) = pooler() else { return };
    let url = testpg::shared().new_database().unwrap();
    let url = pooler.url(url.rsplit('/').next().unwrap());
    let starter = ScriptedStarter::by_script(|_| Plan::STARTED.taking(Duration::from_millis(5)));
    let one = node(&url, &starter, &["default", "gpu"]).await;
    let limits = QueueLimits { max_in_flight: Some(2), ..QueueLimits::default() };
    one.set_queue_limits("gpu", Some(limits)).await.unwrap();
    let two = node(&url, &starter, &["default", "gpu", "mail"]).await;
    let before = two.nodes().await.unwrap();
    for n in 0..JOBS {
        let to = if n % 2 == 0 { &one } else { &two };
        let spec = JobSpec::new(&Scripted { n, to: Some(format!("host{}", n % 40)) });
        drop(to.submit(if n % 4 < 2 { spec.queue("gpu") } else { spec }).unwrap());
    }
    // Only the other node starts it, and no hint need tell it so.
    let others = one.submit(JobSpec::new(&Scripted { n: JOBS, to: None }).queue("mail")).unwrap();
    let begun = SystemClock.elapsed();
    loop {
        let counts = two.counts().await.unwrap();
        let at_once = counts.queues.get("gpu").and_then(|gpu| gpu.get(&State::Starting)).copied();
        assert!(at_once.unwrap_or(0) <= 2, "{counts:?}");
        let nodes = one.nodes().await.unwrap();
        assert!(nodes.iter().all(|node| node.state == NodeState::Alive), "{nodes:?}");
        let has_beaten = nodes.iter().zip(&before).all(|(is, was)| is.heartbeat_at > was.heartbeat_at);
        if counts.total(State::Started) == JOBS + 1 && has_beaten {
            break;
        }
        assert!(SystemClock.elapsed() - begun < Duration::from_secs(60), "it takes for ever: {counts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let all = usize::try_from(JOBS).unwrap() + 1;
    assert_eq!(starter.begun_in_all(), (all, all), "each once");
    assert_eq!(others.started().await.unwrap().node.as_deref(), Some(&*before[1].node));
    let names = |nodes: &[sendoff::ports::NodeRecord]| -> Vec<_> {
        nodes.iter().map(|node| node.node.clone()).collect()
    };
    assert_eq!(names(&two.nodes().await.unwrap()), names(&before), "none had to register anew");
}

/// Whoever comes next gets the session of one that vanished: an old pooler does not look whether answers
/// are still to come.
#[tokio::test]
async fn a_node_that_vanishes_leaves_no_answer_to_another() {
    let Some(pooler) = pooler() else { return };
    let url = testpg::shared().new_database().unwrap();
    let url = pooler.url(url.rsplit('/').next().unwrap()) + "?prepare=off";
    for round in 0..ROUNDS {
        let options = PostgresOptions { hints: false, ..PostgresOptions::default() };
        let store = PostgresStore::connect(&url, options).await;
        let store = store.unwrap_or_else(|error| panic!("round {round}: {error}"));
        // It has just begun its first heartbeat, or is about to.
        for _ in 0..round % 8 {
            store.counts().await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        }
        store.crash();
    }
}
