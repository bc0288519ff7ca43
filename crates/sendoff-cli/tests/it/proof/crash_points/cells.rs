//! Which points are crossed with what.

use std::fmt;

use sendoff::crash::Point;

use super::super::jobs::Kind;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Store {
    Sqlite,
    Postgres,
    /// PostgreSQL with a second node, which lives on and takes over.
    Fleet,
}

/// How the process dies at its point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Manner {
    /// By abort, from within: nothing else runs any more.
    Abort,
    /// By SIGKILL from outside. The thread that came by waits for it, the others go on meanwhile.
    Kill,
}

/// How jobs start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Starts {
    Simulated,
    Process,
    Http,
    /// By HTTP, and each job's first call is told to come again.
    Twice,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub(super) starts: Starts,
    pub(super) at_most_once: bool,
}

impl Shape {
    const fn all_of(starts: Starts) -> [Self; 2] {
        [Self { starts, at_most_once: false }, Self { starts, at_most_once: true }]
    }

    pub(super) const fn kind(self) -> Kind {
        match (self.starts, self.at_most_once) {
            (Starts::Simulated, false) => Kind::Simulated,
            (Starts::Simulated, true) => Kind::SimulatedAtMostOnce,
            (Starts::Process, false) => Kind::ProcessAtLeastOnce,
            (Starts::Process, true) => Kind::Process,
            (Starts::Http | Starts::Twice, false) => Kind::HttpAtLeastOnce,
            (Starts::Http | Starts::Twice, true) => Kind::HttpAtMostOnce,
        }
    }
}

/// When the daemon comes by a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scene {
    /// While it serves.
    Load,
    /// When it starts for the first time; on SQLite perhaps with a store of an older version.
    First,
    /// When it starts after a crash that left something `starting`.
    Again,
    /// When it is told to stop.
    Stop,
    /// When it deletes old records.
    Retention,
}

/// How one point is put to the test.
pub(super) struct Plan {
    pub(super) scene: Scene,
    stores: &'static [Store],
    starts: &'static [Starts],
    /// The process dies at one of the first so many times.
    pub(super) times: u64,
}

const BOTH: &[Store] = &[Store::Sqlite, Store::Postgres];
const SQLITE: &[Store] = &[Store::Sqlite];
const POSTGRES: &[Store] = &[Store::Postgres];
const EVERY: &[Starts] = &[Starts::Simulated, Starts::Process, Starts::Http, Starts::Twice];
/// Where it is not the start that matters.
const ANY: &[Starts] = &[Starts::Http];
const HTTP: &[Starts] = &[Starts::Http, Starts::Twice];
const PROCESS: &[Starts] = &[Starts::Process];

impl Plan {
    /// # Panics
    /// For a point that has no plan.
    pub(super) fn of(point: Point) -> Self {
        let (scene, stores, starts, times) = match point.name() {
            "submit.received" | "submit.before_reply" | "batch.before_reply" => (Scene::Load, BOTH, EVERY, 4),
            "process.before_spawn" | "process.after_spawn" => (Scene::Load, BOTH, PROCESS, 8),
            "checkpoint.before" | "checkpoint.after" => (Scene::Load, SQLITE, ANY, 2),
            "store.created" => (Scene::First, SQLITE, ANY, 1),
            "migrate.before_commit" | "migrate.after_commit" => (Scene::First, BOTH, ANY, 1),
            "start_up.recovered" | "start_up.before_ready" => (Scene::Again, BOTH, ANY, 1),
            "reclaim.in_transaction" => (Scene::Again, SQLITE, EVERY, 1),
            "reclaim.before_commit" | "reclaim.after_commit" => (Scene::Again, BOTH, EVERY, 1),
            "node.before_leave" | "node.after_leave" => (Scene::Stop, POSTGRES, ANY, 1),
            name => match name.split_once('.').map_or(name, |(area, _)| area) {
                "submit" | "claim" | "start" | "outcome" | "cancel" => (Scene::Load, BOTH, EVERY, 8),
                "http" => (Scene::Load, BOTH, HTTP, 8),
                "bulk_cancel" | "reschedule" | "expire" => (Scene::Load, BOTH, ANY, 3),
                "prune" => (Scene::Retention, BOTH, ANY, 1),
                "drain" => (Scene::Stop, BOTH, ANY, 1),
                "close" => (Scene::Stop, SQLITE, ANY, 1),
                "node" => (Scene::Again, POSTGRES, ANY, 1),
                _ => panic!("{name} is put to no test"),
            },
        };
        Self { scene, stores, starts, times }
    }
}

/// One crash: where, how, and what is done meanwhile.
#[derive(Clone, Copy)]
pub(super) struct Cell {
    pub(super) point: Point,
    pub(super) store: Store,
    pub(super) shape: Shape,
    pub(super) manner: Manner,
}

impl Cell {
    /// Whether it is about one node that serves.
    pub(super) fn is_under_load(&self) -> bool {
        Plan::of(self.point).scene == Scene::Load && self.store != Store::Fleet
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { point, store, shape: Shape { starts, at_most_once }, manner } = self;
        let delivery = if *at_most_once { "at_most_once" } else { "at_least_once" };
        write!(f, "{} {store:?} {starts:?} {delivery} {manner:?}", point.name())
    }
}

/// All cells of a point.
pub(super) fn cells(point: Point) -> Vec<Cell> {
    let plan = Plan::of(point);
    let mut cells = Vec::new();
    for &store in plan.stores {
        for shape in plan.starts.iter().flat_map(|&starts| Shape::all_of(starts)) {
            for manner in [Manner::Abort, Manner::Kill] {
                cells.push(Cell { point, store, shape, manner });
                // It waits for heartbeats, so not with every kind of start.
                if plan.scene == Scene::Load && store == Store::Postgres && shape.starts == Starts::Http {
                    cells.push(Cell { point, store: Store::Fleet, shape, manner });
                }
            }
        }
    }
    cells
}
