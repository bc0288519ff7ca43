//! What the daemon promises, judged from outside: by an endpoint that counts its requests and by a
//! file to which processes write. Short here; the long runs are
//!
//! `SENDOFF_KILLS=200 SENDOFF_JOBS=10000 cargo test --release -p sendoff-cli --test it proof::kill -- --nocapture`
//! `SENDOFF_RACES=100000 cargo test --release -p sendoff-cli --test it proof::race -- --nocapture`
//! `SENDOFF_MINUTES=30 cargo test --release -p sendoff-cli --test it proof::fleet -- --nocapture`
//! `SENDOFF_JOBS=1000000 cargo test --release -p sendoff-cli --test it proof::fleet -- --nocapture`
//! `SENDOFF_FAILOVERS=20 cargo test --release -p sendoff-cli --test it proof::failover -- --nocapture`
//! `SENDOFF_CELLS=all cargo test -p sendoff-cli --test it proof::crash_points -- --nocapture`
//! `SENDOFF_CUTS=10 cargo test --release -p sendoff-cli --test it proof::partition -- --nocapture`
//! `SENDOFF_MINUTES=60 cargo test --release -p sendoff-cli --test it proof::soak -- --nocapture`
//!
//! and those in [`sick`].
//!
//! Only the long ones stop or cut off a node past its lease (20 s) and past being declared dead (45 s).

mod caller;
mod crash_points;
mod failover;
mod fleet;
mod jobs;
mod judge;
mod kill;
mod load;
mod nodes;
mod partition;
mod race;
mod records;
mod rolling;
mod sick;
mod soak;
mod witness;

use std::time::Duration;

use uuid::Uuid;

/// A figure that the environment may raise.
pub(crate) fn figure(name: &str, short: usize) -> usize {
    std::env::var(name)
        .map_or(short, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is no number")))
}

/// A seed that is printed, so that a run's random choices can be made again: `SENDOFF_SEED`.
fn seed() -> u64 {
    let seed = std::env::var("SENDOFF_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 2_654_435_761 % 1_000_000_007);
    println!("SENDOFF_SEED={seed}");
    seed
}

/// Asks again and again until it is so; fails after more than two minutes.
#[track_caller]
fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited for {what} in vain");
}

/// Marsaglia's xorshift64: enough chance for moments and choices.
struct Chance(u64);

impl Chance {
    /// The chance of one of many choices, independent of the others.
    fn nth(seed: u64, number: usize) -> Self {
        // SplitMix64 of both.
        let mut mixed = seed.wrapping_add((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A guid of version 4.
    fn guid(&mut self) -> Uuid {
        let (high, low) = (self.below(u64::MAX), self.below(u64::MAX));
        let bytes = (u128::from(high) << 64) | u128::from(low);
        uuid::Builder::from_random_bytes(bytes.to_be_bytes()).into_uuid()
    }
}
