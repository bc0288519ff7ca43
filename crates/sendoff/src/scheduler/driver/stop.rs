//! Stopping: give back what has not begun, wait for what has, give up the rest.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{
    super::{DEFAULT_GRACE, command::ShutdownReport},
    Driver,
};
use crate::{
    dispatcher::{AttemptEnd, Backoff, Event},
    ports::{StartError, StartErrorClass},
};

/// After the grace period, how long to wait for the store to take the last outcomes.
const LAST_SETTLE: Duration = Duration::from_secs(5);

/// A shutdown under way.
pub(super) struct Stopping {
    pub(super) reply: oneshot::Sender<ShutdownReport>,
    pub(super) report: ShutdownReport,
    pub(super) grace_ends: Duration,
    pub(super) abandoned: bool,
}

impl Stopping {
    /// When to stop waiting for the store.
    pub(super) const fn last_settle(&self) -> Duration {
        self.grace_ends.saturating_add(LAST_SETTLE)
    }
}

impl Driver {
    /// Every handle is gone: nobody can submit, cancel or shut down any more.
    pub(super) fn handles_dropped(&mut self) {
        if self.stopping.is_none() {
            let (reply, _) = oneshot::channel();
            self.stop(DEFAULT_GRACE, reply);
        }
    }

    pub(super) fn stop(&mut self, grace: Duration, reply: oneshot::Sender<ShutdownReport>) {
        if self.stopping.is_some() {
            // The first one's grace period counts; this caller learns of the end by its dropped reply.
            return;
        }
        let grace_ends = self.now().elapsed.saturating_add(grace);
        self.stopping =
            Some(Stopping { reply, report: ShutdownReport::default(), grace_ends, abandoned: false });
        self.feed(Event::Stop);
        let mut ends = Vec::new();
        for (id, live) in self.live.iter().filter(|(_, live)| !live.ended) {
            // One that may not be dropped midway finds out when it wants to begin.
            if (live.clock.stop() || mutated!(StopReleasesBegun)) && live.abandonable {
                live.abort();
                ends.push(*id);
            }
        }
        if let Some(stopping) = &mut self.stopping {
            stopping.report.released = ends.len();
        }
        for id in ends {
            self.release(id, "sendoff is stopping");
        }
        crash_point!(DrainBegun);
    }

    /// After the grace period gives up the attempts that are still under way.
    pub(super) fn pursue_stop(&mut self) {
        let elapsed = self.shared.clock.elapsed();
        let Some(stopping) = &mut self.stopping else { return };
        if stopping.abandoned || elapsed < stopping.grace_ends {
            return;
        }
        stopping.abandoned = true;
        // Whoever has ended by now has ended by itself.
        let mut told = Vec::new();
        while let Ok(message) = self.messages.try_recv() {
            told.push(message);
        }
        self.take_messages(told.into_iter());
        let Some(stopping) = &mut self.stopping else { return };
        let mut ends = Vec::new();
        for (id, live) in self.live.iter_mut().filter(|(_, live)| !live.ended) {
            live.ended = true;
            live.abort_together();
            // What has not begun is known not to have started, also if it would not be dropped.
            let error = if live.clock.stop() || mutated!(AbandonedIsNotStarted) {
                stopping.report.released += 1;
                StartError::new(StartErrorClass::Released, "sendoff stopped")
            } else {
                stopping.report.abandoned += 1;
                StartError::ambiguous("sendoff stopped before the target had answered")
            };
            let begun = live.clock.read();
            ends.push(AttemptEnd { id: *id, begun, result: Err(error), backoff: Backoff::default() });
        }
        self.feed(Event::Ended(ends));
    }

    pub(super) fn is_done(&mut self) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        stopping.report.unsettled = self.live.len();
        if (self.dispatcher.is_drained() && self.answers.is_empty()) || mutated!(StopLeavesStarting) {
            return true;
        }
        stopping.abandoned && self.shared.clock.elapsed() >= stopping.last_settle()
    }
}
