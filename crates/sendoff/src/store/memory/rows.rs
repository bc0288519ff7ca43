//! Rows by number: dense while they are young, packed once most of their neighbours are gone.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    guid::Guid,
    job::{Delivery, Grant},
    state::{Facts, Life},
    time::Timestamp,
};

/// A job as this store keeps it: 128 bytes beside its request.
pub(super) struct Row {
    pub(super) guid: Guid,
    pub(super) request: Arc<str>,
    pub(super) life: Life,
    pub(super) queued_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    /// Apart, since most jobs have none.
    pub(super) names: Option<Box<Names>>,
    pub(super) lane: u32,
    pub(super) max_attempts: u32,
    pub(super) priority: u8,
    pub(super) delivery: Delivery,
    pub(super) own_guid: bool,
}

/// What only some jobs have.
pub(super) struct Names {
    pub(super) idempotency_key: Option<Box<str>>,
    pub(super) submitted_by: Option<Arc<str>>,
    pub(super) grant: Option<Arc<Grant>>,
}

impl Row {
    pub(super) fn facts(&self) -> Facts {
        Facts {
            delivery: self.delivery,
            max_attempts: self.max_attempts,
            queued_at: self.queued_at,
            expires_at: self.expires_at,
        }
    }

    pub(super) fn idempotency_key(&self) -> Option<&str> {
        self.names.as_ref()?.idempotency_key.as_deref()
    }

    pub(super) fn submitted_by(&self) -> Option<&Arc<str>> {
        self.names.as_ref()?.submitted_by.as_ref()
    }

    pub(super) fn grant(&self) -> Option<&Arc<Grant>> {
        self.names.as_ref()?.grant.as_ref()
    }
}

/// Rows of one chunk: a power of two.
const CHUNK: u64 = 1024;

/// All rows. Numbers ascend and are never used twice, so a chunk whose rows are all gone is gone
/// for good, and one that holds a few survivors among the long gone is packed: memory follows the
/// rows that there are, not those that there were.
pub(super) struct Rows {
    /// With their numbers, ascending.
    chunks: VecDeque<(u64, Chunk)>,
    next: u64,
}

enum Chunk {
    /// By place.
    Dense { rows: Vec<Option<Row>>, live: usize },
    /// Sorted by place.
    Sparse(Vec<(u64, Row)>),
}

impl Default for Rows {
    fn default() -> Self {
        // From 1, so that there is a number before each.
        Self { chunks: VecDeque::new(), next: 1 }
    }
}

impl Rows {
    /// The number that the next row gets.
    pub(super) fn next_id(&self) -> u64 {
        self.next
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: Row) -> u64 {
        let id = self.next;
        self.next += 1;
        let place = id % CHUNK;
        if self.chunks.back().is_none_or(|(number, _)| *number < id / CHUNK) {
            // Room for a whole chunk, once there was one: growing step by step would move each row twice.
            let room = if self.chunks.is_empty() { 0 } else { index(CHUNK) };
            let rows = Vec::with_capacity(room);
            self.chunks.push_back((id / CHUNK, Chunk::Dense { rows, live: 0 }));
        }
        let Some((_, chunk)) = self.chunks.back_mut() else { return id };
        match chunk {
            Chunk::Dense { rows, live } => {
                rows.resize_with(index(place), || None);
                rows.push(Some(row));
                *live += 1;
            }
            Chunk::Sparse(rows) => rows.push((place, row)),
        }
        id
    }

    pub(super) fn get(&self, id: u64) -> Option<&Row> {
        match &self.chunks[self.chunk_of(id)?].1 {
            Chunk::Dense { rows, .. } => rows.get(index(id % CHUNK))?.as_ref(),
            Chunk::Sparse(rows) => {
                let place = rows.binary_search_by_key(&(id % CHUNK), |row| row.0).ok()?;
                Some(&rows[place].1)
            }
        }
    }

    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Row> {
        let at = self.chunk_of(id)?;
        match &mut self.chunks[at].1 {
            Chunk::Dense { rows, .. } => rows.get_mut(index(id % CHUNK))?.as_mut(),
            Chunk::Sparse(rows) => {
                let place = rows.binary_search_by_key(&(id % CHUNK), |row| row.0).ok()?;
                Some(&mut rows[place].1)
            }
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Row> {
        let at = self.chunk_of(id)?;
        let chunk = &mut self.chunks[at].1;
        let (row, left) = match chunk {
            Chunk::Dense { rows, live } => {
                let row = rows.get_mut(index(id % CHUNK))?.take()?;
                *live -= 1;
                (row, *live)
            }
            Chunk::Sparse(rows) => {
                let place = rows.binary_search_by_key(&(id % CHUNK), |row| row.0).ok()?;
                let (_, row) = rows.remove(place);
                if rows.capacity() > 4 * rows.len() {
                    rows.shrink_to(2 * rows.len());
                }
                (row, rows.len())
            }
        };
        if left == 0 {
            self.chunks.remove(at);
        } else {
            chunk.pack();
        }
        Some(row)
    }

    /// The rows numbered higher than `after`, in the order of insertion.
    pub(super) fn after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Row)> {
        let first = after.map_or(0, |id| id + 1);
        let at = self.chunks.partition_point(|(number, _)| *number < first / CHUNK);
        self.chunks
            .range(at..)
            .flat_map(|(number, chunk)| {
                let rows: Box<dyn Iterator<Item = (u64, &Row)>> = match chunk {
                    Chunk::Dense { rows, .. } => {
                        Box::new((0..).zip(rows).filter_map(|(place, row)| Some((place, row.as_ref()?))))
                    }
                    Chunk::Sparse(rows) => Box::new(rows.iter().map(|(place, row)| (*place, row))),
                };
                rows.map(move |(place, row)| (number * CHUNK + place, row))
            })
            .skip_while(move |(id, _)| *id < first)
    }

    /// The rows numbered lower than `before`, the last inserted first.
    pub(super) fn before(&self, before: Option<u64>) -> impl Iterator<Item = (u64, &Row)> {
        let end = before.unwrap_or(self.next);
        let chunks = self.chunks.partition_point(|(number, _)| *number <= end / CHUNK);
        self.chunks
            .range(..chunks)
            .rev()
            .flat_map(|(number, chunk)| {
                let rows: Box<dyn Iterator<Item = (u64, &Row)>> = match chunk {
                    Chunk::Dense { rows, .. } => Box::new(
                        rows.iter()
                            .enumerate()
                            .rev()
                            .filter_map(|(place, row)| Some((place as u64, row.as_ref()?))),
                    ),
                    Chunk::Sparse(rows) => Box::new(rows.iter().rev().map(|(place, row)| (*place, row))),
                };
                rows.map(move |(place, row)| (number * CHUNK + place, row))
            })
            .skip_while(move |(id, _)| *id >= end)
    }

    /// The place of the chunk that this row is in, if it is there.
    fn chunk_of(&self, id: u64) -> Option<usize> {
        let number = id / CHUNK;
        // As long as no chunk is gone it is as far from the first as its number.
        let far = number.checked_sub(self.chunks.front()?.0)?;
        match usize::try_from(far) {
            Ok(at) if self.chunks.get(at).is_some_and(|chunk| chunk.0 == number) => Some(at),
            _ => self.chunks.binary_search_by_key(&number, |chunk| chunk.0).ok(),
        }
    }
}

impl Chunk {
    /// Packs a chunk that gets no more rows once three quarters of it are gone.
    fn pack(&mut self) {
        if let Self::Dense { rows, live } = self
            && rows.len() == index(CHUNK)
            && *live <= index(CHUNK / 4)
        {
            let mut packed = Vec::with_capacity(*live);
            packed.extend((0..).zip(rows.drain(..)).filter_map(|(place, row)| Some((place, row?))));
            *self = Self::Sparse(packed);
        }
    }
}

/// A place within a chunk as an index.
fn index(place: u64) -> usize {
    usize::try_from(place).expect("a place is less than the chunk's length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(n: u64) -> Row {
        Row {
            guid: Guid::from_bytes(u128::from(n).to_be_bytes()),
            request: "{}".into(),
            life: Life::new(Timestamp::MIN),
            queued_at: Timestamp::MIN,
            expires_at: None,
            names: None,
            lane: 0,
            max_attempts: 1,
            priority: 0,
            delivery: Delivery::AtLeastOnce,
            own_guid: true,
        }
    }

    #[test]
    fn a_row_takes_128_bytes() {
        assert_eq!(size_of::<Option<Row>>(), 128);
    }

    #[test]
    fn rows_are_found_and_listed_while_their_neighbours_go() {
        let mut rows = Rows::default();
        let mut there: Vec<u64> = (1..=3_000).map(|n| rows.push(row(n))).collect();
        assert_eq!(there, (1..=3_000).collect::<Vec<_>>());
        let mut random = fastrand::Rng::with_seed(2);
        while there.len() > 10 {
            for _ in 0..there.len() / 3 {
                let gone = there.remove(random.usize(..there.len()));
                assert_eq!(rows.remove(gone).unwrap().guid, row(gone).guid);
                assert!(rows.remove(gone).is_none() && rows.get(gone).is_none());
            }
            assert!(rows.after(None).map(|(id, _)| id).eq(there.iter().copied()));
            assert!(rows.before(None).map(|(id, _)| id).eq(there.iter().rev().copied()));
            for (nth, id) in there.iter().enumerate() {
                assert_eq!(rows.get_mut(*id).unwrap().guid, row(*id).guid);
                assert!(rows.after(Some(*id)).map(|(id, _)| id).eq(there[nth + 1..].iter().copied()));
                assert!(rows.before(Some(*id)).map(|(id, _)| id).eq(there[..nth].iter().rev().copied()));
            }
            let new = rows.push(row(rows.next_id()));
            assert!(there.iter().all(|id| *id < new));
            there.push(new);
        }
    }

    #[test]
    fn memory_follows_the_rows_that_there_are() {
        let mut rows = Rows::default();
        let survivor = rows.push(row(0));
        for n in 1..20 * CHUNK {
            let id = rows.push(row(n));
            rows.remove(id);
        }
        assert!(rows.get(survivor).is_some());
        assert_eq!(rows.chunks.len(), 1);
        assert!(matches!(&rows.chunks[0].1, Chunk::Sparse(rows) if rows.capacity() <= 4));
    }
}
