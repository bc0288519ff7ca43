//! Rows by guid and by idempotency key.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

/// An index of rows' numbers by a name that the rows themselves keep: 9 bytes a place, where a map
/// would repeat each name. Clients choose names, so the hash is keyed.
#[derive(Default)]
pub(super) struct Index {
    table: HashTable<u64>,
    hasher: RandomState,
}

impl Index {
    /// The row for which `is` holds, among those whose name has the same hash.
    pub(super) fn find(&self, name: &impl Hash, is: impl Fn(u64) -> bool) -> Option<u64> {
        self.table.find(self.hasher.hash_one(name), |id| is(*id)).copied()
    }

    /// Adds a row whose name is not there yet. `rehash` feeds the name of another row.
    pub(super) fn insert<T: Hash>(&mut self, name: &impl Hash, id: u64, name_of: impl Fn(u64) -> T) {
        let hasher = &self.hasher;
        self.table.insert_unique(hasher.hash_one(name), id, |id| hasher.hash_one(name_of(*id)));
    }

    /// Takes a row out.
    pub(super) fn remove<T: Hash>(&mut self, name: &impl Hash, id: u64, name_of: impl Fn(u64) -> T) {
        let Ok(entry) = self.table.find_entry(self.hasher.hash_one(name), |other| *other == id) else {
            return;
        };
        entry.remove();
        // What a burst left behind is given back.
        if self.table.capacity() > 1024 && self.table.len() < self.table.capacity() / 8 {
            let hasher = &self.hasher;
            self.table.shrink_to(self.table.len() * 2, |id| hasher.hash_one(name_of(*id)));
        }
    }
}
