//! Seeds, many and named.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use super::play::play;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

/// One of so many seeds is played twice.
const TWICE: u64 = 100;

#[test]
fn nothing_goes_wrong_whatever_goes_wrong() {
    if let Some(seed) = number("SENDOFF_SEED") {
        let played = play(seed, None, true);
        eprintln!("{} events, trace {:016x}", played.trace.1, played.trace.0);
        return assert_eq!(played.wrong, None, "SENDOFF_SEED={seed} plays this again");
    }
    let first = number("SENDOFF_FIRST").unwrap_or(0);
    let seeds = first..first + number("SENDOFF_SEEDS").unwrap_or(10_000);
    let next = AtomicU64::new(seeds.start);
    let events = AtomicU64::new(0);
    let counts = Mutex::new(BTreeMap::<&str, u64>::new());
    let wrong = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || wrong.lock().unwrap().len() >= 10 {
                return;
            }
            let played = play(seed, None, false);
            if seed.is_multiple_of(TWICE) {
                let again = play(seed, None, false);
                assert_eq!(played.trace, again.trace, "SENDOFF_SEED={seed} is not played the same way twice");
            }
            events.fetch_add(played.trace.1, Ordering::Relaxed);
            for (what, count) in played.counts {
                *counts.lock().unwrap().entry(what).or_default() += count;
            }
            if let Some(what) = played.wrong {
                eprintln!("SENDOFF_SEED={seed}: {what}");
                wrong.lock().unwrap().push(seed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    println!("{seeds:?}: {events:?} events");
    for (what, count) in counts.lock().unwrap().iter() {
        println!("{count:>12} {what}");
    }
    assert_eq!(wrong.into_inner().unwrap(), [0_u64; 0], "SENDOFF_SEED=… plays one again");
}
