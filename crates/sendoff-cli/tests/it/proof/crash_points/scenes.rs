//! What is done around one crash, and what has to be true afterwards.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use sendoff::crash::Point;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        Chance,
        caller::Caller,
        judge::judge_one,
        load::Cancel,
        records::{Record, ended, idle, records, settled},
        until,
        witness::{Endpoint, Ledger},
    },
    cells::{Cell, Manner, Plan, Scene, Store},
    life::{Arming, Life, MAX_IN_FLIGHT},
    load::{Load, Told},
};
use crate::{harness::Daemon, operation::upgrade};

/// What was seen in one cell, or in several.
#[derive(Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) cells: usize,
    pub(super) crashes: usize,
    /// Jobs whose submit was acknowledged.
    pub(super) acknowledged: usize,
    /// Jobs whose submit was not, and which their callers let go of: are there all the same.
    pub(super) kept: usize,
    /// Are not.
    pub(super) gone: usize,
    /// Starts of at_least_once jobs beyond the first, all of them flagged.
    pub(super) doubled: usize,
    pub(super) unknown: usize,
}

impl Seen {
    /// Above what is displayed.
    pub(super) const HEAD: &str = "cells  crashes acknowledged kept / gone  doubled  unknown";

    pub(super) fn add(&mut self, other: Self) {
        self.cells += other.cells;
        self.crashes += other.crashes;
        self.acknowledged += other.acknowledged;
        self.kept += other.kept;
        self.gone += other.gone;
        self.doubled += other.doubled;
        self.unknown += other.unknown;
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cells, crashes, acknowledged, kept, gone, doubled, unknown } = self;
        let let_go = format!("{kept} / {gone}");
        write!(f, "{cells:>5} {crashes:>8} {acknowledged:>12} {let_go:>11} {doubled:>8} {unknown:>8}")
    }
}

/// Plays a cell to its end; fails unless every promise was kept. `further` crashes under load follow the
/// first one in the same store.
pub(super) fn play(cell: &Cell, further: &[Cell], seed: u64) -> Seen {
    let mut chance = Chance::nth(seed, usize::MAX - 1);
    let scene = Plan::of(cell.point).scene;
    let life = Life::new(cell);
    let endpoint = Endpoint::open();
    let ledger = Ledger::new(life.place.path("ledger"));
    let load = Load {
        seed,
        shape: cell.shape,
        sockets: life.sockets(),
        endpoint: endpoint.address,
        ledger: ledger.path(),
        over: AtomicBool::new(false),
        failed: AtomicBool::new(false),
        acknowledged: AtomicUsize::new(0),
    };
    let arming = Arming::of(cell, &mut chance);
    if scene == Scene::Retention {
        return retention(cell, &life, arming, &load, chance);
    }
    // Only what comes after the first schema has an older store to meet.
    let old = cell.store == Store::Sqlite && cell.point.name().starts_with("migrate") && chance.below(2) == 0;
    if old {
        upgrade::of_schema_1(&life.place);
    }
    let begun = Arming { point: Point::StartAfterBegin, time: 1 + chance.below(8), manner: Manner::Abort };
    let (first, second) = if scene == Scene::Again { (begun, Some(arming)) } else { (arming, None) };
    let crashes = 1 + usize::from(second.is_some()) + further.len();
    let mut daemon = life.start_second();
    let armed = life.start_armed(first, &[]);
    if daemon.is_some() {
        until("the first node", || UnixStream::connect(&life.socket).is_ok());
    }
    let told = load.run(|| {
        if scene == Scene::Stop {
            let enough = 10 + chance.below(40) as usize;
            until("jobs", || load.acknowledged.load(Ordering::Relaxed) >= enough);
            armed.terminate();
        }
        armed.see_dead();
        for cell in further {
            life.start_armed(Arming::of(cell, &mut chance), &[]).see_dead();
        }
        load.over.store(true, Ordering::Relaxed);
        if let Some(second) = second {
            life.start_armed(second, &[]).see_dead();
        }
        daemon.get_or_insert_with(|| life.start());
    });
    if old {
        end_those_of_schema_1(&mut Caller::new(life.socket.clone()));
    }
    let case = Case { cell, life: &life, told: &told, endpoint: &endpoint, ledger: &ledger, crashes, old };
    case.judge(daemon.unwrap())
}

/// Of the two jobs that were there before, one was due and the other never is.
fn end_those_of_schema_1(caller: &mut Caller) {
    let (due, never) = (format!("{}1", upgrade::GUID), format!("{}2", upgrade::GUID));
    assert_eq!(ended(caller, due.parse().unwrap()).state, "started");
    let (status, answer) = caller.ask("POST", &format!("/v1/jobs/{never}:cancel"), "").unwrap();
    assert_eq!(status, 200, "{answer}");
}

struct Case<'a> {
    cell: &'a Cell,
    life: &'a Life,
    told: &'a Told,
    endpoint: &'a Endpoint,
    ledger: &'a Ledger,
    crashes: usize,
    /// The store was there before, with two jobs.
    old: bool,
}

impl Case<'_> {
    fn judge(&self, daemon: Daemon) -> Seen {
        let Self { cell, told, crashes, .. } = *self;
        let mut caller = Caller::new(self.life.sockets().pop().unwrap());
        let acknowledged = told.submits.iter().filter(|submit| submit.acknowledged);
        let acknowledged: Vec<Uuid> = acknowledged.flat_map(|submit| submit.guids.clone()).collect();
        for guid in &acknowledged {
            ended(&mut caller, *guid);
        }
        let counts = settled(&mut caller);
        idle(&mut caller);
        let mut records = records(&mut caller);
        self.judge_store(daemon, &counts, &records);
        if self.old {
            records.retain(|guid, _| !guid.to_string().starts_with(upgrade::GUID));
        }

        let mut seen = Seen { cells: 1, crashes, acknowledged: acknowledged.len(), ..Seen::default() };
        for submit in told.submits.iter().filter(|submit| !submit.acknowledged) {
            let there = submit.guids.iter().filter(|guid| records.contains_key(guid)).count();
            assert!(there == 0 || there == submit.guids.len(), "a part of a batch: {:?}", submit.guids);
            seen.kept += there;
            seen.gone += submit.guids.len() - there;
        }
        assert_eq!(records.len(), acknowledged.len() + seen.kept, "jobs that nobody submitted");
        let starts = self.starts(&records);
        for record in records.values() {
            let guid = record.guid;
            let starts = starts.as_ref().map(|starts| starts.get(&guid).copied().unwrap_or(0));
            let cancel = told.cancels.get(&guid).copied().unwrap_or(Cancel::NotAsked);
            judge_one(record, cell.shape.kind(), cancel, starts);
            if record.state == "unknown" {
                let class = record.last_error.as_ref().map(|error| error.class.as_str());
                assert!(matches!(class, Some("crash" | "poison")), "no crash explains it: {record:?}");
                seen.unknown += 1;
            }
            seen.doubled += starts.unwrap_or(0).saturating_sub(1);
        }
        let doubts = MAX_IN_FLIGHT * crashes;
        assert!(seen.doubled <= doubts && seen.unknown <= doubts, "more than was in flight");
        seen
    }

    /// Starts of each job as the endpoint or the ledger saw them; none for those that nobody can see.
    fn starts(&self, records: &HashMap<Uuid, Record>) -> Option<HashMap<Uuid, usize>> {
        use super::cells::Starts::{Http, Process, Simulated, Twice};
        match self.cell.shape.starts {
            Simulated => None,
            Http | Twice => Some(self.endpoint.counts()),
            Process => {
                let started = records.values().filter(|record| record.state == "started");
                let started: Vec<_> = started.map(|record| record.guid).collect();
                Some(self.ledger.starts_with(&started))
            }
        }
    }

    /// What the daemon says, and what it leaves when it ends in order, are the same.
    fn judge_store(&self, daemon: Daemon, counts: &BTreeMap<String, usize>, records: &HashMap<Uuid, Record>) {
        let mut by_state = BTreeMap::new();
        for record in records.values() {
            *by_state.entry(record.state.clone()).or_insert(0) += 1;
        }
        assert_eq!(*counts, by_state, "the counts are not those of the records");
        let (code, log) = daemon.stop();
        assert_eq!(code, Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        self.life.check_store(records.len());
    }
}

/// Old records go a step at a time, each wholly or not at all, and nothing else goes.
fn retention(cell: &Cell, life: &Life, arming: Arming, load: &Load<'_>, mut chance: Chance) -> Seen {
    const ENDED: usize = 20;
    const PENDING: usize = 3;
    let daemon = life.start();
    let mut caller = Caller::new(life.socket.clone());
    let mut job = |more: Value| load.job(chance.guid(), &more).to_string();
    for _ in 0..ENDED {
        caller.ask("POST", "/v1/jobs", &job(json!({}))).unwrap();
    }
    for _ in 0..PENDING {
        caller.ask("POST", "/v1/jobs", &job(json!({"delay": "1h"}))).unwrap();
    }
    let count = |caller: &mut Caller, state: &str| {
        let (_, stats) = caller.ask("GET", "/v1/stats", "").unwrap();
        stats["counts"][state].as_u64().unwrap_or(0) as usize
    };
    until("starts", || count(&mut caller, "started") == ENDED);
    assert_eq!(daemon.stop().0, Some(0));
    life.start_armed(arming, &["--retention-final", "0s"]).see_dead();

    let daemon = life.start();
    let mut caller = Caller::new(life.socket.clone());
    let left = if cell.point.name() == "prune.after_commit" { 0 } else { ENDED };
    assert_eq!(count(&mut caller, "started"), left);
    assert_eq!(count(&mut caller, "pending"), PENDING);
    let records = records(&mut caller);
    assert_eq!(records.len(), left + PENDING);
    assert_eq!(daemon.stop().0, Some(0));
    life.check_store(left + PENDING);
    Seen { cells: 1, crashes: 1, acknowledged: ENDED + PENDING, ..Seen::default() }
}
