//! What the end of an attempt means for its job.

use std::time::Duration;

use crate::{
    job::{Delivery, ErrorClass, LastError, Receipt},
    ports::{Claimed, StartError, StartErrorClass},
    state::Outcome,
    time::Timestamp,
};

/// The longest wait that a target may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// The bounds of the waits between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(3600) }
    }
}

impl Backoff {
    /// Full jitter over an exponentially growing bound
    /// (<https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>).
    fn wait(&self, attempt: u32, random: &mut fastrand::Rng) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let bound = self.min.saturating_mul(1 << doublings).min(self.max);
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(random.u64(0..=micros))
    }
}

/// Decides what becomes of an attempt that ended at `now`. `started_at` is the instant of its end
/// by the attempt's own clock, if it began.
pub(super) fn decide(
    claimed: &Claimed,
    result: Result<Receipt, StartError>,
    started_at: Timestamp,
    backoff: Backoff,
    now: Timestamp,
    random: &mut fastrand::Rng,
) -> Outcome {
    let error = match result {
        Ok(receipt) => return Outcome::Started { started_at, receipt },
        Err(error) => error,
    };
    let job = &claimed.job;
    let last = |class| LastError { class, message: error.message.clone(), at: now };
    let ambiguous = match error.class {
        StartErrorClass::Permanent => {
            return Outcome::Failed { ambiguous: false, error: last(ErrorClass::Permanent) };
        }
        StartErrorClass::Expired => return Outcome::Expired,
        StartErrorClass::Released => return Outcome::Released { next_at: claimed.claimed_at, error: None },
        StartErrorClass::Pressure if mutated!(PressureCounts) => false,
        StartErrorClass::Pressure => {
            let error = Some(last(ErrorClass::Pressure));
            return Outcome::Released { next_at: claimed.claimed_at, error };
        }
        StartErrorClass::Ambiguous
            if job.delivery == Delivery::AtMostOnce && !mutated!(AmbiguousTriedAgain) =>
        {
            return Outcome::Unknown { error: last(ErrorClass::Ambiguous) };
        }
        StartErrorClass::NotStarted
            if job.delivery == Delivery::AtMostOnce && mutated!(NotStartedIsAmbiguous) =>
        {
            return Outcome::Unknown { error: last(ErrorClass::Ambiguous) };
        }
        StartErrorClass::Ambiguous => true,
        StartErrorClass::NotStarted => false,
    };
    let error_record = last(if ambiguous { ErrorClass::Ambiguous } else { ErrorClass::NotStarted });
    let wait =
        backoff.wait(claimed.attempt, random).max(error.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX));
    let next_at = now.checked_add(wait);
    match next_at {
        Some(next_at)
            if (claimed.attempt < job.max_attempts || mutated!(AttemptsUnlimited))
                && job.expires_at.is_none_or(|expires_at| next_at < expires_at) =>
        {
            Outcome::Retry { next_at, ambiguous, error: error_record }
        }
        // Spent, or the retry would come after the deadline.
        _ => Outcome::Failed { ambiguous, error: error_record },
    }
}
