//! What is different where other nodes work on the same jobs.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Action, Dispatcher, LaneKey, Now, Window};
use crate::{
    job::{Header, JobId},
    ports::Claimed,
    state::POISON_CRASHES,
};

/// How the work is shared.
#[derive(Debug, Clone)]
pub(crate) struct Sharing {
    /// How long to go at most without looking for jobs that other nodes stored.
    pub(crate) interval: Duration,
    /// The queues that this node serves; none: all.
    pub(crate) served: Option<BTreeSet<Arc<str>>>,
}

/// What is known of the other nodes.
#[derive(Debug)]
pub(super) struct Others {
    interval: Duration,
    /// When to look next for what they stored.
    next_look: Duration,
    /// The limits of queues are being read.
    reading: bool,
    /// There is something for them.
    hint: bool,
    /// Jobs that are due as they come in: if this node cannot take them, another may.
    fresh: Vec<JobId>,
    /// Claims of jobs whose attempt before is not settled yet as far as is known here: the store was
    /// quicker than its answer, or the attempt goes on although the job was taken from this node.
    deferred: BTreeMap<JobId, (LaneKey, Arc<Claimed>)>,
}

impl Others {
    pub(super) const fn next_look(&self) -> Duration {
        self.next_look
    }
}

impl Dispatcher {
    /// The same on a node among others.
    pub(crate) fn in_fleet(mut self, sharing: Sharing) -> Self {
        let Sharing { interval, served } = sharing;
        self.board.share(served);
        self.window = Window::shared(2 * interval);
        self.others = Some(Others {
            interval,
            next_look: Duration::ZERO,
            reading: false,
            hint: false,
            fresh: Vec::new(),
            deferred: BTreeMap::new(),
        });
        self
    }

    /// Whether this attempt is in flight here, or about to be.
    pub(crate) fn has(&self, id: JobId, fence: u32) -> bool {
        let deferred = self.others.as_ref().and_then(|others| others.deferred.get(&id));
        let in_flight = self.in_flight.get(&id).map(|attempt| &attempt.claimed);
        deferred
            .map(|(_, claimed)| claimed)
            .into_iter()
            .chain(in_flight)
            .any(|claimed| claimed.fence == fence)
    }

    /// Whether a job of this queue may be claimed as it is inserted: limits of the fleet are looked
    /// at by claims only.
    pub(super) fn may_admit(&self, queue: &str) -> bool {
        self.others.is_none() || (self.board.serves(queue) && !self.board.is_limited(queue))
    }

    pub(super) fn look_at_once(&mut self, now: Now) {
        if let Some(others) = &mut self.others {
            others.next_look = now.elapsed;
        }
    }

    /// Looks for what other nodes did, if it is time to.
    pub(super) fn look_for_others(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Some(others) = self.others.as_mut().filter(|others| others.next_look <= now.elapsed) else {
            return;
        };
        // Jitter, so that the nodes do not all look at once.
        let part = 0.75 + self.random.f64() / 4.0;
        others.next_look = now.elapsed + others.interval.mul_f64(part);
        if !std::mem::replace(&mut others.reading, true) {
            actions.push(Action::Queues);
        }
        self.window.look_again();
        self.note_deadline(Some(now.wall));
    }

    pub(super) fn queues_read(&mut self) {
        if let Some(others) = &mut self.others {
            others.reading = false;
        }
    }

    /// A job has become pending, or its time was changed: perhaps it is one for others.
    pub(super) fn offer(&mut self, now: Now, header: &Header) {
        let Some(others) = &mut self.others else { return };
        if header.next_at > now.wall.saturating_add(2 * others.interval) {
            // They look in time.
        } else if self.stopping || !self.board.knows(&header.lane) {
            others.hint = true;
        } else if header.next_at <= now.wall && !self.board.is_limited(&header.lane.queue) {
            others.fresh.push(header.id);
        }
    }

    /// Tells the others if something is left for them.
    pub(super) fn hint(&mut self, actions: &mut Vec<Action>) {
        let Some(others) = &mut self.others else { return };
        let fresh = std::mem::take(&mut others.fresh);
        let hint = std::mem::take(&mut others.hint);
        if hint || fresh.into_iter().any(|id| !self.is_taken(id)) {
            actions.push(Action::Hint);
        }
    }

    /// Puts a claim aside while another attempt of its job is known here; gives it back otherwise.
    pub(super) fn defer(
        &mut self,
        now: Now,
        lane: LaneKey,
        claimed: Arc<Claimed>,
    ) -> Option<(LaneKey, Arc<Claimed>)> {
        match &mut self.others {
            Some(others) if self.in_flight.contains_key(&claimed.id) && !mutated!(ClaimsNotDeferred) => {
                if let Some((lane, _)) = others.deferred.insert(claimed.id, (lane, claimed)) {
                    // That one was taken from this node before it began.
                    self.board.withdrawn(lane, false, now.elapsed);
                }
                None
            }
            _ => Some((lane, claimed)),
        }
    }

    pub(super) fn take_deferred(&mut self, id: JobId) -> Option<(LaneKey, Arc<Claimed>)> {
        self.others.as_mut()?.deferred.remove(&id)
    }

    /// Whether a job came as any other, and must start alone: nodes crashed over it since it was seen.
    pub(super) fn must_be_alone(&self, claimed: &Claimed) -> bool {
        let alone = self.alone_in_flight == Some(claimed.id);
        self.others.is_some() && claimed.crashes >= POISON_CRASHES && !alone
    }
}
