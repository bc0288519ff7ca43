//! How many connections there may be at once. When all seats are taken, whoever has been idle longest
//! makes room; those with a request under way are never asked to, but do not begin another one while
//! somebody waits.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;

/// The seats of some listeners.
pub(super) struct Crowd {
    seats: usize,
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Default)]
struct Inner {
    taken: usize,
    /// Somebody waits for a seat.
    wanted: bool,
    next: u64,
    /// Who waits for a request, in the order in which the waiting began.
    idle: BTreeMap<u64, Arc<Notify>>,
}

/// A connection's place, free again when it is dropped.
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    leave: Arc<Notify>,
    /// Its key among the idle; 0 while a request is under way.
    idle: AtomicU64,
    /// It has had a request.
    served: AtomicBool,
}

/// A request under way, until this is dropped.
pub(super) struct Busy(Arc<Seat>);

impl Crowd {
    pub(super) fn new(seats: usize) -> Arc<Self> {
        Arc::new(Self { seats, inner: Mutex::default(), changed: Notify::new() })
    }

    /// Waits for a seat; asks one that is idle to leave if there is none. Calls `crowded` while all are
    /// busy.
    pub(super) async fn seat(self: &Arc<Self>, crowded: impl Fn()) -> Arc<Seat> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(seat) = self.try_seat() {
                return seat;
            }
            crowded();
            changed.await;
        }
    }

    fn try_seat(self: &Arc<Self>) -> Option<Arc<Seat>> {
        let mut inner = self.lock();
        if inner.taken < self.seats {
            inner.taken += 1;
        } else {
            // The seat changes hands: the one that leaves does not give it back.
            let Some((_, leave)) = inner.idle.pop_first() else {
                inner.wanted = true;
                return None;
            };
            leave.notify_one();
        }
        inner.wanted = false;
        let leave = Arc::new(Notify::new());
        let key = inner.sit(&leave);
        Some(Arc::new(Seat {
            crowd: self.clone(),
            leave,
            idle: AtomicU64::new(key),
            served: AtomicBool::new(false),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn sit(&mut self, leave: &Arc<Notify>) -> u64 {
        self.next += 1;
        self.idle.insert(self.next, leave.clone());
        self.next
    }
}

impl Seat {
    /// Waits until it has to make room.
    pub(super) async fn left(&self) {
        self.leave.notified().await;
    }

    /// A request begins; none if its seat has gone to somebody else.
    pub(super) fn busy(self: &Arc<Self>) -> Option<Busy> {
        let mut inner = self.crowd.lock();
        inner.idle.remove(&self.idle.load(Ordering::Relaxed))?;
        self.idle.store(0, Ordering::Relaxed);
        if self.served.swap(true, Ordering::Relaxed) && inner.wanted {
            // It has had its turn: whoever asks without a pause would never be found idle.
            inner.wanted = false;
            inner.taken -= 1;
            self.leave.notify_one();
            self.crowd.changed.notify_waiters();
            return None;
        }
        Some(Busy(self.clone()))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let key = self.0.crowd.lock().sit(&self.0.leave);
        self.0.idle.store(key, Ordering::Relaxed);
        self.0.crowd.changed.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.crowd.lock();
        // Who was asked to leave holds no seat any more.
        if inner.idle.remove(&self.idle.load(Ordering::Relaxed)).is_some() {
            inner.taken -= 1;
            self.crowd.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_longest_idle_makes_room_and_the_busy_stay() {
        let crowd = Crowd::new(2);
        let first = crowd.seat(|| {}).now_or_never().unwrap();
        let second = crowd.seat(|| {}).now_or_never().unwrap();
        let request = first.busy().unwrap();
        let third = crowd.seat(|| {}).now_or_never().unwrap();
        assert!(second.left().now_or_never().is_some() && second.busy().is_none());
        let more = third.busy().unwrap();
        assert!(crowd.seat(|| {}).now_or_never().is_none(), "nobody is idle");
        drop(request);
        let fourth = crowd.seat(|| {}).now_or_never().unwrap();
        assert!(first.left().now_or_never().is_some());
        drop((second, first));
        assert_eq!(crowd.lock().taken, 2);
        drop((more, third, fourth));
        let inner = crowd.lock();
        assert_eq!((inner.taken, inner.idle.len()), (0, 0));
    }

    #[test]
    fn whoever_asks_without_a_pause_gives_way() {
        let crowd = Crowd::new(1);
        let first = crowd.seat(|| {}).now_or_never().unwrap();
        let request = first.busy().unwrap();
        let asked = std::cell::Cell::new(0);
        let mut waiting = Box::pin(crowd.seat(|| asked.set(asked.get() + 1)));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(asked.get(), 1, "waits are ended meanwhile");
        drop(request);
        assert!(first.busy().is_none() && first.left().now_or_never().is_some());
        let second = waiting.now_or_never().unwrap();
        drop(first);
        drop(second.busy().unwrap());
        drop(second.busy().expect("nobody waits any more"));
        assert_eq!(crowd.lock().taken, 1);
    }
}
