//! One seed, from its beginning to its end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use sendoff::store::memory::Fault;
use tokio::time::sleep;

use super::{client::Client, nemesis, store::LATEST, world::World};

/// How long everything due may take once the faults have stopped: a node is declared dead after
/// 45 s, the longest attempt takes 70 s and may have been claimed last of all, and retries wait.
const BOUND: Duration = Duration::from_secs(400);

/// What came of a seed.
pub(super) struct Played {
    pub(super) wrong: Option<String>,
    /// The trace as one number, and its length.
    pub(super) trace: (u64, u64),
    pub(super) counts: BTreeMap<&'static str, u64>,
}

pub(super) fn play(seed: u64, fault: Option<Fault>, shown: bool) -> Played {
    // Names and the like; what happens does not depend on them.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let world = runtime.block_on(async {
        let world = World::new(seed, fault, shown);
        if shown {
            eprintln!("{:?}", world.swarm);
        }
        world.play().await;
        world
    });
    let trace = world.traced();
    // Everything that ran ends here, wherever it was; which goes first is up to the runtime.
    drop(runtime);
    let played = Played { wrong: world.ledger().wrong.take(), trace, counts: world.counts() };
    world.clear();
    played
}

impl World {
    async fn play(self: &Arc<Self>) {
        let until = Duration::from_secs(self.swarm.lasts);
        let places = 0..self.swarm.nodes.max(1);
        join_all(places.map(|place| self.start(place))).await;
        let clients = (0..self.swarm.clients as u64).map(|number| Client::new(self, number).live(until));
        let fate = nemesis::rage(self.clone(), until);
        let starts = nemesis::restart(self.clone(), until);
        let all = async { tokio::join!(join_all(clients), fate, starts) };
        tokio::pin!(all);
        loop {
            tokio::select! {
                biased;
                _ = &mut all => break,
                () = sleep(Duration::from_secs(7)) => self.judge(),
            }
            if self.ledger().wrong.is_some() {
                return;
            }
        }
        self.judge();
        self.heal().await;
        if self.ledger().wrong.is_none() {
            self.judge();
        }
    }

    /// The faults stop: everything due comes to its end.
    async fn heal(self: &Arc<Self>) {
        self.calm();
        let mut random = self.random(1 << 44);
        // Some may stay away for ever, if others are there.
        let stay = random.u8(..3) == 0;
        for place in self.down() {
            if !stay || self.up().is_empty() {
                self.start(place).await;
            }
        }
        if self.swarm.limits {
            // Limits that a client gave up to set may yet be set: late, or by a node that stands still.
            while self.up().iter().any(|node| node.life.phase.is_paused()) {
                sleep(Duration::from_secs(1)).await;
            }
            sleep(LATEST).await;
        }
        self.clear_limits().await;
        self.settle_down().await;
        if self.ledger().wrong.is_none() {
            // What was to come in years comes now.
            self.trace(|| "many years pass".to_owned());
            self.wall.step(40 * 365 * 86_400 * 1_000_000);
            self.settle_down().await;
        }
    }

    /// Nothing is held back by limits any more.
    async fn clear_limits(self: &Arc<Self>) {
        for queue in ["a", "b"] {
            self.ledger().limit_changes(queue);
            loop {
                let Some(node) = self.up().into_iter().next() else {
                    self.start(0).await;
                    continue;
                };
                if node.scheduler.set_queue_limits(queue, None).await.is_ok() {
                    break;
                }
                sleep(Duration::from_secs(1)).await;
            }
        }
    }

    async fn settle_down(self: &Arc<Self>) {
        let begin = self.wall.elapsed();
        let mut left = None;
        while self.wall.elapsed() - begin < BOUND {
            sleep(Duration::from_secs(2)).await;
            // A stop that was under way may have left nobody.
            if self.up().is_empty() {
                self.start(0).await;
            }
            left = self.unfinished();
            if left.is_none() || self.ledger().wrong.is_some() {
                return;
            }
        }
        if let Some(left) = left {
            self.ledger().wrong(left);
        }
    }
}
