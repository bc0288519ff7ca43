//! Several schedulers on one store, with leases, hints and answers that the test takes away.

use std::time::Duration;

use sendoff::{
    Builder, Delivery, JobSpec, QueueLimits, Rate, Scheduler, State,
    ports::{NodeState, StartErrorClass},
    testing::{FleetNode, FleetOf, Plan, ScriptedStarter, Seen},
};
use tokio::time::{Instant, sleep, timeout};

use super::{MILLISECOND, SECOND, job, quiet, record, wall};

/// The longest time to a job of another node without hints: one poll interval.
const POLL: Duration = Duration::from_secs(5);

fn fleet() -> FleetOf {
    FleetOf::starting_at(wall())
}

async fn start(
    node: &FleetNode,
    starter: &ScriptedStarter,
    change: impl FnOnce(Builder) -> Builder,
) -> Scheduler {
    let builder = Scheduler::builder().store(std::sync::Arc::new(node.clone()));
    change(builder.starter(starter.clone()).seed(1)).start().await.unwrap()
}

/// As many nodes, each with its scheduler, all with the same starter.
async fn nodes(fleet: &FleetOf, starter: &ScriptedStarter, count: usize) -> Vec<(Scheduler, FleetNode)> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        let node = fleet.node();
        nodes.push((start(&node, starter, |builder| builder.max_in_flight(4)).await, node));
    }
    quiet().await;
    nodes
}

fn taking(takes: Duration) -> ScriptedStarter {
    ScriptedStarter::by_script(move |_| Plan::STARTED.taking(takes))
}

/// How many attempts of these went on at once at most, if each took so long.
fn most_at_once(seen: &[Seen], took: Duration) -> usize {
    let begun: Vec<Instant> = seen.iter().filter_map(|seen| seen.begun).collect();
    let at = |at: Instant| begun.iter().filter(|begun| **begun <= at && at < **begun + took).count();
    begun.iter().map(|begun| at(*begun)).max().unwrap_or(0)
}

#[tokio::test(start_paused = true)]
async fn each_job_starts_once_and_all_nodes_take_part() {
    let (fleet, starter) = (fleet(), taking(SECOND));
    let nodes = nodes(&fleet, &starter, 3).await;
    let begin = Instant::now();
    for n in 0..300 {
        drop(nodes[n as usize % 2].0.submit(job(n)).unwrap());
    }
    for (scheduler, _) in &nodes {
        scheduler.idle().await.unwrap();
    }
    assert_eq!(starter.begun_in_all(), (300, 300));
    assert_eq!(most_at_once(&starter.seen(), SECOND), 12, "4 on each of 3 nodes");
    assert!(begin.elapsed() < 28 * SECOND, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn without_hints_a_job_that_only_another_node_can_start_is_found_by_polling() {
    let (fleet, starter) = (fleet(), taking(MILLISECOND));
    fleet.lose_hints(true);
    let (own, other) = (fleet.node_for(&["a"]), fleet.node_for(&["b"]));
    let (own, _other) =
        (start(&own, &starter, |builder| builder).await, start(&other, &starter, |builder| builder).await);
    quiet().await;
    let begin = Instant::now();
    let now = own.submit(job(1).queue("b")).unwrap();
    let later = own.submit(job(2).queue("b").delay(30 * SECOND)).unwrap();
    now.started().await.unwrap();
    // The record is read again every 2 s at most.
    assert!(begin.elapsed() <= POLL + 2 * SECOND, "{:?}", begin.elapsed());
    let later = later.started().await.unwrap();
    assert!(later.wait_us.unwrap() < 5_000, "known before it was due: {later:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hint_brings_a_job_at_once_to_the_node_that_serves_its_queue() {
    let (fleet, starter) = (fleet(), taking(MILLISECOND));
    let nodes = [fleet.node_for(&["a"]), fleet.node_for(&["b"])];
    let a = start(&nodes[0], &starter, |builder| builder).await;
    let _b = start(&nodes[1], &starter, |builder| builder).await;
    quiet().await;
    let record = a.submit(job(1).queue("b")).unwrap().started().await.unwrap();
    assert!(record.wait_us.unwrap() < 5_000, "{record:?}");
    assert_eq!(record.node.as_deref(), Some(&*nodes[1].name()));
    let nobodys = a.submit(job(2).queue("c")).unwrap().await.unwrap().guid;
    sleep(60 * SECOND).await;
    assert_eq!(self::record(&a, nobodys).await.state, State::Pending);
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_node_left_is_started_once_more_only_if_that_is_allowed() {
    let fleet = fleet();
    let hangs = ScriptedStarter::by_script(|_| Plan::STARTED.taking(3600 * SECOND));
    let starter = taking(MILLISECOND);
    let dead = fleet.node();
    let doomed = start(&dead, &hangs, |builder| builder).await;
    let survivor = start(&fleet.node(), &starter, |builder| builder).await;
    quiet().await;
    let again = doomed.submit(job(1)).unwrap().await.unwrap().guid;
    let once = doomed
        .submit(JobSpec { delivery: Some(Delivery::AtMostOnce), ..job(2) })
        .unwrap()
        .await
        .unwrap()
        .guid;
    quiet().await;
    assert_eq!(hangs.begun_in_all(), (2, 2));
    dead.kill();
    sleep(40 * SECOND).await;
    assert_eq!(record(&survivor, again).await.state, State::Starting, "not dead yet");
    sleep(20 * SECOND).await;
    let again = record(&survivor, again).await;
    assert!(again.state == State::Started && again.possible_duplicate, "{again:?}");
    assert_eq!(record(&survivor, once).await.state, State::Unknown);
    assert_eq!(starter.begun_in_all(), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn under_a_lease_that_ran_out_nothing_begins_or_is_claimed() {
    let fleet = fleet();
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let (other_starter, mut other_attempts) = ScriptedStarter::by_hand();
    let node = fleet.node();
    let scheduler = start(&node, &starter, |builder| builder).await;
    quiet().await;
    let guid = scheduler.submit(job(1)).unwrap().await.unwrap().guid;
    let attempt = attempts.next().await;
    node.silence(true);
    sleep(21 * SECOND).await;
    let refusal = attempt.begin().unwrap_err();
    assert_eq!(refusal.class, StartErrorClass::Released);
    attempt.error(refusal);
    let accepted = scheduler.submit(job(2)).unwrap().await.expect("it is stored, and not claimed");
    sleep(SECOND).await;
    assert!(attempts.try_next().is_none());
    assert_eq!(record(&scheduler, guid).await.state, State::Pending);
    // Another node takes over, also while this one thinks of nothing but its heart.
    let _other = start(&fleet.node(), &other_starter, |builder| builder).await;
    for _ in 0..2 {
        let attempt = other_attempts.next().await;
        attempt.begin().unwrap();
        attempt.started();
    }
    assert!(scheduler.started(accepted.guid).await.is_ok() && scheduler.started(guid).await.is_ok());
    assert_eq!(starter.begun_in_all(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_declared_dead_registers_anew_and_goes_on() {
    let fleet = fleet();
    let (starter, mut attempts) = ScriptedStarter::by_hand();
    let node = fleet.node();
    let scheduler = start(&node, &starter, |builder| builder).await;
    quiet().await;
    let first = node.name();
    let guid = scheduler.submit(job(1)).unwrap().await.unwrap().guid;
    let stale = attempts.next().await;
    node.revoke();
    assert!(stale.begin().is_err());
    sleep(POLL).await;
    assert_ne!(node.name(), first);
    // The same job is claimed once more, and waits for its old attempt to be settled here.
    quiet().await;
    stale.error(sendoff::ports::StartError::not_started("too late"));
    let attempt = timeout(20 * SECOND, attempts.next()).await.expect("it is claimed again");
    attempt.begin().unwrap();
    attempt.started();
    let record = scheduler.started(guid).await.unwrap();
    assert_eq!(record.node.as_deref(), Some(&*node.name()));
    assert_eq!(starter.begun(guid), 1);
}

#[tokio::test(start_paused = true)]
async fn a_limit_set_on_one_node_holds_for_all_of_them_together() {
    let (fleet, starter) = (fleet(), taking(SECOND));
    let nodes = nodes(&fleet, &starter, 3).await;
    let limits = QueueLimits { max_in_flight: Some(2), ..QueueLimits::default() };
    nodes[0].0.set_queue_limits("default", Some(limits)).await.unwrap();
    sleep(POLL).await;
    for n in 0..30 {
        drop(nodes[n as usize % 3].0.submit(job(n)).unwrap());
    }
    timeout(60 * SECOND, nodes[1].0.idle()).await.expect("they are not stuck").unwrap();
    assert_eq!(starter.begun_in_all(), (30, 30));
    assert_eq!(most_at_once(&starter.seen(), SECOND), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rate_holds_for_all_nodes_together() {
    let (fleet, starter) = (fleet(), taking(MILLISECOND));
    let nodes = nodes(&fleet, &starter, 2).await;
    let rate = Rate { starts: 2, per: SECOND.into(), burst: 1 };
    let limits = QueueLimits { rate: Some(rate), ..QueueLimits::default() };
    nodes[0].0.set_queue_limits("default", Some(limits)).await.unwrap();
    sleep(POLL).await;
    let begin = Instant::now();
    for n in 0..20 {
        drop(nodes[n as usize % 2].0.submit(job(n)).unwrap());
    }
    nodes[0].0.idle().await.unwrap();
    assert_eq!(starter.begun_in_all(), (20, 20));
    let took = begin.elapsed();
    assert!(took >= 9 * SECOND && took < 15 * SECOND, "19 half seconds: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_paused_on_one_node_stands_still_on_the_others() {
    let (fleet, starter) = (fleet(), taking(MILLISECOND));
    let nodes = nodes(&fleet, &starter, 2).await;
    fleet.lose_hints(true);
    let paused = QueueLimits { paused: true, ..QueueLimits::default() };
    nodes[0].0.set_queue_limits("default", Some(paused)).await.unwrap();
    sleep(POLL).await;
    let guid = nodes[1].0.submit(job(1)).unwrap().await.unwrap().guid;
    sleep(60 * SECOND).await;
    assert_eq!(starter.begun(guid), 0);
    fleet.lose_hints(false);
    nodes[0].0.set_queue_limits("default", None).await.unwrap();
    sleep(10 * MILLISECOND).await;
    assert_eq!(record(&nodes[1].0, guid).await.state, State::Started, "by a hint");
}

#[tokio::test(start_paused = true)]
async fn claims_whose_answer_was_lost_are_given_back() {
    let (fleet, starter) = (fleet(), taking(SECOND));
    let nodes = nodes(&fleet, &starter, 2).await;
    for (round, (scheduler, node)) in nodes.iter().cycle().take(20).enumerate() {
        let n = round as u64 * 10;
        // Of the insert that claims at first, then of claims and settlements as they come.
        node.lose_answers(1 + round % 3);
        match scheduler.submit(job(n)).unwrap().await {
            Err(lost) => assert!(lost.is_commit_unknown()),
            Ok(_) => assert!(round > 0),
        }
        for n in n + 1..n + 10 {
            drop(scheduler.submit(job(n).delay((n % 3) as u32 * 100 * MILLISECOND)).unwrap());
        }
        sleep(SECOND).await;
    }
    timeout(120 * SECOND, nodes[0].0.idle()).await.expect("nothing is stuck").unwrap();
    assert_eq!(starter.begun_in_all(), (200, 200), "what is given back had not begun");
    assert_eq!(nodes[0].0.counts().await.unwrap().total(State::Started), 200);
    assert!(nodes.iter().all(|(scheduler, _)| scheduler.in_flight() == 0));
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_is_only_late_is_not_given_back() {
    let (fleet, starter) = (fleet(), taking(SECOND));
    let nodes = nodes(&fleet, &starter, 1).await;
    let (scheduler, node) = &nodes[0];
    node.delay_answers(500 * MILLISECOND);
    let late = scheduler.submit(job(1)).unwrap();
    let due = scheduler.submit(job(2).delay(100 * MILLISECOND)).unwrap();
    sleep(200 * MILLISECOND).await;
    node.lose_answers(1);
    let lost = scheduler.submit(job(3)).unwrap();
    assert!(lost.await.unwrap_err().is_commit_unknown());
    for submission in [late, due] {
        let record = submission.started().await.unwrap();
        assert_eq!((record.fence, record.attempt), (1, 1), "{record:?}");
    }
    scheduler.idle().await.unwrap();
    assert_eq!(starter.begun_in_all(), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off_goes_on_when_it_is_back() {
    let (fleet, starter) = (fleet(), taking(SECOND));
    let nodes = nodes(&fleet, &starter, 2).await;
    for n in 0..40 {
        drop(nodes[0].0.submit(job(n)).unwrap());
    }
    quiet().await;
    nodes[0].1.cut(true);
    let refused = nodes[0].0.submit(job(99)).unwrap().await.unwrap_err();
    assert!(refused.is_unavailable(), "{refused}");
    sleep(10 * SECOND).await;
    nodes[0].1.cut(false);
    nodes[0].0.idle().await.unwrap();
    assert_eq!(starter.begun_in_all(), (40, 40));
    assert_eq!(nodes[1].0.counts().await.unwrap().total(State::Started), 40);
}

#[tokio::test(start_paused = true)]
async fn the_nodes_of_a_fleet_and_of_a_store_without_one() {
    let (fleet, starter) = (fleet(), taking(10 * SECOND));
    let busy = fleet.node_for(&["default"]);
    let scheduler = start(&busy, &starter, |builder| builder).await;
    let silent = fleet.node();
    let _other = start(&silent, &starter, |builder| builder).await;
    drop(scheduler.submit(job(1)).unwrap());
    silent.silence(true);
    sleep(POLL).await;
    let records = scheduler.nodes().await.unwrap();
    let facts: Vec<_> = records.iter().map(|node| (node.this, node.in_flight, node.state)).collect();
    assert_eq!(facts, [(true, 1, NodeState::Alive), (false, 0, NodeState::Alive)]);
    assert_eq!(records[0].queues, Some(vec!["default".to_owned()]));
    sleep(16 * SECOND).await;
    assert_eq!(scheduler.nodes().await.unwrap()[1].state, NodeState::Late);

    let alone = super::scheduler(&starter).await;
    let records = alone.nodes().await.unwrap();
    assert_eq!(records.len(), 1);
    assert!(records[0].this && records[0].queues.is_none() && records[0].state == NodeState::Alive);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_leaves_its_jobs_to_the_others() {
    let fleet = fleet();
    let (held, mut attempts) = ScriptedStarter::by_hand();
    let starter = taking(MILLISECOND);
    let leaving = start(&fleet.node(), &held, |builder| builder).await;
    let staying = start(&fleet.node(), &starter, |builder| builder).await;
    quiet().await;
    let guid = leaving.submit(job(1)).unwrap().await.unwrap().guid;
    let _attempt = attempts.next().await;
    let report = leaving.shutdown(SECOND).await.unwrap();
    assert_eq!((report.released, report.unsettled), (1, 0));
    timeout(SECOND, staying.started(guid)).await.expect("by a hint").unwrap();
    assert_eq!(staying.nodes().await.unwrap().len(), 1);
}

/// Nodes that are cut off, silent, revoked or killed at random, with lost answers and hints.
#[tokio::test(start_paused = true)]
async fn whatever_befalls_the_nodes_each_job_starts_as_often_as_it_may() {
    let seeds = std::env::var("SENDOFF_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        troubled(seed).await;
    }
}

async fn troubled(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let fleet = fleet();
    let starter = ScriptedStarter::by_script(|seen| {
        let takes = [MILLISECOND, 700 * MILLISECOND, 9 * SECOND, 30 * SECOND][seen.job.n as usize % 4];
        match (seen.job.n % 7, seen.number) {
            (1, 1) => Plan::error(StartErrorClass::NotStarted).taking(takes).without_begin(),
            (3, _) => Plan::STARTED.taking(takes).without_begin(),
            _ => Plan::STARTED.taking(takes),
        }
    });
    let mut nodes = nodes(&fleet, &starter, 3).await;
    let mut once = std::collections::BTreeSet::new();
    let mut accepted = Vec::new();
    for step in 0..60 {
        let at = random.usize(..nodes.len());
        let (scheduler, node) = &nodes[at];
        match random.u32(..13) {
            0 => node.cut(random.bool()),
            1 => node.silence(random.bool()),
            2 => node.revoke(),
            3 => node.lose_answers(random.usize(..3)),
            4 => fleet.lose_hints(random.bool()),
            5 if random.u32(..4) == 0 => {
                node.kill();
                let node = fleet.node();
                nodes[at] = (start(&node, &starter, |builder| builder.max_in_flight(4)).await, node);
            }
            6 => {
                let max = random.bool().then_some(1 + random.usize(..3));
                let limits =
                    max.map(|max| QueueLimits { max_in_flight: Some(max), ..QueueLimits::default() });
                // The node may be cut off.
                let _ = scheduler.set_queue_limits("b", limits).await;
            }
            7 => node.delay_answers(random.u32(..3) * 400 * MILLISECOND),
            _ => {
                for n in 0..random.u64(1..6) {
                    let n = step * 10 + n;
                    let delivery = if n % 5 == 0 { Delivery::AtMostOnce } else { Delivery::AtLeastOnce };
                    let spec = job(n).delivery(delivery).queue(if n % 2 == 0 { "a" } else { "b" });
                    let submission = scheduler.submit(spec.delay(random.u32(..8) * SECOND)).unwrap();
                    let guid = submission.guid();
                    if delivery == Delivery::AtMostOnce {
                        once.insert(guid);
                    }
                    if submission.await.is_ok() {
                        accepted.push(guid);
                    }
                }
            }
        }
        sleep(random.u32(..4000) * MILLISECOND).await;
    }
    fleet.lose_hints(false);
    for (_, node) in &nodes {
        node.cut(false);
        node.silence(false);
        node.lose_answers(0);
        node.delay_answers(Duration::ZERO);
    }
    for (scheduler, _) in &nodes {
        let idle = timeout(1_200 * SECOND, scheduler.idle()).await;
        let Ok(idle) = idle else {
            let filter = sendoff::ports::Filter { unfinished: true, ..Default::default() };
            panic!("seed {seed}: it is stuck: {:#?}", scheduler.list(filter, Default::default()).await);
        };
        idle.unwrap();
    }
    sleep(60 * SECOND).await;
    for guid in accepted {
        let record = record(&nodes[0].0, guid).await;
        let begun = starter.begun(guid);
        match record.state {
            State::Started => assert!(begun <= 1 || record.possible_duplicate, "seed {seed}: {record:?}"),
            State::Unknown => assert!(once.contains(&guid), "seed {seed}: {record:?}"),
            State::Failed => assert!(record.possible_duplicate, "seed {seed}: {record:?}"),
            _ => panic!("seed {seed}: {record:?}"),
        }
        assert!(!once.contains(&guid) || begun <= 1, "seed {seed}: {begun} starts of {record:?}");
    }
    for (scheduler, _) in &nodes {
        assert_eq!(scheduler.in_flight(), 0, "seed {seed}: permits were lost");
        scheduler.shutdown(SECOND).await.unwrap();
    }
}
