//! An ordered set of (key, id) pairs that takes 16 bytes an entry when filled in order.

use std::collections::VecDeque;

/// A key and a row's number; ordered by both.
pub(super) type Entry = (u64, u64);

/// Entries of one block. A block costs one move of at most half its length per insertion in its
/// middle, and a queue of a million entries has about four thousand blocks to search.
const BLOCK: usize = 256;

/// Two levels instead of a tree: a sorted list of sorted blocks, none of them empty.
///
/// Appending in order fills each block to the last place and taking from the front moves nothing,
/// which is what a queue does nearly always; a `BTreeSet` leaves its nodes half empty then.
#[derive(Default)]
pub(super) struct Sorted {
    blocks: VecDeque<Block>,
}

struct Block {
    /// Greater than all of the blocks before, not greater than any of this one: kept apart from
    /// the entries, so that a search for the block touches no other.
    from: Entry,
    entries: VecDeque<Entry>,
}

impl Block {
    fn of(entry: Entry) -> Self {
        Self { from: entry, entries: VecDeque::from([entry]) }
    }
}

impl Sorted {
    /// Adds an entry that is not there yet.
    pub(super) fn insert(&mut self, entry: Entry) {
        match self.blocks.back_mut() {
            Some(last) if last.entries.back().is_some_and(|greatest| *greatest < entry) => {
                if last.entries.len() < BLOCK {
                    last.entries.push_back(entry);
                } else {
                    self.blocks.push_back(Block::of(entry));
                }
            }
            None => self.blocks.push_back(Block::of(entry)),
            Some(_) => self.insert_within(entry),
        }
    }

    fn insert_within(&mut self, entry: Entry) {
        let at = self.block_of(entry);
        let Block { from, entries } = &mut self.blocks[at];
        let Err(place) = entries.binary_search(&entry) else { return };
        *from = entry.min(*from);
        if entries.len() < BLOCK {
            entries.insert(place, entry);
            return;
        }
        let mut upper = entries.split_off(BLOCK / 2);
        let from = upper[0];
        if place <= BLOCK / 2 {
            entries.insert(place, entry);
        } else {
            upper.insert(place - BLOCK / 2, entry);
        }
        self.blocks.insert(at + 1, Block { from, entries: upper });
    }

    /// Takes an entry out, if it is there.
    pub(super) fn remove(&mut self, entry: Entry) {
        let at = self.block_of(entry);
        let Some(Block { entries, .. }) = self.blocks.get_mut(at) else { return };
        if entries.front() == Some(&entry) {
            entries.pop_front();
        } else if let Ok(place) = entries.binary_search(&entry) {
            entries.remove(place);
        }
        if entries.is_empty() {
            self.blocks.remove(at);
        } else if entries.capacity() > 4 * entries.len() {
            entries.shrink_to(2 * entries.len());
        }
    }

    /// The least entry.
    pub(super) fn first(&self) -> Option<Entry> {
        self.blocks.front()?.entries.front().copied()
    }

    /// Whether there is no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The entries not less than `entry`, ascending.
    pub(super) fn from(&self, entry: Entry) -> impl Iterator<Item = Entry> + '_ {
        let mut blocks = self.blocks.range(self.block_of(entry).min(self.blocks.len())..);
        let first = blocks.next().into_iter().flat_map(move |block| {
            let skip = block.entries.partition_point(|other| *other < entry);
            block.entries.range(skip..)
        });
        first.chain(blocks.flat_map(|block| &block.entries)).copied()
    }

    /// The place of the only block that can hold `entry`.
    fn block_of(&self, entry: Entry) -> usize {
        // Rows mostly leave in order: look at the front before searching.
        if self.blocks.get(1).is_none_or(|second| entry < second.from) {
            return 0;
        }
        self.blocks.partition_point(|block| block.from <= entry).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn agrees_with_a_tree_whatever_the_order_of_insertion_and_removal() {
        let mut random = fastrand::Rng::with_seed(1);
        for spread in [3, 1_000, 1 << 40] {
            let (mut sorted, mut tree) = (Sorted::default(), BTreeSet::new());
            for round in 0..20_000_u64 {
                let entry = (random.u64(..spread), random.u64(..4_000));
                // First it grows, then it shrinks to nearly nothing.
                if random.u64(..20_000) > round {
                    if tree.insert(entry) {
                        sorted.insert(entry);
                    }
                } else {
                    let some = tree.range(entry..).next().or(tree.first()).copied().unwrap_or(entry);
                    assert_eq!(tree.remove(&some), sorted.from(some).next() == Some(some));
                    sorted.remove(some);
                }
                assert_eq!(sorted.first(), tree.first().copied());
                if round % 500 == 0 {
                    assert!(sorted.from((0, 0)).eq(tree.iter().copied()));
                    assert!(sorted.from(entry).eq(tree.range(entry..).copied()));
                }
            }
        }
    }

    #[test]
    fn filled_in_order_it_wastes_nothing_and_emptied_it_holds_nothing() {
        let mut sorted = Sorted::default();
        for n in 0..100_000 {
            sorted.insert((n, n));
        }
        let room: usize = sorted.blocks.iter().map(|block| block.entries.capacity()).sum();
        assert!(room < 101_000, "{room}");
        for n in 0..100_000 {
            sorted.remove((n, n));
        }
        assert!(sorted.is_empty() && sorted.blocks.is_empty());
    }
}
