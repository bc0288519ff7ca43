//! Three nodes on one PostgreSQL: killed and stopped, their connections terminated, under load.

use std::{sync::atomic::Ordering, time::Duration};

use rustix::process::Signal;
use sendoff::time::{Clock, SystemClock};

use super::{
    Chance, figure,
    jobs::{A_SECOND, AT_ONCE, BURST, Recipe},
    judge::{Case, Verdict},
    load::Load,
    nodes::{MAX_IN_FLIGHT, Node, sockets, three},
    records::{idle, records, settled},
    seed,
    witness::{Endpoint, Ledger},
};

/// What was done to the nodes.
#[derive(Default, Debug)]
pub(super) struct Incidents {
    pub(super) kills: usize,
    pub(super) stops: usize,
    /// Connections terminated at random, so often.
    pub(super) terminations: usize,
    /// Connections to the database cut or gone silent, so often.
    pub(super) cuts: usize,
}

#[test]
fn nodes_die_and_every_promise_is_kept() {
    if !testpg::wanted() {
        return;
    }
    let (minutes, jobs) = (figure("SENDOFF_MINUTES", 0), figure("SENDOFF_JOBS", 1_500));
    let jobs = if minutes > 0 { usize::MAX } else { jobs };
    let until = (minutes > 0).then(|| SystemClock.elapsed() + Duration::from_secs(minutes as u64 * 60));
    let server = testpg::shared();
    let url = server.new_database().unwrap();
    let nodes = three([&url, &url, &url]);
    let verdict = ordeal(&nodes, jobs, true, |load, chance| {
        let mut trouble = Trouble { nodes: &nodes, load, chance, long: jobs >= 100_000, stopped: None };
        trouble.make(&url, until)
    });
    nodes.iter().for_each(Node::check);
    println!("{verdict}");
}

/// Puts nodes under a load of jobs of all kinds and into this trouble, waits until all is over, and
/// judges.
pub(super) fn ordeal(
    nodes: &[Node],
    jobs: usize,
    rich: bool,
    trouble: impl FnOnce(&Load<'_>, Chance) -> Incidents + Send,
) -> Verdict {
    let seed = seed();
    let endpoint = Endpoint::open();
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path().join("ledger"));
    let recipe = Recipe { seed, endpoint: endpoint.address, ledger: Some(ledger.path()), rich };
    let load = Load::new(&recipe, sockets(nodes), jobs);
    let (acknowledged, incidents) = load.run(|| trouble(&load, Chance::nth(seed, usize::MAX - 1)));
    println!("{incidents:?}, {} answers 503", load.refused.load(Ordering::Relaxed));

    settled(&mut nodes[0].caller());
    nodes.iter().for_each(|node| idle(&mut node.caller()));
    let counts = settled(&mut nodes[0].caller());
    let seen = records(&mut nodes[0].caller());
    let case = Case {
        recipe: &recipe,
        acknowledged: &acknowledged,
        records: &seen,
        endpoint: &endpoint,
        ledger: Some(&ledger),
    };
    let verdict = case.judge();
    // Nothing is there that nobody was told of: each submit was repeated until it was answered.
    assert_eq!(seen.len(), acknowledged.len());
    let mut by_state = std::collections::BTreeMap::new();
    for record in seen.values() {
        *by_state.entry(record.state.clone()).or_insert(0) += 1;
    }
    for node in nodes {
        assert_eq!(settled(&mut node.caller()), counts, "a node counts otherwise");
        assert!(records(&mut node.caller()) == seen, "nodes show different records");
    }
    assert_eq!(counts, by_state, "the counts are not those of the records");
    let most = case.most_at_once();
    assert!(most <= AT_ONCE, "{most} at once in a queue of {AT_ONCE}");
    case.judge_rate(A_SECOND, BURST, "300ms".parse().unwrap());
    let doubts = MAX_IN_FLIGHT * (incidents.kills + incidents.stops + incidents.cuts);
    assert!(verdict.doubled <= doubts && verdict.unknown <= doubts, "{incidents:?}: {verdict}");
    println!("{most} at once where {AT_ONCE} may be");
    verdict
}

struct Trouble<'a> {
    nodes: &'a [Node; 3],
    load: &'a Load<'a>,
    chance: Chance,
    /// With stops past the lease and past being declared dead, which take their time.
    long: bool,
    /// Which node is stopped, and until when.
    stopped: Option<(usize, Duration)>,
}

impl Trouble<'_> {
    /// Makes trouble until the load is over.
    fn make(&mut self, url: &str, until: Option<Duration>) -> Incidents {
        let mut incidents = Incidents::default();
        while !self.load.over() {
            let pause =
                if self.long { 1_000 + self.chance.below(3_000) } else { 200 + self.chance.below(800) };
            // Moments are chance: nothing waits for them.
            std::thread::sleep(Duration::from_millis(pause));
            let now = SystemClock.elapsed();
            if until.is_some_and(|until| until <= now) {
                self.load.stop.store(true, Ordering::Relaxed);
            }
            self.go_on(now);
            let number = self.chance.below(3) as usize;
            let is_stopped = self.stopped.is_some_and(|(stopped, _)| stopped == number);
            match self.chance.below(8) {
                0..4 if !is_stopped => {
                    incidents.kills += 1;
                    self.nodes[number].kill();
                    std::thread::sleep(Duration::from_millis(self.chance.below(500)));
                    self.nodes[number].again();
                }
                4..7 => {
                    incidents.terminations += 1;
                    terminate(url);
                }
                7 if self.stopped.is_none() => {
                    incidents.stops += 1;
                    self.nodes[number].signal(Signal::STOP);
                    // The lease is 20 s; after 45 s a node is declared dead.
                    let longest = [25_000, 70_000][self.chance.below(2) as usize];
                    let time = if self.long { longest } else { self.chance.below(1_500) };
                    self.stopped = Some((number, now + Duration::from_millis(time)));
                }
                _ => {}
            }
        }
        self.go_on(Duration::MAX);
        incidents
    }

    /// Continues the stopped node if its time has come.
    fn go_on(&mut self, now: Duration) {
        if let Some((number, _)) = self.stopped.take_if(|(_, until)| *until <= now) {
            self.nodes[number].signal(Signal::CONT);
        }
    }
}

/// Ends about half of the connections to this database.
fn terminate(url: &str) {
    let (_, database) = url.rsplit_once('/').unwrap();
    let some = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid() AND random() < 0.5";
    testpg::shared().sql_in(database, some).unwrap();
}
