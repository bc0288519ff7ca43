//! Those who wait for a job to end.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::oneshot;

use crate::guid::Guid;

type ByJob = HashMap<Guid, Vec<(u64, oneshot::Sender<()>)>>;

/// Wakes those who wait for a job when it becomes final. Nobody is woken twice, and a waiter that
/// goes away leaves nothing behind.
#[derive(Debug, Default)]
pub(super) struct Waiters {
    by_job: Mutex<ByJob>,
    /// How many jobs are waited for: read without the lock, since mostly there are none.
    jobs: AtomicUsize,
    next: AtomicUsize,
}

/// One who waits; dropping it ends the waiting.
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    guid: Guid,
    number: u64,
    pub(super) woken: oneshot::Receiver<()>,
}

impl Waiters {
    /// Waits for `guid` from now on: read the record after this call, not before it.
    pub(super) fn register(&self, guid: Guid) -> Waiter<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) as u64;
        let (sender, woken) = oneshot::channel();
        let mut by_job = self.lock();
        by_job.entry(guid).or_default().push((number, sender));
        self.jobs.store(by_job.len(), Ordering::SeqCst);
        Waiter { waiters: self, guid, number, woken }
    }

    /// The job is final, or its record is gone.
    pub(super) fn wake(&self, guid: Guid) {
        if self.jobs.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut by_job = self.lock();
        let senders = by_job.remove(&guid);
        self.jobs.store(by_job.len(), Ordering::SeqCst);
        drop(by_job);
        for (_, sender) in senders.into_iter().flatten() {
            // The waiter may be gone.
            let _ = sender.send(());
        }
    }

    /// Nobody will be woken any more.
    pub(super) fn close(&self) {
        self.lock().clear();
        self.jobs.store(0, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, ByJob> {
        self.by_job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut by_job = self.waiters.lock();
        if let Some(senders) = by_job.get_mut(&self.guid) {
            senders.retain(|(number, _)| *number != self.number);
            if senders.is_empty() {
                by_job.remove(&self.guid);
            }
        }
        self.waiters.jobs.store(by_job.len(), Ordering::SeqCst);
    }
}
