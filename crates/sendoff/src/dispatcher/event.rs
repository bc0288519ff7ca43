//! What the dispatcher is told, and what it says.

use std::{sync::Arc, time::Duration};

use super::outcome::Backoff;
use crate::{
    job::{Header, JobId, Lane, QueueLimits, Receipt},
    ports::{Claimed, Settled, Settlement, StartError, Wanted},
    state::Begun,
    time::Timestamp,
};

/// The two clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    /// Decides what is due.
    pub(crate) wall: Timestamp,
    /// Measures rates and pauses; never steps.
    pub(crate) elapsed: Duration,
}

/// What has happened.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Jobs were submitted and are pending. `deadline` is the earliest of theirs.
    Inserted { pending: Vec<Header>, deadline: Option<Timestamp> },
    /// Jobs were submitted and claimed in one, with permits from [`Dispatcher::admit`].
    InsertedClaimed(Vec<Arc<Claimed>>),
    /// Permits from [`Dispatcher::admit`] are not needed after all.
    Withdrawn(Vec<Arc<Lane>>),
    /// The answer to [`Action::Claim`]; in its order.
    Claimed { ids: Vec<JobId>, verdicts: Vec<Verdict> },
    /// [`Action::Claim`] failed and changed nothing.
    ClaimFailed(Vec<JobId>),
    /// Attempts have ended.
    Ended(Vec<AttemptEnd>),
    /// The answer to [`Action::Settle`]; in its order.
    Settled { settlements: Vec<Settlement>, verdicts: Vec<Settled> },
    /// [`Action::Settle`] failed.
    SettleFailed(Vec<Settlement>),
    /// A job's time was changed by a caller, or it is pending again.
    Rescheduled { header: Header, deadline: Option<Timestamp> },
    /// The answer to [`Action::Due`]; none if it failed.
    Due(Option<Vec<Header>>),
    /// The answer to [`Action::Lanes`]; none if it failed.
    Lanes(Option<Vec<Arc<Lane>>>),
    /// The answer to [`Action::Ready`]; none if it failed.
    Ready { lane: Arc<Lane>, limit: usize, headers: Option<Vec<Header>> },
    /// The answer to [`Action::Expire`]: the next deadline; `Err` if it failed.
    Expired(Result<Option<Timestamp>, ()>),
    /// Started things of this starter have ended.
    RunEnded(Arc<str>),
    /// Another node has a hint, or a connection is back: there may be something to look for.
    Woken { reconnected: bool },
    /// The answer to [`Action::Queues`], after the changes that it brought; whether there was one.
    QueuesRead(bool),
    /// A queue's limits were changed.
    QueueLimits(Arc<str>, QueueLimits),
    /// How many starts may be in flight at once was changed.
    MaxInFlight(usize),
    /// Time has passed.
    Tick,
    /// Start nothing any more.
    Stop,
}

/// What became of a job to be claimed.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    /// This one is claimed; in a fleet it may be another one of the same lane.
    Claimed(Arc<Claimed>),
    /// It was cancelled, expired, rescheduled or taken by another node meanwhile.
    Lost,
    /// It is pending still: its queue's limits in the fleet are used up for so long.
    Held(Duration),
}

/// The end of an attempt, as the driver saw it.
#[derive(Debug, Clone)]
pub(crate) struct AttemptEnd {
    pub(crate) id: JobId,
    /// When it began, and that instant plus what elapsed since; none if it did not begin.
    pub(crate) begun: Option<(Begun, Timestamp)>,
    pub(crate) result: Result<Receipt, StartError>,
    pub(crate) backoff: Backoff,
}

/// What to do; each is answered by an event.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Claim(Vec<Wanted>),
    Start(Arc<Claimed>),
    Settle(Vec<Settlement>),
    Due {
        after: (Timestamp, JobId),
        until: Timestamp,
        limit: usize,
    },
    Lanes {
        after: Option<Arc<Lane>>,
        limit: usize,
    },
    Ready {
        lane: Arc<Lane>,
        until: Timestamp,
        limit: usize,
    },
    Expire {
        limit: usize,
    },
    /// Read the limits of queues again: another node may have changed some.
    Queues,
    /// Tell the other nodes that there is something for them; not answered.
    Hint,
}
