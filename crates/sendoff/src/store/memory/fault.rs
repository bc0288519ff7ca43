//! Faults to plant, so that it can be seen that the conformance suite finds them.

use crate::{
    state::{Facts, Life, Outcome, Refused, State, Transition},
    time::Timestamp,
};

/// A fault to plant in a [`MemoryStore`](super::MemoryStore).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A claim takes a job in any state.
    ClaimIgnoresState,
    /// A claim takes a job before its time.
    ClaimIgnoresNextAt,
    /// A claim takes a job past its deadline.
    ClaimIgnoresDeadline,
    /// A claim at the very instant of `next_at` is refused.
    ClaimAfterNextAt,
    /// Any attempt's outcome is written.
    SettleIgnoresFence,
    /// An outcome is written whatever became of the job meanwhile.
    SettleIgnoresState,
    /// A late outcome of a reclaimed attempt is dropped.
    LateOutcomeDropped,
    /// A job whose cancel came during the attempt is tried again.
    LateCancelForgottenOnRetry,
    /// The same for an attempt that is given back.
    LateCancelForgottenOnRelease,
    /// The same for an attempt whose owner died.
    LateCancelForgottenOnReclaim,
    /// A cancel stops what is starting.
    CancelStopsStarting,
    /// An attempt given back counts.
    ReleaseCounts,
    /// A reclaim raises the fence.
    ReclaimRaisesFence,
    /// A reclaim does not say that the attempt may have happened.
    ReclaimForgetsDuplicate,
    /// A reclaim does not count the crash.
    ReclaimForgetsCrash,
    /// A reclaim tries an at_most_once job again.
    ReclaimRepeatsAtMostOnce,
    /// A reclaim takes what was claimed since the store was opened.
    ReclaimTakesNewClaims,
    /// A reschedule moves `next_at` only.
    RescheduleKeepsRunAt,
    /// An expire takes jobs before their deadline.
    ExpireIgnoresDeadline,
    /// `due` gives one more than asked for.
    DueLimitOffByOne,
    /// `due` begins with the row that it should begin after.
    DueRepeatsAfter,
    /// `due` leaves out what is due at the very end of the range.
    DueWithoutUntil,
    /// `ready` goes by time alone.
    ReadyIgnoresPriority,
    /// `ready` gives what is not due yet.
    ReadyIgnoresNow,
    /// A prune deletes pending jobs, too.
    PruneTakesPending,
    /// A prune deletes what ended at the very instant.
    PruneIncludesBefore,
    /// A prune deletes unknown jobs without being asked to.
    PruneTakesUnknown,
    /// An atomic batch with a conflict keeps the other jobs.
    AtomicBatchKeepsTheGood,
    /// A bookmark stays although its batch failed.
    BookmarkKeptOnConflict,
    /// Two jobs may have the same idempotency key.
    KeyNotUnique,
    /// A guid's second content is taken for the first.
    ContentNotCompared,
    /// A cancel does not reach the counts.
    CancelNotCounted,
    /// A page begins with the row that it should begin after.
    ListRepeatsAfter,
    /// The same with the newest first.
    NewestRepeatsAfter,
    /// A list begins with the oldest whatever was asked for.
    NewestFirstIgnored,
    /// A guid's suffix is not looked at.
    SuffixIgnored,
    /// A claimed job comes without its grant.
    GrantForgotten,
    /// The limits that a queue had stay when others are set.
    QueueLimitsNotReplaced,
    /// The limits that a queue had stay when they are to be forgotten.
    QueueLimitsNotForgotten,
    /// A crash takes the limits of queues along.
    QueueLimitsLost,
}

impl Fault {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::ClaimIgnoresState,
        Self::ClaimIgnoresNextAt,
        Self::ClaimIgnoresDeadline,
        Self::ClaimAfterNextAt,
        Self::SettleIgnoresFence,
        Self::SettleIgnoresState,
        Self::LateOutcomeDropped,
        Self::LateCancelForgottenOnRetry,
        Self::LateCancelForgottenOnRelease,
        Self::LateCancelForgottenOnReclaim,
        Self::CancelStopsStarting,
        Self::ReleaseCounts,
        Self::ReclaimRaisesFence,
        Self::ReclaimForgetsDuplicate,
        Self::ReclaimForgetsCrash,
        Self::ReclaimRepeatsAtMostOnce,
        Self::ReclaimTakesNewClaims,
        Self::RescheduleKeepsRunAt,
        Self::ExpireIgnoresDeadline,
        Self::DueLimitOffByOne,
        Self::DueRepeatsAfter,
        Self::DueWithoutUntil,
        Self::ReadyIgnoresPriority,
        Self::ReadyIgnoresNow,
        Self::PruneTakesPending,
        Self::PruneIncludesBefore,
        Self::PruneTakesUnknown,
        Self::AtomicBatchKeepsTheGood,
        Self::BookmarkKeptOnConflict,
        Self::KeyNotUnique,
        Self::ContentNotCompared,
        Self::CancelNotCounted,
        Self::ListRepeatsAfter,
        Self::NewestRepeatsAfter,
        Self::NewestFirstIgnored,
        Self::SuffixIgnored,
        Self::GrantForgotten,
        Self::QueueLimitsNotReplaced,
        Self::QueueLimitsNotForgotten,
        Self::QueueLimitsLost,
    ];
}

/// Takes a step as a store with this fault would.
pub(super) fn apply(
    fault: Option<Fault>,
    life: &mut Life,
    facts: &Facts,
    now: Timestamp,
    step: &Transition,
) -> Result<State, Refused> {
    let Some(fault) = fault else { return life.apply(facts, now, step) };
    let mut facts = *facts;
    let mut step = step.clone();
    let was = life.clone();
    let mut forgotten_cancel = None;
    match (fault, &mut step) {
        (Fault::ClaimIgnoresState, Transition::Claim { .. }) => life.state = State::Pending,
        (Fault::ClaimIgnoresNextAt, Transition::Claim { .. }) => life.next_at = life.next_at.min(now),
        (Fault::ClaimIgnoresDeadline, Transition::Claim { .. }) => facts.expires_at = None,
        (Fault::ClaimAfterNextAt, Transition::Claim { .. }) if life.next_at == now => {
            return Err(Refused { state: life.state, fence: life.fence });
        }
        (Fault::SettleIgnoresFence, Transition::Settle { fence, .. }) => *fence = life.fence,
        (Fault::SettleIgnoresState, Transition::Settle { .. }) => life.state = State::Starting,
        (Fault::LateOutcomeDropped, Transition::Settle { .. }) if life.state != State::Starting => {
            return Err(Refused { state: life.state, fence: life.fence });
        }
        (Fault::LateCancelForgottenOnRetry, Transition::Settle { outcome: Outcome::Retry { .. }, .. })
        | (
            Fault::LateCancelForgottenOnRelease,
            Transition::Settle { outcome: Outcome::Released { .. }, .. },
        )
        | (Fault::LateCancelForgottenOnReclaim, Transition::Reclaim) => {
            forgotten_cancel = life.cancel_requested_at.take();
        }
        (Fault::CancelStopsStarting, Transition::Cancel) if life.state == State::Starting => {
            life.state = State::Pending;
        }
        (Fault::ReclaimRepeatsAtMostOnce, Transition::Reclaim) => {
            facts.delivery = crate::job::Delivery::AtLeastOnce;
        }
        (Fault::ReclaimForgetsCrash, Transition::Reclaim) => life.crashes = life.crashes.wrapping_sub(1),
        (Fault::ExpireIgnoresDeadline, Transition::Expire) => facts.expires_at = Some(Timestamp::MIN),
        _ => {}
    }
    let result = life.apply(&facts, now, &step);
    if result.is_err() {
        *life = was;
        return result;
    }
    life.cancel_requested_at = life.cancel_requested_at.or(forgotten_cancel);
    match (fault, &step) {
        (Fault::ClaimIgnoresNextAt, Transition::Claim { .. }) => life.next_at = was.next_at,
        (Fault::ReleaseCounts, Transition::Settle { outcome: Outcome::Released { .. }, .. }) => {
            life.attempt = was.attempt;
        }
        (Fault::ReclaimRaisesFence, Transition::Reclaim) => life.fence += 1,
        (Fault::ReclaimForgetsDuplicate, Transition::Reclaim) => {
            life.possible_duplicate = was.possible_duplicate;
        }
        (Fault::RescheduleKeepsRunAt, Transition::Reschedule { .. }) => life.run_at = was.run_at,
        _ => {}
    }
    result
}
