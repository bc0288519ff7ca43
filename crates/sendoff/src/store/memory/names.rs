//! Rows by guid and by idempotency key.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

/// An index of rows' numbers by a name that the rows themselves keep: 13 bytes a place, where a map
/// would repeat each name. Clients choose names, so the hash is keyed.
#[derive(Default)]
pub(super) struct Index {
    table: HashTable<Place>,
    hasher: RandomState,
}

/// Half of a name's hash, so that the table grows without looking at any row, and the row's number
/// in two parts, so that the whole takes 12 bytes.
struct Place {
    hash: u32,
    id: [u32; 2],
}

impl Place {
    fn id(&self) -> u64 {
        u64::from(self.id[0]) << 32 | u64::from(self.id[1])
    }

    /// What the table sees: it takes its buckets from the lower bits and its tags from the highest.
    fn spread(&self) -> u64 {
        spread(self.hash)
    }
}

fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Index {
    fn hash(&self, name: &impl Hash) -> u32 {
        (self.hasher.hash_one(name) >> 32) as u32
    }

    /// The row for which `is` holds, among those whose name has the same hash.
    pub(super) fn find(&self, name: &impl Hash, is: impl Fn(u64) -> bool) -> Option<u64> {
        let hash = self.hash(name);
        let same = |place: &Place| place.hash == hash && is(place.id());
        self.table.find(spread(hash), same).map(Place::id)
    }

    /// Adds a row whose name is not there yet.
    pub(super) fn insert(&mut self, name: &impl Hash, id: u64) {
        let hash = self.hash(name);
        let place = Place { hash, id: [(id >> 32) as u32, id as u32] };
        self.table.insert_unique(spread(hash), place, Place::spread);
    }

    /// Takes a row out.
    pub(super) fn remove(&mut self, name: &impl Hash, id: u64) {
        let hash = spread(self.hash(name));
        let Ok(entry) = self.table.find_entry(hash, |place| place.id() == id) else { return };
        entry.remove();
        // What a burst left behind is given back.
        if self.table.capacity() > 1024 && self.table.len() < self.table.capacity() / 8 {
            self.table.shrink_to(self.table.len() * 2, Place::spread);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_there_while_it_grows_and_shrinks() {
        assert_eq!(size_of::<Place>(), 12);
        let mut index = Index::default();
        let number = |n: u64| n << 30 | n;
        for n in 0..20_000_u64 {
            assert_eq!(index.find(&n, |id| id == number(n)), None);
            index.insert(&n, number(n));
        }
        for n in 0..19_990_u64 {
            assert_eq!(index.find(&n, |id| id == number(n)), Some(number(n)));
            index.remove(&n, number(n));
            assert_eq!(index.find(&n, |id| id == number(n)), None);
        }
        for n in 19_990..20_000_u64 {
            assert_eq!(index.find(&n, |id| id == number(n)), Some(number(n)));
        }
        assert!(index.table.capacity() < 1_000, "{}", index.table.capacity());
    }
}
