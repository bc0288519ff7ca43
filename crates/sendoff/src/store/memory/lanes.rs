//! Lanes by number, what waits in each, and the counts of their queues.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use super::sorted::Sorted;
use crate::{job::Lane, ports::Counts, state::State};

/// Lanes that have rows, and queues that have lanes. Neither outlives its last row: a destination
/// seen once must not be remembered for ever.
#[derive(Default)]
pub(super) struct Lanes {
    lanes: Slots<LaneRow>,
    by_lane: HashMap<Arc<Lane>, u32>,
    /// Lanes with pending rows.
    waiting: BTreeMap<Arc<Lane>, u32>,
    queues: Slots<QueueRow>,
    by_queue: BTreeMap<Arc<str>, u32>,
    /// The lane asked for last: jobs of one lane come in rows.
    last: Option<(Arc<Lane>, u32)>,
}

struct LaneRow {
    lane: Arc<Lane>,
    queue: u32,
    rows: u64,
    /// Pending rows by [`rank`] and number.
    pending: Sorted,
}

struct QueueRow {
    name: Arc<str>,
    lanes: u32,
    states: [u64; State::ALL.len()],
}

/// Orders the pending rows of a lane: higher priority first, then by time. Times take 58 bits.
pub(super) fn rank(priority: u8, next_at: u64) -> u64 {
    u64::from(9_u8.saturating_sub(priority)) << 58 | next_at
}

impl Lanes {
    /// The number of this lane, which gets one more row of this state.
    pub(super) fn add(&mut self, lane: &Arc<Lane>, state: State) -> u32 {
        let number = self.number_of(lane);
        let row = self.lanes.get_mut(number);
        row.rows += 1;
        self.queues.get_mut(row.queue).states[usize::from(state.code())] += 1;
        number
    }

    fn number_of(&mut self, lane: &Arc<Lane>) -> u32 {
        if let Some((last, number)) = &self.last
            && (Arc::ptr_eq(last, lane) || last == lane)
        {
            return *number;
        }
        let number = match self.by_lane.get(lane) {
            Some(number) => *number,
            None => {
                let queue = self.queue_of(lane);
                let row = LaneRow { lane: lane.clone(), queue, rows: 0, pending: Sorted::default() };
                let number = self.lanes.put(row);
                self.by_lane.insert(lane.clone(), number);
                number
            }
        };
        self.last = Some((lane.clone(), number));
        number
    }

    /// The number of this lane's queue, which gets one more lane.
    fn queue_of(&mut self, lane: &Lane) -> u32 {
        let number = match self.by_queue.get(&lane.queue) {
            Some(number) => *number,
            None => {
                let row = QueueRow { name: lane.queue.clone(), lanes: 0, states: [0; State::ALL.len()] };
                let number = self.queues.put(row);
                self.by_queue.insert(lane.queue.clone(), number);
                number
            }
        };
        self.queues.get_mut(number).lanes += 1;
        number
    }

    /// One row of this lane went from one state to another.
    pub(super) fn recount(&mut self, number: u32, from: State, to: State) {
        let states = &mut self.queues.get_mut(self.lanes.get(number).queue).states;
        states[usize::from(from.code())] -= 1;
        states[usize::from(to.code())] += 1;
    }

    /// One row of this state is gone.
    pub(super) fn remove(&mut self, number: u32, state: State) {
        let row = self.lanes.get_mut(number);
        row.rows -= 1;
        let (rows, queue) = (row.rows, row.queue);
        self.queues.get_mut(queue).states[usize::from(state.code())] -= 1;
        if rows > 0 {
            return;
        }
        self.last = None;
        let row = self.lanes.take(number);
        self.by_lane.remove(&row.lane);
        let queue_row = self.queues.get_mut(queue);
        queue_row.lanes -= 1;
        if queue_row.lanes == 0 {
            let row = self.queues.take(queue);
            self.by_queue.remove(&row.name);
        }
    }

    /// A row of this lane waits.
    pub(super) fn wait(&mut self, number: u32, rank: u64, id: u64) {
        let row = self.lanes.get_mut(number);
        if row.pending.is_empty() {
            self.waiting.insert(row.lane.clone(), number);
        }
        row.pending.insert((rank, id));
    }

    /// It does not wait any more.
    pub(super) fn unwait(&mut self, number: u32, rank: u64, id: u64) {
        let row = self.lanes.get_mut(number);
        row.pending.remove((rank, id));
        if row.pending.is_empty() {
            self.waiting.remove(&row.lane);
        }
    }

    pub(super) fn lane(&self, number: u32) -> &Arc<Lane> {
        &self.lanes.get(number).lane
    }

    /// Pending rows of this lane that wait for `now` or an earlier time, in their order.
    pub(super) fn ready(&self, lane: &Lane, now: u64) -> impl Iterator<Item = u64> + '_ {
        let pending = self.waiting.get(lane).map(|number| &self.lanes.get(*number).pending);
        pending
            .into_iter()
            .flat_map(move |pending| {
                (0..=9).rev().flat_map(move |priority| {
                    let last = rank(priority, now);
                    pending.from((rank(priority, 0), 0)).take_while(move |(rank, _)| *rank <= last)
                })
            })
            .map(|(_, id)| id)
    }

    /// Lanes with pending rows, ascending, after `after`.
    pub(super) fn waiting<'a>(&'a self, after: Option<&'a Arc<Lane>>) -> impl Iterator<Item = &'a Arc<Lane>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.waiting.range::<Arc<Lane>, _>((from, Bound::Unbounded)).map(|(lane, _)| lane)
    }

    pub(super) fn counts(&self) -> Counts {
        let queues = self.by_queue.iter().map(|(name, number)| {
            let states = State::ALL.into_iter().zip(self.queues.get(*number).states);
            (name.to_string(), states.filter(|(_, count)| *count > 0).collect())
        });
        Counts { queues: queues.collect(), quarantined: 0 }
    }
}

/// Values by small numbers, which are used again.
struct Slots<T> {
    values: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slots<T> {
    fn put(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.values[number as usize] = Some(value);
            return number;
        }
        self.values.push(Some(value));
        u32::try_from(self.values.len() - 1).expect("fewer lanes than memory holds")
    }

    fn get(&self, number: u32) -> &T {
        self.values[number as usize].as_ref().expect("a row's lane is there as long as the row")
    }

    fn get_mut(&mut self, number: u32) -> &mut T {
        self.values[number as usize].as_mut().expect("a row's lane is there as long as the row")
    }

    fn take(&mut self, number: u32) -> T {
        self.free.push(number);
        self.values[number as usize].take().expect("a row's lane is there as long as the row")
    }
}
