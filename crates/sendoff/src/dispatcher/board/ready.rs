//! The first due jobs of a lane, in their order.

use std::collections::VecDeque;

use super::Rank;

/// Ranks ascending, none twice. Most come in their order and leave from the front, so nothing moves;
/// else at most half of them do, of a number that is bounded.
#[derive(Debug, Default)]
pub(super) struct Ready(VecDeque<Rank>);

impl Ready {
    pub(super) fn insert(&mut self, rank: Rank) {
        if self.0.back().is_none_or(|last| *last < rank) {
            self.0.push_back(rank);
        } else if let Err(place) = self.0.binary_search(&rank) {
            self.0.insert(place, rank);
        }
    }

    pub(super) fn remove(&mut self, rank: &Rank) {
        if self.0.front() == Some(rank) {
            self.0.pop_front();
        } else if let Ok(place) = self.0.binary_search(rank) {
            self.0.remove(place);
        }
    }

    pub(super) fn first(&self) -> Option<&Rank> {
        self.0.front()
    }

    pub(super) fn last(&self) -> Option<&Rank> {
        self.0.back()
    }

    pub(super) fn pop_last(&mut self) {
        self.0.pop_back();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BTreeSet};

    use super::*;
    use crate::{job::JobId, time::Timestamp};

    #[test]
    fn agrees_with_a_set_in_whatever_order_jobs_come_and_go() {
        let mut random = fastrand::Rng::with_seed(1);
        let (mut ready, mut set) = (Ready::default(), BTreeSet::new());
        for _ in 0..20_000 {
            let rank = (Reverse(random.u8(..3)), Timestamp::MIN, JobId(random.u64(..60)));
            match random.u8(..8) {
                0..=3 => {
                    ready.insert(rank);
                    set.insert(rank);
                }
                4..=5 => {
                    ready.remove(&rank);
                    set.remove(&rank);
                }
                6 => {
                    let first = ready.first().copied();
                    assert_eq!(first, set.pop_first());
                    first.iter().for_each(|first| ready.remove(first));
                }
                _ => {
                    assert_eq!(ready.last(), set.last());
                    ready.pop_last();
                    set.pop_last();
                }
            }
            assert!(ready.0.iter().eq(&set));
            assert_eq!(ready.len(), set.len());
        }
    }
}
