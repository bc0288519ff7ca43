//! One node of the fleet: the store as its scheduler sees it, and what a test can do to it.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::Notify;

use super::{FleetOf, HEARTBEAT, LEASE};
use crate::{
    error::{Error, ErrorKind, Result},
    guid::Guid,
    job::{Header, JobId, JobRecord, Lane, QueueLimits},
    ports::{
        CancelVerdict, Changed, Claim, ClaimVerdict, Claimed, Counts, Durability, Expired, Filter, Fleet,
        InsertBatch, Inserted, Lease, NodeRecord, Page, PageRequest, Prune, Settled, Settlement, Store,
        StoreFuture, Wake, Wanted,
    },
    state::Resolution,
    store::MemoryStore,
    time::{Clock, Timestamp},
};

/// A node's store. Clones are handles of the same node.
#[derive(Clone)]
pub struct FleetNode(Arc<Member>);

pub(super) struct Member {
    fleet: FleetOf,
    queues: Option<Arc<[Arc<str>]>>,
    lease: Mutex<Arc<Lease>>,
    trouble: Mutex<Trouble>,
    wake: Mutex<Option<Wake>>,
    woken: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Trouble {
    silent: bool,
    cut: bool,
    killed: bool,
    lose: usize,
    delay: Duration,
}

impl Member {
    pub(super) fn wake(&self, why: Wake) {
        let mut wake = lock(&self.wake);
        if *wake != Some(Wake::Reconnected) {
            *wake = Some(why);
        }
        drop(wake);
        self.woken.notify_one();
    }
}

impl FleetNode {
    pub(super) fn register(fleet: FleetOf, queues: Option<Arc<[Arc<str>]>>) -> Self {
        let member = Arc::new(Member {
            fleet,
            queues,
            lease: Mutex::new(Arc::new(Lease::new("unregistered".into(), Duration::ZERO))),
            trouble: Mutex::default(),
            wake: Mutex::default(),
            woken: Notify::new(),
        });
        let node = Self(member);
        node.enter();
        let member = Arc::downgrade(&node.0);
        // It ends with the node, or with the runtime: nobody has to wait for it.
        drop(tokio::runtime::Handle::current().spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                let Some(member) = member.upgrade() else { return };
                Self(member).beat();
            }
        }));
        node
    }

    /// The node's name at present.
    pub fn name(&self) -> Arc<str> {
        self.lease().node().clone()
    }

    /// Its heart stops, or beats again; everything else goes on. Its lease runs out after 20 s; after
    /// 45 s the other nodes declare it dead.
    pub fn silence(&self, silent: bool) {
        lock(&self.0.trouble).silent = silent;
        self.beat();
    }

    /// The database cannot be reached from this node, or again: every call fails, and its heart is not
    /// heard.
    pub fn cut(&self, cut: bool) {
        lock(&self.0.trouble).cut = cut;
        if !cut {
            self.beat();
            self.0.wake(Wake::Reconnected);
        }
    }

    /// As if its process were killed: its scheduler stops with an error, its heart for ever.
    pub fn kill(&self) {
        lock(&self.0.trouble).killed = true;
    }

    /// As if it had been declared dead and had just noticed: its lease is revoked and what it left is
    /// taken back. With its next heartbeat it registers anew.
    pub fn revoke(&self) {
        let lease = self.lease();
        lease.revoke();
        self.0.fleet.bury(lease.node());
    }

    /// The next so many claims, inserts with claims and settlements take effect, and their answers get
    /// lost: the engine is told that nothing is known, and then that the connection is back.
    pub fn lose_answers(&self, calls: usize) {
        lock(&self.0.trouble).lose = calls;
    }

    /// Answers to claims, inserts with claims and settlements come so much later than their effect.
    pub fn delay_answers(&self, by: Duration) {
        lock(&self.0.trouble).delay = by;
    }

    /// Registers the node, under another name than ever before.
    fn enter(&self) {
        let name = self.0.fleet.register(&self.0, self.0.queues.clone());
        *lock(&self.0.lease) = Arc::new(Lease::new(name, self.lease_end()));
    }

    fn lease_end(&self) -> Duration {
        self.0.fleet.clock().elapsed() + LEASE
    }

    fn beat(&self) {
        let Trouble { silent, cut, killed, .. } = *lock(&self.0.trouble);
        if silent || cut || killed {
            return;
        }
        let lease = self.lease();
        if self.0.fleet.beat(lease.node()) {
            lease.extend(self.lease_end());
        } else {
            lease.revoke();
            self.enter();
            self.0.wake(Wake::Hint);
        }
        self.0.fleet.bury_the_silent();
    }

    fn pass<T: Send + 'static>(&self, call: impl FnOnce(&MemoryStore) -> StoreFuture<T>) -> StoreFuture<T> {
        match self.reachable() {
            Ok(()) => call(self.0.fleet.store()),
            Err(err) => std::future::ready(Err(err)).boxed(),
        }
    }

    fn reachable(&self) -> Result<()> {
        let Trouble { cut, killed, .. } = *lock(&self.0.trouble);
        if killed {
            return Err(Error::new(ErrorKind::Fatal, "this node was killed"));
        }
        if cut {
            return Err(Error::new(ErrorKind::Unavailable, "this node is cut off"));
        }
        Ok(())
    }

    /// Whether this name may claim now.
    fn may_claim(&self, name: &str) -> Result<()> {
        let lease = self.lease();
        let holds = lease.holds(self.0.fleet.clock().elapsed()) && **lease.node() == *name;
        if holds && self.0.fleet.is_registered(name) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unavailable, format!("the lease of {name} has run out")))
    }

    /// The answer in its time, unless it gets lost.
    fn answer<T: Send + 'static>(&self, answer: StoreFuture<T>) -> StoreFuture<T> {
        let (delay, lost) = {
            let mut trouble = lock(&self.0.trouble);
            let lost = trouble.lose > 0;
            trouble.lose = trouble.lose.saturating_sub(1);
            (trouble.delay, lost)
        };
        if lost {
            self.0.wake(Wake::Reconnected);
            let lost = Error::new(ErrorKind::CommitUnknown, "the connection was lost before the answer came");
            return std::future::ready(Err(lost)).boxed();
        }
        if delay.is_zero() {
            return answer;
        }
        async move {
            tokio::time::sleep(delay).await;
            answer.await
        }
        .boxed()
    }
}

impl Fleet for FleetNode {
    fn lease(&self) -> Arc<Lease> {
        lock(&self.0.lease).clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.fleet.clock().clone()
    }

    fn queues(&self) -> Option<Arc<[Arc<str>]>> {
        self.0.queues.clone()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn woken(&self) -> BoxFuture<'static, Wake> {
        let member = self.0.clone();
        async move {
            loop {
                if let Some(wake) = lock(&member.wake).take() {
                    return wake;
                }
                member.woken.notified().await;
            }
        }
        .boxed()
    }

    fn hint(&self) {
        if self.reachable().is_ok() {
            self.0.fleet.wake_all_but(self.lease().node());
        }
    }

    fn report(&self, in_flight: usize) {
        let name = self.name();
        for row in self.0.fleet.lock().rows.iter_mut().filter(|row| row.name == name) {
            row.in_flight = in_flight;
        }
    }

    fn claim(&self, wanted: Vec<Wanted>, by: Claim) -> StoreFuture<Vec<ClaimVerdict>> {
        if let Err(err) = self.reachable().and_then(|()| self.may_claim(&by.node)) {
            return std::future::ready(Err(err)).boxed();
        }
        let verdicts = wanted.iter().map(|wanted| self.0.fleet.claim(wanted, &by)).collect();
        self.answer(std::future::ready(Ok(verdicts)).boxed())
    }

    fn mine(&self) -> StoreFuture<Vec<(JobId, u32)>> {
        let name = self.name();
        self.pass(|store| std::future::ready(Ok(store.starting_under(&name))).boxed())
    }

    fn nodes(&self) -> StoreFuture<Vec<NodeRecord>> {
        let records = self.0.fleet.records(&self.name());
        self.pass(|_| std::future::ready(Ok(records)).boxed())
    }
}

impl Store for FleetNode {
    fn durability(&self) -> Durability {
        Durability::Memory
    }

    fn insert(&self, batch: InsertBatch) -> StoreFuture<Vec<Inserted>> {
        let claims = batch.jobs.iter().find_map(|new| new.claim.clone());
        let Some(name) = claims else { return self.pass(|store| store.insert(batch)) };
        if let Err(err) = self.reachable().and_then(|()| self.may_claim(&name)) {
            return std::future::ready(Err(err)).boxed();
        }
        self.answer(self.0.fleet.store().insert(batch))
    }

    /// Claims of a fleet go through [`Fleet::claim`].
    fn claim(&self, ids: Vec<JobId>, by: Claim) -> StoreFuture<Vec<Option<Claimed>>> {
        self.pass(|store| store.claim(ids, by))
    }

    fn settle(&self, settlements: Vec<Settlement>, now: Timestamp) -> StoreFuture<Vec<Settled>> {
        if settlements.is_empty() {
            return self.pass(|store| store.settle(settlements, now));
        }
        match self.reachable() {
            Ok(()) => self.answer(self.0.fleet.store().settle(settlements, now)),
            Err(err) => std::future::ready(Err(err)).boxed(),
        }
    }

    fn cancel(&self, guids: Vec<Guid>, now: Timestamp) -> StoreFuture<Vec<CancelVerdict>> {
        self.pass(|store| store.cancel(guids, now))
    }

    fn reschedule(&self, guid: Guid, run_at: Timestamp, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.pass(|store| store.reschedule(guid, run_at, now))
    }

    fn resolve(&self, guid: Guid, to: Resolution, now: Timestamp) -> StoreFuture<Option<Changed>> {
        self.pass(|store| store.resolve(guid, to, now))
    }

    /// The other nodes take back what a dead one left.
    fn reclaim(&self, _limit: usize, _now: Timestamp) -> StoreFuture<usize> {
        self.pass(|_| std::future::ready(Ok(0)).boxed())
    }

    fn expire(&self, limit: usize, now: Timestamp) -> StoreFuture<Expired> {
        self.pass(|store| store.expire(limit, now))
    }

    fn prune(&self, prune: Prune) -> StoreFuture<usize> {
        self.pass(|store| store.prune(prune))
    }

    fn due(
        &self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> StoreFuture<Vec<Header>> {
        self.pass(|store| store.due(after, until, limit))
    }

    fn ready(&self, lane: Arc<Lane>, now: Timestamp, limit: usize) -> StoreFuture<Vec<Header>> {
        self.pass(|store| store.ready(lane, now, limit))
    }

    fn lanes(&self, after: Option<Arc<Lane>>, limit: usize) -> StoreFuture<Vec<Arc<Lane>>> {
        self.pass(|store| store.lanes(after, limit))
    }

    fn get(&self, guid: Guid) -> StoreFuture<Option<JobRecord>> {
        self.pass(|store| store.get(guid))
    }

    fn list(&self, filter: Filter, page: PageRequest) -> StoreFuture<Page> {
        self.pass(|store| store.list(filter, page))
    }

    fn counts(&self) -> StoreFuture<Counts> {
        self.pass(Store::counts)
    }

    fn bookmark(&self, name: String) -> StoreFuture<Option<Vec<u8>>> {
        self.pass(|store| store.bookmark(name))
    }

    fn queues(&self) -> StoreFuture<BTreeMap<Arc<str>, QueueLimits>> {
        self.pass(Store::queues)
    }

    fn set_queue(&self, queue: Arc<str>, limits: Option<QueueLimits>) -> StoreFuture<()> {
        self.pass(|store| store.set_queue(queue, limits))
    }

    fn backup(&self, to: PathBuf) -> StoreFuture<()> {
        self.pass(|store| store.backup(to))
    }

    /// The node leaves the fleet; the others go on. If it left anything, they take it back in time.
    fn close(&self) -> StoreFuture<()> {
        if self.reachable().is_ok() {
            let name = self.name();
            lock(&self.0.trouble).silent = true;
            if self.0.fleet.store().starting_under(&name).is_empty() {
                self.0.fleet.lock().rows.retain(|row| row.name != name);
            }
        }
        std::future::ready(Ok(())).boxed()
    }

    fn fleet(&self) -> Option<Arc<dyn Fleet>> {
        Some(Arc::new(self.clone()))
    }
}

impl fmt::Debug for FleetNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetNode").field("name", &self.name()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
