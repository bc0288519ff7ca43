//! One call of a method that writes: what it asks, and where its answer goes.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::failure::commit_unknown;
use crate::{
    crash::{Deed, Deeds},
    error::{Error, Result},
    guid::Guid,
    job::{JobId, QueueLimits},
    ports::{
        CancelVerdict, Changed, Claim, ClaimVerdict, Claimed, Expired, InsertBatch, Inserted, Prune, Settled,
        Settlement, Wanted,
    },
    state::Resolution,
    time::Timestamp,
};

pub(super) struct Call<I, O> {
    pub(super) input: I,
    /// An error within refuses this call alone.
    pub(super) output: Option<Result<O>>,
    reply: oneshot::Sender<Result<O>>,
}

pub(super) type Insert = Call<InsertBatch, Vec<Inserted>>;
pub(super) type ClaimById = Call<(Vec<JobId>, Claim), Vec<Option<Claimed>>>;
pub(super) type ClaimWithin = Call<(Vec<Wanted>, Claim), Vec<ClaimVerdict>>;
pub(super) type Settle = Call<(Vec<Settlement>, Timestamp), Vec<Settled>>;
pub(super) type Cancel = Call<(Vec<Guid>, Timestamp), Vec<CancelVerdict>>;

pub(super) enum Work {
    Insert(Insert),
    Claim(ClaimById),
    ClaimWithin(ClaimWithin),
    Settle(Settle),
    Cancel(Cancel),
    Reschedule(Call<(Guid, Timestamp), Option<Changed>>),
    Resolve(Call<(Guid, Resolution, Timestamp), Option<Changed>>),
    Reclaim(Call<(usize, Timestamp), usize>),
    /// Rows that a reader could not decode.
    Quarantine(Call<Vec<JobId>, ()>),
    Expire(Call<(usize, Timestamp), Expired>),
    Prune(Call<Prune, usize>),
    SetQueue(Call<(Arc<str>, Option<QueueLimits>), ()>),
}

impl<I, O> Call<I, O> {
    pub(super) fn new(input: I) -> (Self, oneshot::Receiver<Result<O>>) {
        let (reply, answer) = oneshot::channel();
        (Self { input, output: None, reply }, answer)
    }

    pub(super) fn set(&mut self, output: O) {
        self.output = Some(Ok(output));
    }

    fn answer(self, failed: Option<Error>) {
        // Nobody may be waiting any more; the effect stands all the same.
        let _ = self.reply.send(match (failed, self.output) {
            (Some(err), _) => Err(err),
            (None, Some(output)) => output,
            (None, None) => Err(commit_unknown()),
        });
    }
}

/// Does the same with the call, whatever its kind.
macro_rules! each {
    ($work:expr, $call:ident => $do:expr) => {
        match $work {
            Work::Insert($call) => $do,
            Work::Claim($call) => $do,
            Work::ClaimWithin($call) => $do,
            Work::Settle($call) => $do,
            Work::Cancel($call) => $do,
            Work::Reschedule($call) => $do,
            Work::Resolve($call) => $do,
            Work::Reclaim($call) => $do,
            Work::Quarantine($call) => $do,
            Work::Expire($call) => $do,
            Work::Prune($call) => $do,
            Work::SetQueue($call) => $do,
        }
    };
}

/// What a group does. What found nothing to do does nothing.
pub(super) fn deeds(group: &[Work]) -> Deeds {
    let mut deeds = Deeds::default();
    for work in group {
        match work {
            Work::Insert(call) => {
                deeds.add(Deed::Submit);
                if call.input.jobs.iter().any(|new| new.claim.is_some()) {
                    deeds.add(Deed::Claim);
                }
            }
            Work::Claim(_) | Work::ClaimWithin(_) => deeds.add(Deed::Claim),
            Work::Settle(_) => deeds.add(Deed::Outcome),
            Work::Cancel(_) => deeds.add(Deed::Cancel),
            Work::Reschedule(_) => deeds.add(Deed::Reschedule),
            Work::Expire(Call { output: Some(Ok(expired)), .. }) if !expired.ended.is_empty() => {
                deeds.add(Deed::Expire);
            }
            Work::Prune(Call { output: Some(Ok(1..)), .. }) => deeds.add(Deed::Prune),
            Work::Reclaim(Call { output: Some(Ok(1..)), .. }) => deeds.add(Deed::Reclaim),
            _ => {}
        }
    }
    deeds
}

impl Work {
    /// How many rows it takes.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Insert(call) => call.input.jobs.len(),
            Self::Claim(call) => call.input.0.len(),
            Self::ClaimWithin(call) => call.input.0.len(),
            Self::Settle(call) => call.input.0.len(),
            Self::Cancel(call) => call.input.0.len(),
            Self::Reschedule(_) | Self::Resolve(_) | Self::SetQueue(_) => 1,
            Self::Reclaim(call) => call.input.0,
            Self::Quarantine(call) => call.input.len(),
            Self::Expire(call) => call.input.0,
            Self::Prune(call) => call.input.limit,
        }
    }

    /// About how many bytes it sends.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Insert(call) => call.input.jobs.iter().map(|new| new.job.request.len() + 128).sum(),
            _ => self.rows().min(10_000) * 128,
        }
    }

    /// Whether it may run again after an answer of the database was lost that might have said that
    /// it was done.
    pub(super) fn can_repeat(&self) -> bool {
        match self {
            // By its guid an inserted job is found again, by its fence a settled one.
            Self::Insert(_) | Self::Settle(_) | Self::Cancel(_) => true,
            Self::Reclaim(_) | Self::Quarantine(_) | Self::Expire(_) | Self::Prune(_) | Self::SetQueue(_) => {
                true
            }
            Self::Claim(_) | Self::ClaimWithin(_) | Self::Reschedule(_) | Self::Resolve(_) => false,
        }
    }

    /// Before it runs, and runs again.
    pub(super) fn reset(&mut self) {
        each!(self, call => call.output = None);
        match self {
            // What takes no row is in no step.
            Self::Settle(call) if call.input.0.is_empty() => call.set(Vec::new()),
            Self::Cancel(call) if call.input.0.is_empty() => call.set(Vec::new()),
            _ => {}
        }
    }

    /// Answers with what it has got.
    pub(super) fn answer(self) {
        each!(self, call => call.answer(None));
    }

    pub(super) fn fail(self, err: Error) {
        each!(self, call => call.answer(Some(err)));
    }
}
