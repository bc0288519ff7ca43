//! A job as the engine and the stores keep it: resolved, compact.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Deserialize;

use super::{Delivery, Grant};
use crate::{guid::Guid, state::Facts, time::Timestamp};

/// A store's own number for a row: small, ascending with insertion, never given to another job as
/// long as this process lives. Outside, jobs are named by [`Guid`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// Jobs that wait for the same permits: those of one queue, one starter, one destination.
///
/// A lane is claimed from or skipped as a whole, so a full destination or a starter without
/// resources holds up its own lanes and no others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// The queue's name.
    pub queue: Arc<str>,
    /// The starter's name.
    pub starter: Arc<str>,
    /// Where the start goes, for starters that limit their load per destination.
    pub destination: Option<Arc<str>>,
}

/// A job at submit, resolved: defaults filled in, relative times made absolute.
#[derive(Clone)]
pub struct Job {
    /// Its name.
    pub guid: Guid,
    /// Whether sendoff made the guid, so that it cannot name another job.
    pub own_guid: bool,
    /// The caller's key, if any.
    pub idempotency_key: Option<Box<str>>,
    /// The permits that it needs.
    pub lane: Arc<Lane>,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// What a crash or an ambiguous outcome leads to.
    pub delivery: Delivery,
    /// Attempts allowed, at least 1.
    pub max_attempts: u32,
    /// When it was accepted.
    pub queued_at: Timestamp,
    /// When the start is asked for; an instant before `queued_at` means now.
    pub run_at: Timestamp,
    /// The instant before which the start must begin.
    pub expires_at: Option<Timestamp>,
    /// The request as JSON without guid and idempotency key, before defaults and times are
    /// resolved. Two submits have the same content if their requests are equal as JSON.
    pub request: Arc<str>,
    /// Who submitted it.
    pub submitted_by: Option<Arc<str>>,
    /// What its start may reach, held against the policy in force then; `None`: whatever that allows.
    pub grant: Option<Arc<Grant>>,
}

impl fmt::Debug for Job {
    /// Leaves the request out: it may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("guid", &self.guid).field("lane", &self.lane).finish_non_exhaustive()
    }
}

impl Job {
    /// What the guards of the state machine ask for.
    pub fn facts(&self) -> Facts {
        Facts {
            delivery: self.delivery,
            max_attempts: self.max_attempts,
            queued_at: self.queued_at,
            expires_at: self.expires_at,
        }
    }
}

/// What the dispatcher keeps of a pending job: enough to decide when and in which order to claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The row.
    pub id: JobId,
    /// The permits that it needs.
    pub lane: Arc<Lane>,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// When it may be claimed.
    pub next_at: Timestamp,
    /// It was starting when sendoff crashed, twice in a row or more: start it with nothing else in flight.
    pub alone: bool,
}

/// The labels in a request.
///
/// # Errors
/// It is no JSON, or its labels are none.
pub(crate) fn read_labels(request: &str) -> serde_json::Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Labelled {
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }

    serde_json::from_str(request).map(|Labelled { labels }| labels)
}

/// The labels in a request that is known to be one.
pub(crate) fn labels(request: &str) -> BTreeMap<String, String> {
    // Most requests have none, and reading JSON is most of what a record costs. A name can be
    // written with escapes, so a request that has any is read.
    if !request.contains("\"labels\"") && !request.contains('\\') {
        return BTreeMap::new();
    }
    read_labels(request).unwrap_or_default()
}
