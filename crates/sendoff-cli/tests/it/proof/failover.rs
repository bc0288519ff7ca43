//! The primary is killed and its synchronous standby promoted, again and again, under load.

use std::{
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use sendoff::{
    Timestamp,
    time::{Clock, SystemClock},
};
use serde_json::json;
use testpg::{Installation, Options, Server};
use uuid::Uuid;

use super::{
    Chance, figure,
    jobs::Recipe,
    judge::Case,
    load::Load,
    nodes::{MAX_IN_FLIGHT, Node, sockets, three},
    records::{idle, records, settled},
    seed, until,
    witness::Endpoint,
};

/// When a standby had become the primary.
struct Promoted {
    elapsed: Duration,
    at: Timestamp,
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_has_to_be_restarted() {
    if !testpg::wanted() {
        return;
    }
    let failovers = figure("SENDOFF_FAILOVERS", 1);
    // Submits a second.
    let pace = if failovers > 1 { 500 } else { 200 };
    let seed = seed();
    let one = Server::start(&Installation::find().unwrap(), Options::new()).unwrap();
    let url = one.new_database().unwrap();
    let two = one.standby("two").unwrap();
    one.set_synchronous(Some("ANY 1 (*)")).unwrap();
    one.wait_for_sync_standby().unwrap();
    let database = url.rsplit_once('/').unwrap().1;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", one.port(), two.port());
    let url = format!("postgres://sendoff@{hosts}/{database}?target_session_attrs=read-write");
    let nodes = three([&url, &url, &url]);

    let endpoint = Endpoint::open();
    let recipe = Recipe { seed, endpoint: endpoint.address, ledger: None, rich: false };
    let mut load = Load::new(&recipe, sockets(&nodes), usize::MAX);
    load.pace = Some(Duration::from_secs(1) / pace);
    let (promotions, refused) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let (acknowledged, ()) = load.run(|| {
        let mut chance = Chance::nth(seed, usize::MAX - 1);
        let (mut primary, mut standby) = (&one, &two);
        for _ in 0..failovers {
            // Moments are chance: nothing waits for them.
            std::thread::sleep(Duration::from_millis(500 + chance.below(1_500)));
            primary.kill().unwrap();
            refused.lock().unwrap().push(away(&nodes, chance.guid()));
            std::thread::sleep(Duration::from_millis(chance.below(1_000)));
            standby.promote().unwrap();
            promotions
                .lock()
                .unwrap()
                .push(Promoted { elapsed: SystemClock.elapsed(), at: SystemClock.now() });
            let before = load.acknowledged.load(Ordering::Relaxed);
            primary.rejoin(standby).unwrap();
            (primary, standby) = (standby, primary);
            primary.set_synchronous(Some("ANY 1 (*)")).unwrap();
            primary.wait_for_sync_standby().unwrap();
            until("submits to go on", || load.acknowledged.load(Ordering::Relaxed) >= before + 100);
        }
        load.stop.store(true, Ordering::Relaxed);
    });

    let mut caller = nodes[0].caller();
    settled(&mut caller);
    nodes.iter().for_each(|node| idle(&mut node.caller()));
    let counts = settled(&mut caller);
    let records = records(&mut caller);
    let case = Case {
        recipe: &recipe,
        acknowledged: &acknowledged,
        records: &records,
        endpoint: &endpoint,
        ledger: None,
    };
    let verdict = case.judge();
    // What was refused since nothing could be done was not done.
    let refused = refused.into_inner().unwrap();
    assert!(refused.iter().all(|(guid, _)| !records.contains_key(guid)));
    assert_eq!(records.len(), acknowledged.len());
    assert_eq!(counts.values().sum::<usize>(), records.len());
    let doubts = 3 * MAX_IN_FLIGHT * failovers;
    assert!(verdict.doubled <= doubts && verdict.unknown <= doubts, "{verdict}");
    nodes.iter().for_each(Node::check);

    let promotions = promotions.into_inner().unwrap();
    let mut moments = load.moments.into_inner().unwrap();
    moments.sort_unstable();
    let calls = endpoint.calls();
    let submits = promotions.iter().map(|promoted| {
        let next = moments[moments.partition_point(|moment| *moment < promoted.elapsed)];
        next - promoted.elapsed
    });
    let starts = promotions.iter().map(|promoted| {
        let later = calls.iter().map(|call| call.at).filter(|at| *at >= promoted.at);
        later.min().unwrap().saturating_since(promoted.at)
    });
    println!("{failovers} failovers at {pace} submits a second: {verdict}");
    println!("{} answers 503", load.refused.load(Ordering::Relaxed));
    let waits = refused.iter().map(|(_, waited)| *waited);
    println!("from a submit to its refusal: {}", figures(waits.collect()));
    println!("from promotion to the first acknowledged submit: {}", figures(submits.collect()));
    println!("from promotion to the first start: {}", figures(starts.collect()));
}

/// Waits until each node says that it is alive and takes no jobs, and has one of this guid refused:
/// after how long.
fn away(nodes: &[Node; 3], guid: Uuid) -> (Uuid, Duration) {
    for node in nodes {
        let mut caller = node.caller();
        until("a node that is not ready", || caller.ask("GET", "/readyz", "").unwrap().0 == 503);
        assert_eq!(caller.ask("GET", "/healthz", "").unwrap().0, 200);
    }
    let mut caller = nodes[0].caller();
    let job = json!({"start": {"simulated": {"delay": "1ms"}}, "guid": guid.to_string()});
    let asked = SystemClock.elapsed();
    let (status, answer) = caller.ask("POST", "/v1/jobs", &job.to_string()).unwrap();
    let waited = SystemClock.elapsed() - asked;
    assert_eq!((status, &answer["type"]), (503, &"/problems/store_unavailable".into()), "{answer}");
    assert!(caller.retry_after.is_some(), "{answer}");
    (guid, waited)
}

fn figures(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    format!("median {:.1?}, max {:.1?}", times[times.len() / 2], times[times.len() - 1])
}
