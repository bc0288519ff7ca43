//! What befalls the nodes, beside what their stores and targets do to them.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::world::{Node, World};

const SECOND: i64 = 1_000_000;
const YEAR: i64 = 365 * 86_400 * SECOND;

/// Does its worst until this much time has passed; what it began is over then, or soon after.
pub(super) async fn rage(world: Arc<World>, until: Duration) {
    let mut random = world.random(1 << 42);
    let swarm = world.swarm.clone();
    let mut deeds: Vec<Deed> = Vec::new();
    let mut on = |on: bool, deed: Deed| {
        if on {
            deeds.push(deed)
        }
    };
    on(swarm.crashes, Deed::Crash);
    on(swarm.stops, Deed::Stop);
    on(swarm.pauses, Deed::Pause);
    on(swarm.cuts, Deed::Cut);
    on(swarm.steps, Deed::Step);
    on(swarm.revokes, Deed::Revoke);
    let pause = [2_000, 10_000, 40_000][random.usize(..3)];
    while world.wall.elapsed() < until {
        sleep(Duration::from_millis(random.u64(1..pause))).await;
        let Some(deed) = random.choice(&deeds).copied() else { continue };
        let Some(node) = world.any(&mut random) else { continue };
        world.count(deed.name());
        let random = random.fork();
        match deed {
            Deed::Crash => node.life.kill("of itself"),
            Deed::Step => step(&world, random),
            Deed::Stop => world.spawn(stop(node, random)),
            Deed::Pause => world.spawn(pause_for_a_while(node, random)),
            Deed::Cut => world.spawn(cut_for_a_while(node, random)),
            Deed::Revoke => world.spawn(revoke(node, random)),
        }
    }
}

#[derive(Clone, Copy)]
enum Deed {
    Crash,
    Stop,
    Pause,
    Cut,
    Step,
    Revoke,
}

impl Deed {
    const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crashes of themselves",
            Self::Stop => "clean stops",
            Self::Pause => "pauses",
            Self::Cut => "cuts from the database",
            Self::Step => "steps of the wall clock",
            Self::Revoke => "nodes declared dead alive",
        }
    }
}

/// Starts what is down, sooner or later.
pub(super) async fn restart(world: Arc<World>, until: Duration) {
    let mut random = world.random(1 << 43);
    while world.wall.elapsed() < until {
        sleep(Duration::from_millis(random.u64(1..6_000))).await;
        if let Some(place) = random.choice(world.down()) {
            world.start(place).await;
        }
    }
}

fn step(world: &World, mut random: fastrand::Rng) {
    let far = match random.u8(..6) {
        0 => random.i64(1..10) * YEAR,
        1 => random.i64(1..7_200) * SECOND,
        _ => random.i64(1..60 * SECOND),
    };
    let by = if random.bool() { far } else { -far };
    world.trace(|| format!("the wall clock is set by {by} us"));
    world.wall.step(by);
}

async fn stop(node: Node, mut random: fastrand::Rng) {
    let life = &node.life;
    let grace = Duration::from_millis([0, random.u64(..3_000), 35_000][random.usize(..3)]);
    {
        let mut stopping = life.stopping.lock().unwrap();
        if stopping.is_some() {
            return;
        }
        *stopping = Some(life.world.wall.elapsed());
    }
    let troubles = || life.troubles.load(std::sync::atomic::Ordering::Relaxed);
    let before = troubles();
    life.world.trace(|| format!("{life} is to stop within {grace:?}"));
    let report = tokio::select! {
        biased;
        () = life.phase.died() => return,
        report = node.scheduler.shutdown(grace) => report,
    };
    life.world.trace(|| format!("{life} has stopped: {report:?}"));
    let Ok(report) = report else {
        return life.world.ledger().wrong(format!("{life} did not stop: {report:?}"));
    };
    // What its store kept from it, or did for it late, is not its fault.
    let swarm = &life.world.swarm;
    let clear = swarm.stalls == 0 && !swarm.cuts && !swarm.pauses && troubles() == before;
    if report.unsettled > 0 && clear {
        let unsettled = report.unsettled;
        life.world.ledger().wrong(format!("{life} stops and leaves {unsettled} outcomes unsettled"));
    }
    if report.unsettled == 0 {
        let name = life.lease();
        let left = life.world.records().into_values().find(|record| {
            let own = name.as_ref().is_none_or(|name| record.node.as_ref() == Some(name.node()));
            record.state == sendoff::State::Starting && own
        });
        // Claims that it does not know to be done are taken back by others.
        let clear = clear && swarm.late == 0 && swarm.lost == 0;
        if let Some(left) = left.filter(|_| clear) {
            life.world.ledger().wrong(format!("{life} stops and leaves {} starting", left.guid));
        }
    }
    life.gone();
}

async fn pause_for_a_while(node: Node, mut random: fastrand::Rng) {
    let life = &node.life;
    if life.phase.is_paused() {
        return;
    }
    let wait = |random: &mut fastrand::Rng, most| sleep(Duration::from_millis(random.u64(1..most)));
    life.silence(true);
    life.pause(true);
    let most = [15_000, 40_000, 90_000][random.usize(..3)];
    wait(&mut random, most).await;
    life.pause(false);
    // Its heart is another thread, and may come later.
    wait(&mut random, 3_000).await;
    life.silence(false);
}

async fn cut_for_a_while(node: Node, mut random: fastrand::Rng) {
    let life = &node.life;
    if life.is_cut() {
        return;
    }
    life.troubles.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    life.cut_off(true);
    let most = [3_000, 40_000, 90_000][random.usize(..3)];
    sleep(Duration::from_millis(random.u64(1..most))).await;
    life.cut_off(false);
}

/// The others take it for dead, though it is alive; its heart is told, and then hears of a heartbeat
/// from before.
async fn revoke(node: Node, mut random: fastrand::Rng) {
    let life = &node.life;
    let Some(fleet) = life.base.node() else { return };
    life.world.trace(|| format!("{life} is declared dead"));
    let lease = life.lease().expect("it is one of a fleet");
    fleet.revoke();
    sleep(Duration::from_millis(random.u64(1..200))).await;
    lease.extend(life.world.wall.elapsed() + Duration::from_secs(15));
    if random.bool() && !life.phase.is_paused() && !life.is_dead() {
        // It comes back at once, not with its next heartbeat.
        fleet.silence(false);
    }
}
