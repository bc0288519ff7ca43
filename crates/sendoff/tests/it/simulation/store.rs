//! The store as one node sees it: calls take time, fail, are done and say that they are not, are done
//! much later, and the node may die right before or after the effect of any of them. Effects of writes
//! take place in the order of the calls, but for those that were given up.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use sendoff::{
    Guid, Header, JobId, JobRecord, Lane, QueueLimits, Timestamp,
    ports::{
        CancelVerdict, Changed, Claim, ClaimVerdict, Claimed, Counts, Durability, Expired, Filter, Fleet,
        InsertBatch, Inserted, Lease, NodeRecord, Page, PageRequest, Prune, Settled, Settlement, Store,
        StoreFuture, Wake, Wanted,
    },
    state::Resolution,
    testing::Why,
    time::Clock,
};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep, sleep_until},
};

use super::{
    life::{Base, Life},
    starter::short,
};

/// Whatever is done late is done by then.
pub(super) const LATEST: Duration = Duration::from_secs(20);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Done,
    Fails(Why),
    /// Done, and nobody is told.
    Lost,
    /// Not done, and nobody knows.
    Void,
    /// Done so much later, and nobody is told.
    Late(Duration),
    Dies,
    DoneAndDies,
}

/// What a call does to the store, as this life of a node.
type Effect = Box<dyn FnOnce(&Arc<Life>) + Send>;

struct Call {
    at: Instant,
    run: Effect,
}

/// See the module. Clones are the same node's.
#[derive(Clone)]
pub(super) struct NodeStore {
    life: Arc<Life>,
    calls: mpsc::UnboundedSender<Call>,
    reconnected: Arc<Notify>,
}

impl NodeStore {
    pub(super) fn new(life: Arc<Life>) -> Self {
        let (calls, queue) = mpsc::unbounded_channel();
        life.world.spawn(write(life.clone(), queue));
        Self { life, calls, reconnected: Arc::default() }
    }

    fn within(&self, most: u64) -> Duration {
        Duration::from_millis(self.life.random.lock().unwrap().u64(..=most))
    }

    /// How long a call takes, to its effect or from there.
    fn takes(&self) -> Duration {
        let swarm = &self.life.world.swarm;
        if self.life.world.is_calm() {
            return Duration::ZERO;
        }
        if self.life.random.lock().unwrap().u32(..1000) < swarm.stalls {
            self.life.world.count("stalls");
            return self.within(25_000);
        }
        if swarm.latency == 0 { Duration::ZERO } else { self.within(swarm.latency) }
    }

    fn fate(&self, name: &'static str, write: bool) -> Fate {
        let (life, swarm) = (&self.life, &self.life.world.swarm);
        if life.world.is_calm() {
            return Fate::Done;
        }
        let fleet = matches!(life.base, Base::Among(_));
        let random = &mut life.random.lock().unwrap();
        let mut drawn = random.u32(..1000);
        let mut below = |chance: u32| {
            let hit = drawn < chance;
            drawn = drawn.wrapping_sub(chance);
            hit
        };
        let fate = if below(swarm.fatal) {
            if random.bool() { Fate::Dies } else { Fate::DoneAndDies }
        } else if below(swarm.fails) {
            let whys = [Why::Full, Why::Unusable, Why::Unavailable];
            Fate::Fails(whys[random.usize(..if fleet { 3 } else { 2 })])
        } else if write && fleet && below(swarm.lost) {
            if random.u8(..3) == 0 { Fate::Void } else { Fate::Lost }
        } else if write && fleet && below(swarm.late) {
            Fate::Late(LATEST.mul_f64(random.f64()))
        } else {
            return Fate::Done;
        };
        life.trouble(name, &format!("{fate:?}"));
        fate
    }

    /// A call that changes something. `apply` gets the instant of its effect.
    fn write<T: Send + 'static>(
        &self,
        name: &'static str,
        apply: impl FnOnce(&Arc<Life>) -> StoreFuture<T> + Send + 'static,
    ) -> StoreFuture<T> {
        if self.life.is_dead() {
            return failed(Why::Fatal);
        }
        let (before, after, fate) = (self.takes(), self.takes(), self.fate(name, true));
        let reconnected = self.reconnected.clone();
        let (answer, answered) = oneshot::channel();
        let run = move |life: &Arc<Life>| {
            let now =
                |life: &Arc<Life>| apply(life).now_or_never().expect("a store in memory answers at once");
            let unknown = || {
                reconnected.notify_one();
                Err(Why::CommitUnknown.error())
            };
            let told = match fate {
                Fate::Done => now(life),
                Fate::Fails(why) => Err(why.error()),
                Fate::Void => unknown(),
                Fate::Lost => {
                    drop(now(life));
                    unknown()
                }
                Fate::Late(by) => {
                    let owner = life.clone();
                    life.world.spawn(async move {
                        sleep(by).await;
                        owner.world.trace(|| format!("{owner} {name}, late"));
                        drop(now(&owner));
                    });
                    unknown()
                }
                Fate::Dies => return life.kill(name),
                Fate::DoneAndDies => {
                    drop(now(life));
                    return life.kill(name);
                }
            };
            // Whoever asked may have gone.
            let _ = answer.send((Instant::now() + after, told));
        };
        // The thread that writes lives as long as the node.
        let _ = self.calls.send(Call { at: Instant::now() + before, run: Box::new(run) });
        self.answer(answered)
    }

    fn answer<T: Send + 'static>(
        &self,
        answered: oneshot::Receiver<(Instant, sendoff::Result<T>)>,
    ) -> StoreFuture<T> {
        let life = self.life.clone();
        async move {
            let Ok((at, answer)) = answered.await else { return Err(Why::Fatal.error()) };
            if at > Instant::now() {
                sleep_until(at).await;
            }
            if !life.phase.awake().await {
                return Err(Why::Fatal.error());
            }
            if life.is_cut() { Err(Why::CommitUnknown.error()) } else { answer }
        }
        .boxed()
    }

    /// A call that reads, sometime between question and answer.
    fn read<T: Send + 'static>(
        &self,
        name: &'static str,
        ask: impl FnOnce(&Base) -> StoreFuture<T> + Send + 'static,
    ) -> StoreFuture<T> {
        let (before, after, fate) = (self.takes(), self.takes(), self.fate(name, false));
        let life = self.life.clone();
        async move {
            if !before.is_zero() {
                sleep(before).await;
            }
            if !life.phase.awake().await {
                return Err(Why::Fatal.error());
            }
            let answer = match fate {
                Fate::Fails(why) => Err(why.error()),
                Fate::Dies | Fate::DoneAndDies => {
                    life.kill(name);
                    return Err(Why::Fatal.error());
                }
                _ => ask(&life.base).await,
            };
            if !after.is_zero() {
                sleep(after).await;
            }
            if life.phase.awake().await { answer } else { Err(Why::Fatal.error()) }
        }
        .boxed()
    }
}

fn failed<T: Send + 'static>(why: Why) -> StoreFuture<T> {
    std::future::ready(Err(why.error())).boxed()
}

/// The effects of a node's writes, one after the other.
async fn write(life: Arc<Life>, mut queue: mpsc::UnboundedReceiver<Call>) {
    while let Some(call) = queue.recv().await {
        if call.at > Instant::now() {
            sleep_until(call.at).await;
        }
        if !life.phase.awake().await {
            return;
        }
        (call.run)(&life);
    }
}

impl Life {
    fn trouble(&self, name: &str, what: &str) {
        self.troubles.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.world.trace(|| format!("{self} {name}: {what}"));
        self.world.count("failed calls");
    }

    fn note_claimed(self: &Arc<Self>, claimed: &Claimed, limits: usize) {
        self.world.count("claims");
        self.world.trace(|| format!("{self} claims {} under {}", short(claimed.job.guid), claimed.fence));
        self.world.ledger().claimed(self, self.lease(), claimed, limits);
    }

    /// Sees what an answer says, on its way.
    fn seen<T: Send + 'static>(
        self: &Arc<Self>,
        answer: StoreFuture<T>,
        see: impl FnOnce(&Arc<Self>, &T),
    ) -> StoreFuture<T> {
        let answer = answer.now_or_never().expect("a store in memory answers at once");
        match &answer {
            Ok(answer) => see(self, answer),
            Err(err) => self.world.trace(|| format!("{self} is refused: {err}")),
        }
        std::future::ready(answer).boxed()
    }
}

impl Store for NodeStore {
    fn durability(&self) -> Durability {
        self.life.base.store().durability()
    }

    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>> {
        let limits = self.life.world.ledger().limits();
        self.write("insert", move |life| {
            let (jobs, now) = (batch.jobs.clone(), batch.now);
            life.seen(life.base.store().insert(batch), |life, verdicts| {
                for (new, verdict) in jobs.iter().zip(verdicts) {
                    let Inserted::Created(id) = verdict else { continue };
                    life.world.trace(|| format!("{life} stores {}", short(new.job.guid)));
                    if new.claim.is_some() {
                        let (job, run_at) = (new.job.clone(), new.job.run_at);
                        let (fence, attempt, claimed_at, crashes) = (1, 1, now, 0);
                        let claimed = Claimed { id: *id, job, fence, attempt, claimed_at, run_at, crashes };
                        life.note_claimed(&claimed, limits);
                    }
                }
            })
        })
    }

    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>> {
        let limits = self.life.world.ledger().limits();
        self.write("claim", move |life| {
            life.seen(life.base.store().claim(ids, by), |life, claims| {
                claims.iter().flatten().for_each(|claimed| life.note_claimed(claimed, limits));
            })
        })
    }

    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>> {
        self.write("settle", move |life| {
            let told = settlements.clone();
            life.seen(life.base.store().settle(settlements, now), |life, verdicts| {
                for (settlement, verdict) in told.iter().zip(verdicts) {
                    life.world.trace(|| format!("{life} settles {:?}: {verdict:?}", settlement.id));
                    if verdict.applied {
                        life.world.ledger().settled(life, settlement);
                    }
                }
            })
        })
    }

    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>> {
        self.write("cancel", move |life| life.base.store().cancel(guids, now))
    }

    fn reschedule(&self, guid: Guid, run_at: Timestamp, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.write("reschedule", move |life| life.base.store().reschedule(guid, run_at, now))
    }

    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.write("resolve", move |life| {
            life.seen(life.base.store().resolve(guid, to, now), |life, changed| {
                if changed.as_ref().is_some_and(|changed| changed.applied) {
                    life.world.trace(|| format!("{} is resolved: {to:?}", short(guid)));
                    life.world.ledger().resolved(guid);
                }
            })
        })
    }

    fn reclaim(&self, limit: usize, now: Timestamp) -> StoreFuture<usize> {
        self.write("reclaim", move |life| life.base.store().reclaim(limit, now))
    }

    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired> {
        self.write("expire", move |life| life.base.store().expire(limit, now))
    }

    fn prune(&self, prune: Prune) -> StoreFuture<usize> {
        self.write("prune", move |life| life.base.store().prune(prune))
    }

    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>> {
        self.read("due", move |base| base.store().due(after, until, limit))
    }

    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>> {
        self.read("ready", move |base| base.store().ready(lane, now, limit))
    }

    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>> {
        self.read("lanes", move |base| base.store().lanes(after, limit))
    }

    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>> {
        self.read("get", move |base| base.store().get(guid))
    }

    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page> {
        self.read("list", move |base| base.store().list(filter, page))
    }

    fn counts(&self) -> StoreFuture<Counts> {
        self.read("counts", |base| base.store().counts())
    }

    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>> {
        self.read("bookmark", move |base| base.store().bookmark(name))
    }

    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>> {
        self.read("queues", |base| base.store().queues())
    }

    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()> {
        self.write("set_queue", move |life| life.base.store().set_queue(queue, limits))
    }

    fn backup(&self, to: PathBuf) -> StoreFuture<()> {
        self.life.base.store().backup(to)
    }

    fn close(&self) -> StoreFuture<()> {
        if self.life.is_dead() { failed(Why::Fatal) } else { self.life.base.store().close() }
    }

    fn fleet(&self) -> Option<Arc<dyn Fleet>> {
        self.life.base.node().map(|_| Arc::new(self.clone()) as Arc<dyn Fleet>)
    }
}

impl NodeStore {
    fn among(&self) -> &dyn Fleet {
        self.life.base.node().expect("it is one of a fleet")
    }
}

impl Fleet for NodeStore {
    fn lease(&self) -> Arc<Lease> {
        self.among().lease()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.among().clock()
    }

    fn queues(&self) -> Option<Arc<[Arc<str>]>> {
        self.among().queues()
    }

    fn poll_interval(&self) -> Duration {
        self.among().poll_interval()
    }

    fn woken(&self) -> BoxFuture<'static, Wake> {
        let (woken, reconnected, life) = (self.among().woken(), self.reconnected.clone(), self.life.clone());
        async move {
            let wake = tokio::select! {
                biased;
                () = reconnected.notified() => Wake::Reconnected,
                wake = woken => wake,
            };
            if !life.phase.awake().await {
                return std::future::pending().await;
            }
            wake
        }
        .boxed()
    }

    fn hint(&self) {
        if !self.life.is_dead() {
            self.among().hint();
        }
    }

    fn report(&self, in_flight: usize) {
        self.among().report(in_flight);
    }

    fn claim(&self, wanted: Vec<Wanted>, by: Claim) -> StoreFuture<Vec<ClaimVerdict>> {
        let limits = self.life.world.ledger().limits();
        self.write("claim", move |life| {
            let claim = life.base.node().expect("it is one of a fleet");
            life.seen(Fleet::claim(claim, wanted, by), |life, verdicts| {
                for verdict in verdicts {
                    if let ClaimVerdict::Claimed(claimed) = verdict {
                        life.note_claimed(claimed, limits);
                    }
                }
            })
        })
    }

    fn mine(&self) -> StoreFuture<Vec<(JobId, u32)>> {
        self.read("mine", |base| base.node().expect("it is one of a fleet").mine())
    }

    fn nodes(&self) -> StoreFuture<Vec<NodeRecord>> {
        self.read("nodes", |base| base.node().expect("it is one of a fleet").nodes())
    }
}
