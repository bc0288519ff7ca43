//! The daemon dies at named points of its own (the library's feature `crash-points`), is started again,
//! and is judged from outside: by what its callers were told, by the endpoint or the file that saw the
//! starts, and by the records in the end. A cell whose point is not reached fails.
//!
//! In `cargo test` each point once on SQLite, and some on PostgreSQL, in ways chosen by a printed seed;
//! all of them, or those whose names begin so:
//!
//! `SENDOFF_CELLS=all cargo test -p sendoff-cli --test it proof::crash_points -- --nocapture`
//! `SENDOFF_CELLS="claim.after_commit Sqlite" …`
//! `SENDOFF_MINUTES=10 cargo test -p sendoff-cli --test it proof::crash_points::a_store -- --nocapture`

mod cells;
mod life;
mod load;
mod scenes;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sendoff::{
    crash::Point,
    time::{Clock, SystemClock},
};

use self::{
    cells::{Cell, Store, cells},
    scenes::{Seen, play},
};
use super::{Chance, figure, seed};

/// In `cargo test`, of the points that both stores have, so many on PostgreSQL too.
const ALSO_ON_POSTGRES: usize = 6;
const ALSO_IN_FLEETS: usize = 2;

#[test]
fn wherever_it_dies_every_promise_is_kept() {
    let seed = seed();
    let all = all();
    let chosen = match std::env::var("SENDOFF_CELLS") {
        Err(_) => some(&all, seed),
        Ok(wanted) if wanted == "all" => all,
        Ok(wanted) => all.into_iter().filter(|(_, cell)| cell.to_string().starts_with(&wanted)).collect(),
    };
    assert!(!chosen.is_empty(), "no cell has a name like that");
    let (next, seen, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let work = || {
        while let Some((number, cell)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            let its_seed = Chance::nth(seed, *number).below(u64::MAX);
            match catch_unwind(AssertUnwindSafe(|| play(cell, &[], its_seed))) {
                Ok(one) => {
                    let mut seen = seen.lock().unwrap();
                    seen.push((*cell, one));
                    if seen.len() % 100 == 0 {
                        println!("{} of {} cells", seen.len(), chosen.len());
                    }
                }
                Err(_) => {
                    println!("FAILED: {cell}");
                    failed.lock().unwrap().push(cell.to_string());
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let (seen, failed) = (seen.into_inner().unwrap(), failed.into_inner().unwrap());
    print_table(&seen, failed.len());
    assert!(failed.is_empty(), "SENDOFF_SEED={seed}, {} of {}: {failed:#?}", failed.len(), chosen.len());
}

/// Crashes that one store lives through.
const IN_A_ROW: usize = 5;

#[test]
fn a_store_lives_through_many() {
    let seed = seed();
    let minutes = figure("SENDOFF_MINUTES", 0);
    let until = SystemClock.elapsed() + Duration::from_secs(minutes as u64 * 60);
    let cells: Vec<_> = all().into_iter().map(|(_, cell)| cell).filter(Cell::is_under_load).collect();
    let mut total = Seen::default();
    for round in 0.. {
        let mut chance = Chance::nth(seed, round);
        let mut one_of = |cells: &[Cell]| cells[chance.below(cells.len() as u64) as usize];
        let first = one_of(&cells);
        let alike = |cell: &Cell| cell.store == first.store && cell.shape == first.shape;
        let alike: Vec<_> = cells.iter().copied().filter(alike).collect();
        let further: Vec<_> = (1..IN_A_ROW).map(|_| one_of(&alike)).collect();
        let seen = catch_unwind(AssertUnwindSafe(|| play(&first, &further, chance.below(u64::MAX))));
        let Ok(seen) = seen else {
            let further: Vec<_> = further.iter().map(Cell::to_string).collect();
            panic!("SENDOFF_SEED={seed}, round {round}: {first}, then {further:#?}");
        };
        total.add(seen);
        if SystemClock.elapsed() >= until {
            break;
        }
    }
    println!("{total}");
}

/// All cells that this machine can play, each with a number that stays.
fn all() -> Vec<(usize, Cell)> {
    let all = Point::ALL.iter().flat_map(|point| cells(*point)).enumerate();
    let postgres = testpg::wanted();
    all.filter(|(_, cell)| postgres || cell.store == Store::Sqlite).collect()
}

/// One of each point on SQLite, or on PostgreSQL if only that has it, and some on PostgreSQL besides.
fn some(all: &[(usize, Cell)], seed: u64) -> Vec<(usize, Cell)> {
    let mut chance = Chance::nth(seed, usize::MAX - 1);
    let mut one = |point: Point, store: Store| {
        let of = |(_, cell): &&(usize, Cell)| cell.point == point && cell.store == store;
        let cells: Vec<_> = all.iter().filter(of).collect();
        (!cells.is_empty()).then(|| *cells[chance.below(cells.len() as u64) as usize])
    };
    let mut some = Vec::new();
    let (mut both, mut fleet) = (Vec::new(), Vec::new());
    for &point in Point::ALL {
        let (sqlite, postgres) = (one(point, Store::Sqlite), one(point, Store::Postgres));
        some.extend(sqlite.or(postgres));
        both.extend(sqlite.and(postgres));
        fleet.extend(one(point, Store::Fleet));
    }
    for (mut cells, count) in [(both, ALSO_ON_POSTGRES), (fleet, ALSO_IN_FLEETS)] {
        for _ in 0..count.min(cells.len()) {
            some.push(cells.swap_remove(chance.below(cells.len() as u64) as usize));
        }
    }
    some
}

fn print_table(seen: &[(Cell, Seen)], violations: usize) {
    println!("{:<28} {}", "point", Seen::HEAD);
    let mut total = Seen::default();
    for point in Point::ALL {
        let mut of_point = Seen::default();
        seen.iter().filter(|(cell, _)| cell.point == *point).for_each(|(_, one)| of_point.add(*one));
        if of_point.cells > 0 {
            println!("{:<28} {of_point}", point.name());
        }
        total.add(of_point);
    }
    println!("{:<28} {total}", "all");
    println!(
        "{violations} violations; kept / gone: jobs whose submit nobody acknowledged; doubled: all flagged"
    );
}
