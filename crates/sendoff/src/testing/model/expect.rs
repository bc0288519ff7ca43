//! What the model expects of answers.

use std::{collections::BTreeMap, sync::Arc};

use super::{Model, Row};
use crate::{
    guid::Guid,
    job::{Header, Job},
    ports::{Claimed, Conflict, Inserted, NewJob},
    state::{POISON_CRASHES, State},
    time::Timestamp,
};

/// What a verdict should be.
#[derive(Debug)]
pub(super) enum Expected {
    Created,
    Existing(Guid),
    /// Either of two jobs may be named where guid and key name different ones.
    Conflict(Vec<Conflict>),
    Skipped,
}

impl Expected {
    pub(super) fn matches(&self, verdict: &Inserted) -> bool {
        match (self, verdict) {
            (Self::Created, Inserted::Created(_)) | (Self::Skipped, Inserted::Skipped) => true,
            (Self::Existing(expected), Inserted::Existing(guid)) => expected == guid,
            (Self::Conflict(expected), Inserted::Conflict(conflict)) => expected.contains(conflict),
            _ => false,
        }
    }
}

/// The labels in a request.
pub(super) fn labels(request: &str) -> BTreeMap<String, String> {
    let request: serde_json::Value = serde_json::from_str(request).expect("requests of tests are JSON");
    let labels = request.get("labels").cloned().unwrap_or_else(|| serde_json::json!({}));
    serde_json::from_value(labels).expect("labels are text")
}

fn content(job: &Job) -> serde_json::Value {
    serde_json::from_str(&job.request).expect("requests of tests are JSON")
}

impl Model {
    /// The verdicts that this batch should get, and whether it fails.
    pub(super) fn expect_inserted(&self, jobs: &[NewJob], atomic: bool) -> (Vec<Expected>, bool) {
        let mut there: Vec<(Option<usize>, Arc<Job>)> =
            self.rows.iter().map(|row| (None, row.job.clone())).collect();
        let mut expected = Vec::new();
        for (item, NewJob { job, .. }) in jobs.iter().enumerate() {
            let by_guid = there.iter().find(|(_, other)| other.guid == job.guid);
            let key = job.idempotency_key.as_ref();
            let by_key =
                there.iter().find(|(_, other)| key.is_some() && other.idempotency_key.as_ref() == key);
            let conflict = |(with_item, with): &(Option<usize>, Arc<Job>), field| Conflict {
                with: with.guid,
                with_item: *with_item,
                field,
            };
            expected.push(match (by_guid, by_key) {
                (None, None) => {
                    there.push((Some(item), job.clone()));
                    Expected::Created
                }
                (Some(one), Some(other)) if one.1.guid != other.1.guid => {
                    Expected::Conflict(vec![conflict(one, "guid"), conflict(other, "idempotency_key")])
                }
                (Some(one), _) | (None, Some(one)) if content(&one.1) == content(job) => {
                    Expected::Existing(one.1.guid)
                }
                (Some(one), _) => Expected::Conflict(vec![conflict(one, "guid")]),
                (None, Some(one)) => Expected::Conflict(vec![conflict(one, "idempotency_key")]),
            });
        }
        let failed = atomic && expected.iter().any(|verdict| matches!(verdict, Expected::Conflict(_)));
        if failed {
            for verdict in &mut expected {
                if !matches!(verdict, Expected::Conflict(_)) {
                    *verdict = Expected::Skipped;
                }
            }
        }
        (expected, failed)
    }
}

impl Row {
    /// The header that the store should give while the job is pending.
    pub fn header(&self) -> Header {
        Header {
            id: self.id,
            lane: self.job.lane.clone(),
            priority: self.job.priority,
            next_at: self.life.next_at,
            alone: self.life.crashes >= POISON_CRASHES,
        }
    }

    /// Whether its attempt was under way when the store was opened.
    pub(super) fn is_orphan(&self) -> bool {
        self.life.state == State::Starting && self.orphan == Some(self.life.fence)
    }

    pub(super) fn check_claimed(&self, claimed: &Claimed, now: Timestamp) {
        let Claimed { id, job, fence, attempt, claimed_at, run_at, crashes } = claimed;
        assert_eq!(*id, self.id);
        assert_eq!((*fence, *attempt), (self.life.fence, self.life.attempt), "fence and attempt of {self:?}");
        assert_eq!(*crashes, self.life.crashes, "crashes of {self:?}");
        assert_eq!((*claimed_at, *run_at), (now, self.life.run_at), "claimed_at and run_at of {self:?}");
        let facts = |job: &Job| {
            let Job { guid, own_guid: _, idempotency_key, lane, priority, delivery, max_attempts, .. } =
                job.clone();
            let Job { queued_at, run_at: _, expires_at, request, submitted_by, grant, .. } = job.clone();
            let names = (guid, idempotency_key, lane, request, submitted_by, grant);
            (names, priority, delivery, max_attempts, queued_at, expires_at)
        };
        assert_eq!(facts(job), facts(&self.job), "the job as claimed");
    }
}
