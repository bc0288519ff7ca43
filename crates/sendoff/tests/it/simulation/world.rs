//! A world: the true time, the nodes and what they share, the ledger, the trace. Everything in it is
//! drawn from its seed and runs on one thread on a clock that jumps, so it goes the same way each time.

use std::{
    collections::BTreeMap,
    fmt::Write,
    hash::{DefaultHasher, Hasher},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use sendoff::{
    Guid, JobRecord, Scheduler,
    ports::{Filter, PageRequest, Store},
    store::{MemoryStore, memory::Fault},
    testing::{FleetNode, FleetOf},
};
use tokio::time::sleep;

use super::{
    clock::{NodeClock, Wall},
    ledger::Ledger,
    life::{Base, Life, Phase},
    starter::{Call, PROGRAM, Targets},
    store::NodeStore,
    swarm::Swarm,
};

/// What several nodes share, or one keeps from life to life.
enum Common {
    Store(Mutex<Arc<MemoryStore>>),
    Fleet(FleetOf),
}

/// A node that is up.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) life: Arc<Life>,
    pub(super) scheduler: Scheduler,
}

pub(super) struct World {
    pub(super) swarm: Swarm,
    pub(super) wall: Wall,
    common: Common,
    nodes: Mutex<Vec<Option<Node>>>,
    ledger: Mutex<Ledger>,
    trace: Mutex<Trace>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    calm: AtomicBool,
    lives: AtomicU64,
    seed: u64,
}

struct Trace {
    hash: DefaultHasher,
    line: String,
    shown: bool,
    events: u64,
}

/// A way to begin that all worlds share.
fn beginning() -> sendoff::Timestamp {
    "2026-11-23T00:00:00Z".parse().expect("an instant")
}

impl World {
    pub(super) fn new(seed: u64, fault: Option<Fault>, shown: bool) -> Arc<Self> {
        let swarm = Swarm::of(&mut fastrand::Rng::with_seed(seed ^ 0x5eed));
        let wall = Wall::starting_at(beginning());
        let store = fault.map_or_else(MemoryStore::new, MemoryStore::with_fault);
        let common = if swarm.nodes == 0 {
            Common::Store(Mutex::new(Arc::new(store)))
        } else {
            let exact = NodeClock {
                wall: wall.clone(),
                behind: Duration::ZERO,
                ahead: Duration::ZERO,
                rings: false,
                phase: Phase::default(),
            };
            let fleet = FleetOf::by_clock(store, exact);
            fleet.lose_hints(swarm.hints_lost);
            Common::Fleet(fleet)
        };
        let nodes = Mutex::new(vec![None; swarm.nodes.max(1)]);
        let trace = Trace { hash: DefaultHasher::new(), line: String::new(), shown, events: 0 };
        Arc::new(Self {
            swarm,
            wall,
            common,
            nodes,
            ledger: Mutex::new(Ledger::new(shown)),
            trace: Mutex::new(trace),
            counts: Mutex::default(),
            calm: AtomicBool::new(false),
            lives: AtomicU64::new(0),
            seed,
        })
    }

    /// Random numbers of their own for a part of the world.
    pub(super) fn random(&self, part: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ part)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// Notes an event, at its time.
    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        let mut trace = self.trace.lock().unwrap();
        let Trace { hash, line, shown, events } = &mut *trace;
        line.clear();
        let _ = write!(line, "{} {}", self.wall.elapsed().as_millis(), what());
        assert!(*events < 1_000_000, "it goes on and on");
        hash.write(line.as_bytes());
        *events += 1;
        if *shown {
            eprintln!("{line}");
        }
    }

    /// All events so far as one number, and how many they were.
    pub(super) fn traced(&self) -> (u64, u64) {
        let trace = self.trace.lock().unwrap();
        (trace.hash.finish(), trace.events)
    }

    pub(super) fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.counts.lock().unwrap().clone()
    }

    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// No faults from here on.
    pub(super) fn calm(&self) {
        self.trace(|| "the faults stop".to_owned());
        self.calm.store(true, Ordering::Relaxed);
    }

    /// On the runtime of this world.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::runtime::Handle::current().spawn(task));
    }

    pub(super) fn is_registered(&self, node: &str) -> bool {
        match &self.common {
            Common::Store(_) => true,
            Common::Fleet(fleet) => fleet.is_registered(node),
        }
    }

    /// What all of it comes to, seen from outside.
    fn looked_at<T>(&self, look: impl FnOnce(&MemoryStore) -> T) -> T {
        match &self.common {
            Common::Store(store) => look(&store.lock().unwrap()),
            Common::Fleet(fleet) => look(fleet.store()),
        }
    }

    pub(super) fn record(&self, guid: Guid) -> Option<JobRecord> {
        self.looked_at(|store| store.get(guid).now_or_never()?.ok()?)
    }

    pub(super) fn records(&self) -> BTreeMap<Guid, JobRecord> {
        let page = PageRequest { limit: 100_000, row_budget: 1_000_000, ..PageRequest::default() };
        let page = self.looked_at(|store| store.list(Filter::default(), page).now_or_never());
        let page = page.expect("a store in memory answers at once").unwrap_or_default();
        page.records.into_iter().map(|record| (record.guid, record)).collect()
    }

    /// The nodes that are up.
    pub(super) fn up(&self) -> Vec<Node> {
        let nodes = self.nodes.lock().unwrap();
        nodes.iter().flatten().filter(|node| !node.life.is_dead()).cloned().collect()
    }

    /// Nobody but the world ends a node.
    pub(super) fn check_nodes(&self) {
        for Node { life, scheduler } in self.up() {
            if scheduler.is_stopping() && life.stopping.lock().unwrap().is_none() {
                self.ledger().wrong(format!("the loop of {life} ended by itself"));
            }
        }
    }

    /// Places of nodes that are down.
    pub(super) fn down(&self) -> Vec<usize> {
        let nodes = self.nodes.lock().unwrap();
        let down = |node: &Option<Node>| node.as_ref().is_none_or(|node| node.life.is_dead());
        (0..nodes.len()).filter(|place| down(&nodes[*place])).collect()
    }

    /// One of those that are up.
    pub(super) fn any(&self, random: &mut fastrand::Rng) -> Option<Node> {
        random.choice(self.up())
    }

    /// A new life for a node that is down; tried until it succeeds.
    pub(super) async fn start(self: &Arc<Self>, place: usize) {
        loop {
            let life = self.new_life();
            self.trace(|| format!("{life} is to start"));
            self.count("starts of nodes");
            let mut random = self.random(u64::from(life.number) | 1 << 40);
            let mut within = |most| Duration::from_millis(random.u64(0..=most));
            let fleet = matches!(life.base, Base::Among(_));
            let clock = NodeClock {
                wall: self.wall.clone(),
                behind: within(self.swarm.blur),
                ahead: within(self.swarm.blur),
                rings: !fleet && within(1).is_zero(),
                phase: life.phase.clone(),
            };
            let builder = Scheduler::builder()
                .store(Arc::new(NodeStore::new(life.clone())))
                .starter(Targets::new(life.clone(), <Call as sendoff::Payload>::STARTER))
                .starter(Targets::new(life.clone(), PROGRAM))
                .max_in_flight(life.max_in_flight)
                .notice_buffer(16)
                .clock(clock)
                .seed(u64::from(life.number));
            match builder.start().await {
                Ok(scheduler) if !life.is_dead() => {
                    self.trace(|| format!("{life} is up"));
                    self.nodes.lock().unwrap()[place] = Some(Node { life, scheduler });
                    return;
                }
                _ => {
                    life.kill("it did not start");
                    sleep(Duration::from_millis(700)).await;
                }
            }
        }
    }

    /// What a node alone left when it ended.
    pub(super) fn reopen(&self) {
        if let Common::Store(store) = &self.common {
            let mut store = store.lock().unwrap();
            *store = Arc::new(store.crash_and_reopen());
        }
    }

    fn new_life(self: &Arc<Self>) -> Arc<Life> {
        let number = u32::try_from(self.lives.fetch_add(1, Ordering::Relaxed)).expect("few lives") + 1;
        let base = match &self.common {
            Common::Store(store) => Base::Alone(store.lock().unwrap().clone()),
            Common::Fleet(fleet) => Base::Among(FleetNode::clone(&fleet.node())),
        };
        Arc::new(Life {
            number,
            world: self.clone(),
            base,
            phase: Phase::default(),
            max_in_flight: self.swarm.max_in_flight,
            cut: AtomicBool::new(false),
            troubles: AtomicU64::new(0),
            stopping: Mutex::default(),
            random: Mutex::new(self.random(u64::from(number))),
        })
    }

    /// Lets go of everything that is kept in a circle.
    pub(super) fn clear(&self) {
        self.nodes.lock().unwrap().clear();
        *self.ledger() = Ledger::default();
    }
}
