//! Maps by a row's number.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::JobId;

/// A map by a row's number. Stores count rows up, and no client chooses a number: so the hash needs no
/// key, and leaves neighbours together.
pub(crate) type ById<T> = HashMap<JobId, T, BuildHasherDefault<IdHasher>>;

/// Takes the number as it is for the place, and its digits mixed for the 7 highest bits, which tell
/// apart what stands in neighbouring places.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 << 8 | u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        const HIGHEST: u64 = 0x7f << 57;
        self.0 = id ^ (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) & HIGHEST);
    }
}
