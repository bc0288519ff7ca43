//! Short words for settlements and batches.

use std::sync::Arc;

use crate::{
    guid::Guid,
    job::{ErrorClass, Job, JobId, LastError, Receipt},
    ports::{InsertBatch, NewJob, Prune, Settlement},
    state::{Begun, Outcome},
    testing::model::{Model, at},
    time::Timestamp,
};

/// More than any case inserts.
pub(super) const ALL: usize = 100_000;

pub(super) fn error(class: ErrorClass, micros: i64) -> LastError {
    LastError { class, message: format!("it is {class:?}"), at: at(micros) }
}

pub(super) fn started(micros: i64) -> Outcome {
    Outcome::Started { started_at: at(micros), receipt: Receipt { status: Some(204), pid: None } }
}

pub(super) fn retry(micros: i64, ambiguous: bool) -> Outcome {
    let class = if ambiguous { ErrorClass::Ambiguous } else { ErrorClass::NotStarted };
    Outcome::Retry { next_at: at(micros), ambiguous, error: error(class, micros - 1) }
}

pub(super) fn failed(ambiguous: bool) -> Outcome {
    let class = if ambiguous { ErrorClass::Ambiguous } else { ErrorClass::Permanent };
    Outcome::Failed { ambiguous, error: error(class, 1) }
}

pub(super) fn unknown() -> Outcome {
    Outcome::Unknown { error: error(ErrorClass::Ambiguous, 1) }
}

pub(super) fn released(micros: i64) -> Outcome {
    Outcome::Released { next_at: at(micros), error: None }
}

/// The end of an attempt that never began.
pub(super) fn unbegun(id: JobId, fence: u32, outcome: Outcome) -> Settlement {
    Settlement { id, fence, begun: None, outcome }
}

/// The end of an attempt that began then.
pub(super) fn begun(id: JobId, fence: u32, micros: i64, outcome: Outcome) -> Settlement {
    Settlement { id, fence, begun: Some(Begun { starting_at: at(micros), clock_skew_us: 0 }), outcome }
}

pub(super) fn batch(jobs: impl IntoIterator<Item = Job>, atomic: bool) -> InsertBatch {
    let jobs = jobs.into_iter().map(|job| NewJob { job: Arc::new(job), claim: None }).collect();
    InsertBatch { jobs, atomic, bookmark: None, now: at(0) }
}

pub(super) fn prune_before(before: Timestamp) -> Prune {
    Prune { before, submitted_by: None, unknown_too: false, limit: ALL }
}

impl Model {
    /// The guid of a row.
    pub(super) fn guid(&self, id: JobId) -> Guid {
        self.row(id).job.guid
    }

    /// Claims one job, which must succeed; its fence.
    pub(super) async fn claim_one(&mut self, id: JobId, now: Timestamp) -> u32 {
        let claimed = self.claim(&[id], now).await;
        claimed[0].as_ref().expect("it can be claimed").fence
    }

    /// Settles one attempt; whether that was applied.
    pub(super) async fn settle_one(&mut self, settlement: Settlement, now: Timestamp) -> bool {
        self.settle(vec![settlement], now).await[0].applied
    }
}
