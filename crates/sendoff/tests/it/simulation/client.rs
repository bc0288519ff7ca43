//! Clients: they submit, cancel and change their minds, give up waiting, ask again under the same
//! names, at another node too, and remember what they were told.

use std::{sync::Arc, time::Duration};

use sendoff::{
    Batch, Delivery, Guid, JobSpec, QueueLimits, State, Verdict,
    ports::{Filter, PageRequest},
    state::Resolution,
};
use tokio::time::{sleep, timeout};

use super::{
    ledger::Made,
    starter::{Call, PROGRAM, short},
    world::{Node, World},
};

const QUEUES: [&str; 3] = ["a", "b", "c"];
const DESTINATIONS: [Option<&str>; 3] = [None, Some("x:1"), Some("y:1")];

pub(super) struct Client {
    number: u64,
    world: Arc<World>,
    random: fastrand::Rng,
    made: u64,
    guids: Vec<Guid>,
}

impl Client {
    pub(super) fn new(world: &Arc<World>, number: u64) -> Self {
        let random = world.random(number | 1 << 41);
        Self { number, world: world.clone(), random, made: 0, guids: Vec::new() }
    }

    /// Goes on until this much time has passed.
    pub(super) async fn live(mut self, until: Duration) {
        // Some come again and again, some now and then.
        let pause = [100, 1_000, 5_000][self.random.usize(..3)];
        while self.world.wall.elapsed() < until {
            self.step().await;
            let pause = Duration::from_millis(self.random.u64(0..pause));
            sleep(pause).await;
        }
    }

    async fn step(&mut self) {
        match self.random.u8(..22) {
            0..=7 => {
                let spec = self.spec();
                self.submit(spec).await;
            }
            8 => {
                // A message that comes twice, at the same time.
                let spec = self.spec();
                let (mut one, mut other) = (self.twin(1), self.twin(2));
                tokio::join!(one.submit(spec.clone()), other.submit(spec));
            }
            9..=11 => self.batch().await,
            12 => {
                let key = format!("k{}", self.random.u8(..4));
                let spec = self.spec();
                let call = Call { n: 1 << 32, to: None, poison: false };
                let same = JobSpec { guid: spec.guid, ..JobSpec::new(&call).idempotency_key(&key) };
                self.made(&same, 3);
                self.submit(same).await;
            }
            13..=15 => self.cancel().await,
            16 => self.cancel_at_once().await,
            17 | 18 => self.reschedule().await,
            19 => self.resolve().await,
            20 if self.world.swarm.limits => self.limit().await,
            _ => sleep(Duration::from_millis(self.random.u64(..4_000))).await,
        }
    }

    fn twin(&mut self, number: u64) -> Self {
        let random = self.random.fork();
        let number = 10 * self.number + number;
        Self { number, world: self.world.clone(), random, made: 0, guids: Vec::new() }
    }

    fn spec(&mut self) -> JobSpec {
        let random = &mut self.random;
        self.made += 1;
        let guid = Guid::from_bytes(random.u128(..).to_be_bytes());
        let poison = self.world.swarm.poison && random.u8(..6) == 0;
        let to = DESTINATIONS[random.usize(..3)];
        let call = Call { n: self.made, to: to.map(Into::into), poison };
        let attempts = random.u32(1..6);
        let millis = |random: &mut fastrand::Rng, most| Duration::from_millis(random.u64(1..most));
        let mut spec = JobSpec::new(&call)
            .guid(guid)
            .queue(QUEUES[random.usize(..3)])
            .priority(random.u8(..3))
            .max_attempts(attempts)
            .backoff(Duration::from_millis(20), Duration::from_secs(2))
            .start_timeout(millis(random, 20_000));
        if random.u8(..4) == 0 {
            spec.start.starter = PROGRAM.to_owned();
        }
        if random.bool() {
            let most = if random.u8(..4) == 0 { 100_000 } else { 8_000 };
            spec = spec.delay(millis(random, most));
        }
        if random.bool() {
            spec = spec.delivery(Delivery::AtMostOnce);
        }
        if random.u8(..4) == 0 {
            let most = if random.bool() { 2_000 } else { 30_000 };
            spec = spec.expires_in(millis(random, most));
        }
        self.made(&spec, attempts);
        self.guids.push(guid);
        spec
    }

    fn made(&self, spec: &JobSpec, max_attempts: u32) {
        let call: Call = serde_json::from_str(spec.start.payload.get()).expect("it was written here");
        let queue = QUEUES.iter().find(|queue| spec.queue.as_deref() == Some(**queue));
        let made = Made {
            delivery: spec.delivery.unwrap_or(Delivery::AtLeastOnce),
            max_attempts,
            starter: spec.start.starter.clone(),
            to: DESTINATIONS.into_iter().flatten().find(|to| call.to.as_deref() == Some(*to)),
            queue: queue.copied().unwrap_or("default"),
        };
        self.world.ledger().made.insert(spec.guid.expect("given"), made);
    }

    /// Asks a node, and waits as long as this client has patience and the node lives.
    async fn ask<T>(
        &mut self,
        what: &str,
        node: &Node,
        ask: impl Future<Output = sendoff::Result<T>>,
    ) -> Option<sendoff::Result<T>> {
        let patience = Duration::from_millis([50, 2_000, 60_000][self.random.usize(..3)]);
        let answer = tokio::select! {
            biased;
            () = node.life.phase.died() => None,
            answer = timeout(patience, ask) => answer.ok(),
        };
        if !matches!(answer, Some(Ok(_))) {
            // What ends together is told in an order that is the runtime's affair.
            sleep(Duration::from_millis(self.number + 1)).await;
            self.world.check_nodes();
        }
        self.world.trace(|| {
            let told = match &answer {
                Some(Ok(_)) => "is answered".to_owned(),
                Some(Err(err)) => err.to_string(),
                None => "waits no longer".to_owned(),
            };
            format!("client {} at {}: {what}: {told}", self.number, node.life)
        });
        answer
    }

    async fn submit(&mut self, spec: JobSpec) {
        let guid = spec.guid.expect("given");
        loop {
            let Some(node) = self.world.any(&mut self.random) else { return };
            let Ok(submission) = node.scheduler.submit(spec.clone()) else { return };
            if self.random.u8(..12) == 0 {
                return;
            }
            match self.ask(&format!("submit {}", short(guid)), &node, submission).await {
                Some(Ok(accepted)) => {
                    let mut ledger = self.world.ledger();
                    if let Some(key) = spec.idempotency_key {
                        let first = *ledger.keys.entry(key).or_insert(accepted.guid);
                        if first != accepted.guid {
                            ledger.wrong(format!("I10: one key has {first} and {}", accepted.guid));
                        }
                    } else if accepted.guid != guid {
                        ledger.wrong(format!("{guid} was submitted and {} accepted", accepted.guid));
                    }
                    ledger.acknowledged.insert(accepted.guid, self.world.wall.elapsed());
                    return;
                }
                Some(Err(err)) if err.is_conflict() || err.is_invalid() => {
                    return self.world.ledger().wrong(format!("{guid} is refused: {err}"));
                }
                _ if self.random.u8(..3) == 0 => return,
                _ => sleep(Duration::from_millis(self.random.u64(1..3_000))).await,
            }
        }
    }

    async fn batch(&mut self) {
        let mut specs: Vec<_> = (0..self.random.usize(1..6)).map(|_| self.spec()).collect();
        let guids: Vec<_> = specs.iter().map(|spec| spec.guid.expect("given")).collect();
        let atomic = self.random.bool();
        let conflicts = atomic && self.random.u8(..4) == 0;
        if conflicts {
            // One that names another content under a guid of the same batch.
            let call = Call { n: 0, to: None, poison: false };
            specs.push(JobSpec::new(&call).guid(guids[0]));
        }
        if atomic {
            self.world.ledger().batches.push(guids.clone());
        }
        for _ in 0..2 {
            let Some(node) = self.world.any(&mut self.random) else { return };
            let batch = if atomic { Batch::atomic(specs.clone()) } else { Batch::itemised(specs.clone()) };
            let answer = self.ask("a batch", &node, node.scheduler.submit_batch(batch)).await;
            let mut ledger = self.world.ledger();
            match answer {
                Some(Ok(verdicts)) => {
                    if conflicts {
                        ledger.wrong(format!("a batch with a conflict is accepted: {guids:?}"));
                    }
                    let now = self.world.wall.elapsed();
                    for verdict in verdicts {
                        match verdict {
                            Verdict::Created(guid) | Verdict::Existing(guid) => {
                                ledger.acknowledged.insert(guid, now);
                            }
                            other => ledger.wrong(format!("an item of a batch is refused: {other:?}")),
                        }
                    }
                    return;
                }
                Some(Err(err)) if err.is_conflict() && conflicts => return,
                Some(Err(err)) if err.is_conflict() || err.is_invalid() => {
                    return ledger.wrong(format!("a batch is refused: {err}"));
                }
                _ => {}
            }
        }
    }

    fn pick(&mut self) -> Option<Guid> {
        self.random.choice(&self.guids[self.guids.len().saturating_sub(10)..]).copied()
    }

    async fn cancel(&mut self) {
        let Some(guid) = self.pick() else { return };
        let Some(node) = self.world.any(&mut self.random) else { return };
        let resolved = self.world.ledger().resolved.get(&guid).copied();
        let what = format!("cancel {}", short(guid));
        if let Some(Ok(verdict)) = self.ask(&what, &node, node.scheduler.cancel(guid)).await {
            let mut ledger = self.world.ledger();
            // What an operator decided meanwhile counts more.
            if ledger.resolved.get(&guid).copied() == resolved {
                ledger.cancel_answered(guid, &verdict);
            }
        }
    }

    /// A submit and a cancel in one breath.
    async fn cancel_at_once(&mut self) {
        let spec = self.spec();
        let guid = spec.guid.expect("given");
        let Some(node) = self.world.any(&mut self.random) else { return };
        let Ok(submission) = node.scheduler.submit(spec) else { return };
        let both = async { Ok(tokio::join!(submission, node.scheduler.cancel(guid))) };
        let what = format!("submit and cancel {}", short(guid));
        if let Some(Ok((Ok(accepted), verdict))) = self.ask(&what, &node, both).await {
            let mut ledger = self.world.ledger();
            ledger.acknowledged.insert(accepted.guid, self.world.wall.elapsed());
            if let Ok(verdict) = verdict
                && !ledger.resolved.contains_key(&guid)
            {
                ledger.cancel_answered(guid, &verdict);
            }
        }
    }

    async fn reschedule(&mut self) {
        let Some(guid) = self.pick() else { return };
        let Some(node) = self.world.any(&mut self.random) else { return };
        let what = format!("reschedule {}", short(guid));
        if self.random.bool() {
            self.ask(&what, &node, node.scheduler.start_now(guid)).await;
        } else {
            let later = Duration::from_millis(self.random.u64(..10_000));
            let at = self.world.wall.now().saturating_add(later);
            self.ask(&what, &node, node.scheduler.reschedule(guid, at)).await;
        }
    }

    async fn resolve(&mut self) {
        let Some(node) = self.world.any(&mut self.random) else { return };
        let filter = Filter { state: Some(State::Unknown), ..Filter::default() };
        let list = node.scheduler.list(filter, PageRequest::default());
        let Some(Ok(page)) = self.ask("list unknown", &node, list).await else { return };
        let Some(guid) = self.random.choice(&page.records).map(|record| record.guid) else { return };
        let to = [Resolution::Started, Resolution::Failed, Resolution::Pending][self.random.usize(..3)];
        self.ask(&format!("resolve {}", short(guid)), &node, node.scheduler.resolve_unknown(guid, to)).await;
    }

    async fn limit(&mut self) {
        let Some(node) = self.world.any(&mut self.random) else { return };
        let queue = QUEUES[self.random.usize(..2)];
        let max_in_flight = self.random.bool().then(|| self.random.usize(1..3));
        let paused = self.random.u8(..3) == 0;
        let limits = QueueLimits { max_in_flight, paused, rate: None };
        self.world.ledger().limit_changes(queue);
        let set = node.scheduler.set_queue_limits(queue, Some(limits));
        match self.ask("limits", &node, set).await {
            Some(Ok(())) => {
                let max = if paused { Some(0) } else { max_in_flight };
                self.world.ledger().limit_changed(queue, max);
            }
            Some(Err(err)) if !err.is_fatal() && !err.is_closed() && !err.is_commit_unknown() => {
                self.world.ledger().limit_changed(queue, None);
            }
            // From here on nothing is certain of this queue.
            _ => {}
        }
    }
}
