//! Whether the simulation can find anything: each mistake that can be planted in the engine must be
//! found within so many seeds. The last two of them are bugs that the simulation found.

use std::{
    panic,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use sendoff::testing::Mutant;

use super::play::play;

/// Seeds in which each must be found.
const SEEDS: u64 = 2_000;

/// The number of seeds until it was found, and what was wrong then.
fn find(mutant: Mutant) -> Option<(u64, String)> {
    Mutant::plant(Some(mutant));
    let found = (0..SEEDS).find_map(|seed| {
        // A world in which the same goes on and on, and no time passes, ends by a panic.
        let played = panic::catch_unwind(|| play(seed, None, false).wrong);
        Some((seed + 1, played.unwrap_or_else(|_| Some("it goes on and on".to_owned()))?))
    });
    Mutant::plant(None);
    found
}

#[test]
fn each_planted_mistake_is_found() {
    let named = std::env::var("SENDOFF_MUTANT").ok();
    let mutants: Vec<_> = Mutant::ALL
        .iter()
        .copied()
        .filter(|mutant| named.as_ref().is_none_or(|name| format!("{mutant:?}") == *name))
        .collect();
    let next = AtomicUsize::new(0);
    let table = Mutex::new(Vec::new());
    let work = || {
        while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = find(*mutant);
            table.lock().unwrap().push((format!("{mutant:?}"), found));
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let mut table = table.into_inner().unwrap();
    table.sort();
    let mut missed = Vec::new();
    for (mutant, found) in &table {
        match found {
            Some((seeds, wrong)) => println!("{seeds:>6} {mutant:<26} {}", first_words(wrong)),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}

/// Without the record that follows.
fn first_words(wrong: &str) -> &str {
    wrong.split("; JobRecord").next().unwrap_or(wrong)
}
