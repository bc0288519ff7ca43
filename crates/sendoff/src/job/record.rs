//! What is told of a job.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Delivery, Job, labels};
use crate::{guid::Guid, state::State, time::Timestamp};

/// A job's record: what was asked for, what happened, and when. An absent fact is `null` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobRecord {
    /// The job's name.
    pub guid: Guid,
    /// Its queue.
    pub queue: Arc<str>,
    /// Where it stands.
    pub state: State,
    /// The starter's name.
    pub starter: Arc<str>,
    /// Where the start goes: a host and port, or nothing for starters without destinations.
    pub target: Option<Arc<str>>,
    /// What a crash or an ambiguous outcome leads to.
    pub delivery: Delivery,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// Free text given at submit.
    pub labels: BTreeMap<String, String>,
    /// When the start was asked for; changes only by reschedule.
    pub run_at: Timestamp,
    /// When it is tried next; equal to `run_at` until a retry.
    pub next_at: Timestamp,
    /// The instant before which the start must begin.
    pub expires_at: Option<Timestamp>,
    /// When the job was accepted.
    pub queued_at: Timestamp,
    /// When the last attempt was claimed.
    pub claimed_at: Option<Timestamp>,
    /// Right before the first byte or exec of the last attempt.
    pub starting_at: Option<Timestamp>,
    /// When the target had started. Always `queued_at < starting_at <= started_at`.
    pub started_at: Option<Timestamp>,
    /// When the job reached a final state.
    pub ended_at: Option<Timestamp>,
    /// Microseconds between when the first attempt could have begun and when it began: our share.
    pub wait_us: Option<i64>,
    /// Microseconds from `starting_at` to `started_at`: the target's share.
    pub took_us: Option<i64>,
    /// Attempts so far.
    pub attempt: u32,
    /// Attempts allowed.
    pub max_attempts: u32,
    /// Crashes of sendoff while this job was starting, since the last attempt that settled.
    pub crashes: u32,
    /// Raised by each claim: what an attempt must hold to write its outcome.
    pub fence: u32,
    /// The node that starts or started it.
    pub node: Option<Arc<str>>,
    /// What the starter returned.
    pub receipt: Option<Receipt>,
    /// Why the last attempt that failed did.
    pub last_error: Option<LastError>,
    /// Some earlier attempt may have happened as well.
    pub possible_duplicate: bool,
    /// When a cancel came too late to stop the attempt under way; there will be no other attempt.
    pub cancel_requested_at: Option<Timestamp>,
    /// The stored row cannot be decoded; it is left alone.
    pub quarantined: bool,
    /// By how much a stamp was moved because the wall clock had stepped back.
    pub clock_skew_us: i64,
    /// Who submitted it.
    pub submitted_by: Option<Arc<str>>,
}

impl JobRecord {
    /// The record of a job right after its insert; `claim` if it was inserted claimed: the node, and
    /// when.
    pub(crate) fn created(job: &Job, claim: Option<(&Arc<str>, Timestamp)>) -> Self {
        Self {
            guid: job.guid,
            queue: job.lane.queue.clone(),
            state: if claim.is_some() { State::Starting } else { State::Pending },
            starter: job.lane.starter.clone(),
            target: job.lane.destination.clone(),
            delivery: job.delivery,
            priority: job.priority,
            labels: labels(&job.request),
            run_at: job.run_at,
            next_at: job.run_at,
            expires_at: job.expires_at,
            queued_at: job.queued_at,
            claimed_at: claim.map(|(_, at)| at),
            starting_at: None,
            started_at: None,
            ended_at: None,
            wait_us: None,
            took_us: None,
            attempt: u32::from(claim.is_some()),
            max_attempts: job.max_attempts,
            crashes: 0,
            fence: u32::from(claim.is_some()),
            node: claim.map(|(node, _)| node.clone()),
            receipt: None,
            last_error: None,
            possible_duplicate: false,
            cancel_requested_at: None,
            quarantined: false,
            clock_skew_us: 0,
            submitted_by: job.submitted_by.clone(),
        }
    }
}

/// What a starter learned of the thing that it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Receipt {
    /// The status of an HTTP answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The process id, as of the start; the system may have given it to another process since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// Why an attempt did not start the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LastError {
    /// Its class.
    pub class: ErrorClass,
    /// In words; without payloads or secrets.
    pub message: String,
    /// When it was seen.
    pub at: Timestamp,
}

/// What kind of failure an attempt met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// No attempt can succeed.
    Permanent,
    /// This attempt certainly did not start the target.
    NotStarted,
    /// This attempt may have started the target.
    Ambiguous,
    /// This machine had no resources left; the attempt was not begun and does not count.
    Pressure,
    /// sendoff stopped or crashed during the attempt.
    Crash,
    /// sendoff crashed again and again while starting this job.
    Poison,
}
