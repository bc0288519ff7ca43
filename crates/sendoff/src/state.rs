//! The state machine of a job: the one place that knows it.
//!
//! The memory store applies [`Life::apply`]; the SQL stores repeat it as guarded updates and CHECK
//! constraints; the conformance suite proves that they agree. The names T1 to T13 are those of
//! ARCHITECTURE.md.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    job::{Delivery, ErrorClass, LastError, Receipt},
    time::Timestamp,
};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its time, its permits or its next attempt.
    Pending,
    /// Claimed by a node; the claim is durable.
    Starting,
    /// The target has started. Final.
    Started,
    /// It will not start: a permanent error, or its attempts are spent. Final.
    Failed,
    /// Cancelled before an attempt was under way. Final.
    Cancelled,
    /// Its deadline passed before a start began. Final.
    Expired,
    /// It may have started, and must not start twice. Final, unless resolved by an operator or by
    /// a late outcome of the very attempt.
    Unknown,
}

impl State {
    /// All states, in the order of their codes.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Starting,
        Self::Started,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
        Self::Unknown,
    ];

    /// No further attempt follows by itself.
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Starting)
    }

    /// The name used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Starting => "starting",
            Self::Started => "started",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }

    /// The number under which stores keep it: its place in [`State::ALL`].
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The state of this number.
    pub const fn from_code(code: u8) -> Option<Self> {
        if (code as usize) < Self::ALL.len() { Some(Self::ALL[code as usize]) } else { None }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a reclaimed job's error says.
pub(crate) const CRASHED: &str = "sendoff crashed or was killed while it started this job";
/// What it says when the job was started alone and sendoff crashed all the same.
pub(crate) const POISONED: &str = "sendoff crashed again and again while it started this job";

/// A job that crashed sendoff so often in a row is started alone; a crash while alone ends it.
pub const POISON_CRASHES: u32 = 2;

/// The changing part of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Where it stands.
    pub state: State,
    /// Raised by each claim and each resolve.
    pub fence: u32,
    /// Attempts that count.
    pub attempt: u32,
    /// Crashes while starting, since the last settled attempt.
    pub crashes: u32,
    /// An earlier attempt may have happened.
    pub possible_duplicate: bool,
    /// When it was asked for.
    pub run_at: Timestamp,
    /// When it may be claimed.
    pub next_at: Timestamp,
    /// When it became final.
    pub ended_at: Option<Timestamp>,
    /// When a cancel came during an attempt.
    pub cancel_requested_at: Option<Timestamp>,
    /// What the attempts left behind; nothing before the first claim.
    pub past: Option<Box<Past>>,
}

/// The traces of a job's attempts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// When the last attempt was claimed.
    pub claimed_at: Option<Timestamp>,
    /// Who claimed it; none while no attempt is under way and none has settled.
    pub node: Option<std::sync::Arc<str>>,
    /// Right before the first byte or exec of the last attempt that began.
    pub starting_at: Option<Timestamp>,
    /// When the target had started.
    pub started_at: Option<Timestamp>,
    /// Microseconds from `max(run_at, queued_at)` to the beginning of the first attempt.
    pub wait_us: Option<i64>,
    /// By how much stamps were moved.
    pub clock_skew_us: i64,
    /// What the starter returned.
    pub receipt: Option<Receipt>,
    /// Why the last attempt that failed did.
    pub last_error: Option<LastError>,
}

/// The unchanging facts that guards depend on.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// What a crash or an ambiguous outcome leads to.
    pub delivery: Delivery,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// When it was accepted.
    pub queued_at: Timestamp,
    /// The instant before which a start must begin.
    pub expires_at: Option<Timestamp>,
}

/// When an attempt began: right before the first byte or exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    /// `max(now, queued_at + 1 us, claimed_at)`.
    pub starting_at: Timestamp,
    /// By how much that is later than the wall clock said.
    pub clock_skew_us: i64,
}

/// How an attempt ended, decided by the dispatcher, to be written under the attempt's fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// T3: the target has started.
    Started {
        /// When that was.
        started_at: Timestamp,
        /// What the starter returned.
        receipt: Receipt,
    },
    /// T4: try again at `next_at`; `ambiguous` if this attempt may have happened.
    Retry {
        /// When.
        next_at: Timestamp,
        /// Whether the attempt may have happened.
        ambiguous: bool,
        /// Why.
        error: LastError,
    },
    /// T5: no attempt can succeed, or none is left.
    Failed {
        /// Whether the attempt may have happened.
        ambiguous: bool,
        /// Why.
        error: LastError,
    },
    /// T6: it may have happened and must not happen twice.
    Unknown {
        /// Why.
        error: LastError,
    },
    /// T9: the deadline passed before the attempt began.
    Expired,
    /// T11: known not begun; the attempt does not count.
    Released {
        /// When it may be claimed again.
        next_at: Timestamp,
        /// Why, unless sendoff is just stopping.
        error: Option<LastError>,
    },
}

impl Outcome {
    /// Why the attempt did not start its target, if it failed.
    pub const fn error(&self) -> Option<&LastError> {
        match self {
            Self::Started { .. } | Self::Expired => None,
            Self::Retry { error, .. } | Self::Failed { error, .. } | Self::Unknown { error } => Some(error),
            Self::Released { error, .. } => error.as_ref(),
        }
    }
}

/// A step of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// T2.
    Claim {
        /// Who claims.
        node: std::sync::Arc<str>,
    },
    /// T3 to T6, T9, T11: the end of the attempt that holds `fence`.
    Settle {
        /// The attempt's fence.
        fence: u32,
        /// When it began, if it did.
        begun: Option<Begun>,
        /// How it ended.
        outcome: Outcome,
    },
    /// T7, T8.
    Cancel,
    /// T9 for a job that waits.
    Expire,
    /// T10: the owner died.
    Reclaim,
    /// Change when a pending job is to start, to an instant before its deadline.
    Reschedule {
        /// The new instant.
        run_at: Timestamp,
    },
    /// T12: an operator's decision on an unknown one.
    Resolve {
        /// What the operator says.
        to: Resolution,
    },
}

/// An operator's decision on an unknown job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// It had started.
    Started,
    /// It had not, and shall not.
    Failed,
    /// Start it again.
    Pending,
}

/// A guard did not hold: nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Where the job stands.
    pub state: State,
    /// Its fence.
    pub fence: u32,
}

impl Life {
    /// T1: a new job, pending until `run_at`.
    pub fn new(run_at: Timestamp) -> Self {
        Self {
            state: State::Pending,
            fence: 0,
            attempt: 0,
            crashes: 0,
            possible_duplicate: false,
            run_at,
            next_at: run_at,
            ended_at: None,
            cancel_requested_at: None,
            past: None,
        }
    }

    /// Whether a start may no longer begin at `now`.
    pub fn past_deadline(facts: &Facts, now: Timestamp) -> bool {
        facts.expires_at.is_some_and(|expires_at| now >= expires_at)
    }

    /// Takes one step at `now`, or changes nothing and says where the job stands.
    ///
    /// # Errors
    /// [`Refused`] when the step's guard does not hold.
    pub fn apply(&mut self, facts: &Facts, now: Timestamp, step: &Transition) -> Result<State, Refused> {
        let allowed = match (step, self.state) {
            (Transition::Claim { .. }, State::Pending) => {
                self.next_at <= now && !Self::past_deadline(facts, now)
            }
            (Transition::Settle { fence, outcome, .. }, state) => {
                let open = match outcome {
                    // A late outcome of the very attempt is better than `unknown`, or than a reclaimed
                    // row that nobody has claimed since.
                    Outcome::Started { .. } => match state {
                        State::Starting | State::Unknown => true,
                        State::Pending => self.possible_duplicate,
                        _ => false,
                    },
                    _ => state == State::Starting,
                };
                open && *fence == self.fence && self.fence > 0
            }
            (Transition::Cancel, state) => {
                matches!(state, State::Pending | State::Starting | State::Cancelled)
            }
            (Transition::Expire, State::Pending) => Self::past_deadline(facts, now),
            (Transition::Reclaim, State::Starting) => true,
            (Transition::Reschedule { run_at }, State::Pending) => !Self::past_deadline(facts, *run_at),
            (Transition::Resolve { .. }, State::Unknown) => true,
            _ => false,
        };
        if !allowed {
            return Err(Refused { state: self.state, fence: self.fence });
        }
        match step {
            Transition::Claim { node } => {
                self.state = State::Starting;
                self.fence += 1;
                self.attempt += 1;
                let past = self.past_mut();
                past.claimed_at = Some(now);
                past.node = Some(node.clone());
                past.starting_at = None;
            }
            Transition::Settle { begun, outcome, .. } => self.settle(facts, now, *begun, outcome),
            Transition::Cancel => match self.state {
                State::Pending => self.end(State::Cancelled, now),
                State::Starting => self.cancel_requested_at = Some(self.cancel_requested_at.unwrap_or(now)),
                _ => {}
            },
            Transition::Expire => self.expire(now),
            Transition::Reclaim => self.reclaim(facts, now),
            Transition::Reschedule { run_at } => {
                self.run_at = *run_at;
                self.next_at = *run_at;
            }
            Transition::Resolve { to } => {
                self.fence += 1;
                self.possible_duplicate = true;
                match to {
                    Resolution::Started => self.end(State::Started, now),
                    Resolution::Failed => self.end(State::Failed, now),
                    Resolution::Pending => {
                        self.state = State::Pending;
                        self.ended_at = None;
                        self.next_at = now;
                        // It was meant for the attempt that is unknown; this is a new decision.
                        self.cancel_requested_at = None;
                        // The operator asks for one more attempt, whatever was spent.
                        self.attempt = self.attempt.min(facts.max_attempts.saturating_sub(1));
                    }
                }
            }
        }
        Ok(self.state)
    }

    fn settle(&mut self, facts: &Facts, now: Timestamp, begun: Option<Begun>, outcome: &Outcome) {
        let ready_at = self.run_at.max(facts.queued_at);
        if let Some(begun) = begun {
            let past = self.past_mut();
            past.starting_at = Some(begun.starting_at);
            past.wait_us.get_or_insert(begun.starting_at.micros_since(ready_at));
            past.clock_skew_us = begun.clock_skew_us;
        }
        if let Some(error) = outcome.error() {
            self.past_mut().last_error = Some(error.clone());
        }
        match outcome {
            Outcome::Started { started_at, receipt } => {
                let past = self.past_mut();
                past.started_at = Some(*started_at);
                past.receipt = Some(*receipt);
                self.crashes = 0;
                self.end(State::Started, now.max(*started_at));
            }
            Outcome::Retry { next_at, ambiguous, .. } => {
                self.crashes = 0;
                self.possible_duplicate |= *ambiguous;
                self.back_to_pending(*next_at, now);
            }
            Outcome::Failed { ambiguous, .. } => {
                self.crashes = 0;
                self.possible_duplicate |= *ambiguous;
                self.end(State::Failed, now);
            }
            Outcome::Unknown { .. } => {
                self.crashes = 0;
                self.possible_duplicate = true;
                self.end(State::Unknown, now);
            }
            Outcome::Expired => self.expire(now),
            Outcome::Released { next_at, .. } => {
                self.attempt = self.attempt.saturating_sub(1);
                self.back_to_pending(*next_at, now);
            }
        }
    }

    /// T9. An attempt that may have happened is not "expired before a start began".
    fn expire(&mut self, now: Timestamp) {
        let to = if self.possible_duplicate { State::Failed } else { State::Expired };
        self.end(to, now);
    }

    /// T10. Keeps the fence: only a claim raises it, so that the attempt's late outcome still counts.
    fn reclaim(&mut self, facts: &Facts, now: Timestamp) {
        let alone = self.crashes >= POISON_CRASHES;
        self.crashes += 1;
        self.possible_duplicate = true;
        let (class, message) =
            if alone { (ErrorClass::Poison, POISONED) } else { (ErrorClass::Crash, CRASHED) };
        self.past_mut().last_error = Some(LastError { class, message: message.to_owned(), at: now });
        match facts.delivery {
            Delivery::AtMostOnce => self.end(State::Unknown, now),
            Delivery::AtLeastOnce if alone || self.attempt >= facts.max_attempts => {
                self.end(State::Failed, now)
            }
            Delivery::AtLeastOnce => self.back_to_pending(self.next_at, now),
        }
    }

    fn back_to_pending(&mut self, next_at: Timestamp, now: Timestamp) {
        if self.cancel_requested_at.is_some() {
            self.end(State::Cancelled, now);
        } else {
            self.state = State::Pending;
            self.next_at = next_at;
            self.past_mut().node = None;
        }
    }

    fn end(&mut self, state: State, now: Timestamp) {
        self.state = state;
        self.ended_at = Some(now);
    }

    fn past_mut(&mut self) -> &mut Past {
        self.past.get_or_insert_default()
    }
}

/// When an attempt begins, by the wall clock `now`: strictly after `queued_at` and not before it
/// was claimed, whatever the wall clock did since.
pub fn begin(now: Timestamp, queued_at: Timestamp, claimed_at: Timestamp) -> Begun {
    let starting_at = now.max(queued_at.saturating_add(Duration::from_micros(1))).max(claimed_at);
    Begun { starting_at, clock_skew_us: starting_at.micros_since(now) }
}

#[cfg(test)]
mod tests;
