//! PostgreSQL is away for minutes while jobs become due.

use std::{sync::atomic::Ordering, time::Duration};

use sendoff::time::{Clock, SystemClock};
use serde_json::json;
use testpg::{Installation, Options, Server};

use super::super::{
    figure,
    jobs::Recipe,
    judge::Case,
    load::Load,
    nodes::{MAX_IN_FLIGHT, Node, sockets},
    records::{idle, records, settled},
    seed, until,
    witness::Endpoint,
};

/// Submits a second.
const PACE: u32 = 100;

#[test]
fn a_database_that_is_away_is_waited_for_in_bounded_memory() {
    if !testpg::wanted() {
        return;
    }
    let (seconds, due) = (figure("SENDOFF_AWAY", 6), figure("SENDOFF_JOBS", 3_000));
    let seed = seed();
    let server = Server::start(&Installation::find().unwrap(), Options::new()).unwrap();
    let nodes = [Node::start(&server.new_database().unwrap(), &[])];
    let node = &nodes[0];
    let endpoint = Endpoint::open();
    let recipe = Recipe { seed, endpoint: endpoint.address, ledger: None, rich: false };
    let mut load = Load::new(&recipe, sockets(&nodes), usize::MAX);
    load.pace = Some(Duration::from_secs(1) / PACE);
    let mut caller = node.caller();
    // They become due while the database is away.
    let job = json!({"start": {"simulated": {"delay": "1ms"}}, "delay": "4s"}).to_string();
    for first in (0..due).step_by(5_000) {
        let batch = format!("[{}]", vec![job.as_str(); (due - first).min(5_000)].join(","));
        let (status, answer) = caller.ask("POST", "/v1/jobs:batch", &batch).unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    let (acknowledged, (grown, waited)) = load.run(|| {
        until("jobs", || load.acknowledged.load(Ordering::Relaxed) >= 100);
        let before = node.memory();
        server.stop_fast().unwrap();
        let mut most = before;
        for _ in 0..seconds {
            // How long it is away is the matter.
            std::thread::sleep(Duration::from_secs(1));
            most = most.max(node.memory());
        }
        let (status, problem) = node.caller().ask("GET", "/readyz", "").unwrap();
        assert_eq!(status, 503, "{problem}");
        assert_eq!(node.caller().ask("GET", "/healthz", "").unwrap().0, 200);
        let count = load.acknowledged.load(Ordering::Relaxed);
        server.restart().unwrap();
        let back = SystemClock.elapsed();
        until("submits to go on", || load.acknowledged.load(Ordering::Relaxed) > count);
        let waited = SystemClock.elapsed() - back;
        until("more", || load.acknowledged.load(Ordering::Relaxed) >= count + 100);
        load.stop.store(true, Ordering::Relaxed);
        (most - before, waited)
    });
    let back = SystemClock.elapsed();
    settled(&mut caller);
    let drained = SystemClock.elapsed() - back;
    idle(&mut caller);
    let records = records(&mut caller);
    let case = Case {
        recipe: &recipe,
        acknowledged: &acknowledged,
        records: &records,
        endpoint: &endpoint,
        ledger: None,
    };
    let verdict = case.judge();
    assert_eq!(records.len(), acknowledged.len() + due);
    let started = records.values().filter(|record| record.state == "started").count();
    assert!(started + verdict.unknown >= records.len() - verdict.jobs.min(MAX_IN_FLIGHT), "{verdict}");
    assert!(verdict.doubled <= MAX_IN_FLIGHT && verdict.unknown <= MAX_IN_FLIGHT, "{verdict}");
    nodes.iter().for_each(Node::check);
    println!(
        "away for {seconds} s with {due} due and {PACE} submits a second: {grown} KiB more, submits again \
         after {waited:.1?}, drained {drained:.1?} after the load; {} answers 503; {verdict}",
        load.refused.load(Ordering::Relaxed)
    );
    assert!(grown < 50 << 10, "{grown} KiB");
}
