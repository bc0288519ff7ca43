//! What makes two rows the same job, in one encoding for comparing and for hashing.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::StoredJob;
use crate::{
    job::{ErrorClass, Job},
    state::{Life, Past, State},
    time::Timestamp,
};

/// What became of a job in the store that it was moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// Every field is as it was.
    Same,
    /// It went on from there: claimed, cancelled, expired or rescheduled since.
    WentOn,
    /// These fields are otherwise than they can have become.
    Differs(Vec<&'static str>),
}

/// A sum over the SHA-256 of rows that does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many rows.
    pub rows: u64,
    sum: [u64; 4],
}

impl Digest {
    /// Adds a row.
    pub fn add(&mut self, row: &StoredJob) {
        self.rows += 1;
        for (sum, part) in self.sum.iter_mut().zip(row.digest().chunks_exact(8)) {
            let part = part.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            *sum = sum.wrapping_add(part);
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.sum.iter().try_for_each(|part| write!(f, "{part:016x}"))
    }
}

impl StoredJob {
    /// The SHA-256 of everything but the row's number.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut add = |_: &'static str, value: Option<&[u8]>| match value {
            None => hash.update([0]),
            Some(bytes) => {
                hash.update([1]);
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
            }
        };
        encode_job(&self.job, &mut add);
        encode_life(self, &mut add);
        hash.finalize().into()
    }

    /// Holds what the job was when it was moved against what it is now. What never changes must be
    /// the same; the rest too, unless the job has taken a step since: its fence is higher (a claim, a
    /// resolve), or it was pending and is cancelled, expired, or pending at another time.
    pub fn compare(&self, now: &Self) -> Compared {
        let mut differs = differing(self, now, |row, add| encode_job(&row.job, add));
        if differs.is_empty() {
            differs = differing(self, now, encode_life);
            if differs.is_empty() {
                return Compared::Same;
            }
            if went_on(&self.life, &now.life, &differs) {
                return Compared::WentOn;
            }
        }
        Compared::Differs(differs)
    }
}

fn went_on(was: &Life, is: &Life, differs: &[&'static str]) -> bool {
    let rescheduled =
        is.run_at == is.next_at && differs.iter().all(|name| matches!(*name, "run_at" | "next_at"));
    is.fence > was.fence
        || is.fence == was.fence
            && was.state == State::Pending
            && match is.state {
                State::Pending => rescheduled,
                State::Cancelled | State::Expired | State::Failed => true,
                State::Starting | State::Started | State::Unknown => false,
            }
}

/// Takes a field's name and its bytes.
type Take<'a> = dyn FnMut(&'static str, Option<&[u8]>) + 'a;

fn differing(a: &StoredJob, b: &StoredJob, encode: impl Fn(&StoredJob, &mut Take<'_>)) -> Vec<&'static str> {
    let fields = |row| {
        let mut fields = Vec::with_capacity(24);
        encode(row, &mut |name, value: Option<&[u8]>| fields.push((name, value.map(<[u8]>::to_vec))));
        fields
    };
    let pairs = fields(a).into_iter().zip(fields(b));
    pairs.filter(|(a, b)| a != b).map(|((name, _), _)| name).collect()
}

fn number(take: &mut Take<'_>, name: &'static str, value: impl Into<i64>) {
    take(name, Some(&value.into().to_be_bytes()));
}

fn instant(take: &mut Take<'_>, name: &'static str, at: Option<Timestamp>) {
    take(name, at.map(|at| at.as_micros().to_be_bytes()).as_ref().map(<[u8; 8]>::as_slice));
}

fn text(take: &mut Take<'_>, name: &'static str, text: Option<&str>) {
    take(name, text.map(str::as_bytes));
}

fn encode_job(job: &Job, take: &mut Take<'_>) {
    let Job {
        guid,
        own_guid,
        idempotency_key,
        lane,
        priority,
        delivery,
        max_attempts,
        queued_at,
        run_at: _, // Changes by a reschedule.
        expires_at,
        request,
        submitted_by,
        grant,
    } = job;
    take("guid", Some(guid.as_bytes()));
    number(take, "own_guid", *own_guid);
    text(take, "idempotency_key", idempotency_key.as_deref());
    text(take, "queue", Some(&lane.queue));
    text(take, "starter", Some(&lane.starter));
    text(take, "target", lane.destination.as_deref());
    number(take, "priority", *priority);
    number(take, "delivery", *delivery as u8);
    number(take, "max_attempts", *max_attempts);
    instant(take, "queued_at", Some(*queued_at));
    instant(take, "expires_at", *expires_at);
    text(take, "request", Some(request));
    text(take, "submitted_by", submitted_by.as_deref());
    // Stores keep it as JSON, so that it has this form.
    let grant = grant.as_deref().map(|grant| serde_json::to_string(grant).unwrap_or_default());
    text(take, "grant", grant.as_deref());
}

fn encode_life(row: &StoredJob, take: &mut Take<'_>) {
    let Life {
        state,
        fence,
        attempt,
        crashes,
        possible_duplicate,
        run_at,
        next_at,
        ended_at,
        cancel_requested_at,
        past,
    } = &row.life;
    number(take, "state", state.code());
    number(take, "fence", *fence);
    number(take, "attempt", *attempt);
    number(take, "crashes", *crashes);
    number(take, "possible_duplicate", *possible_duplicate);
    number(take, "quarantined", row.quarantined);
    instant(take, "run_at", Some(*run_at));
    instant(take, "next_at", Some(*next_at));
    instant(take, "ended_at", *ended_at);
    instant(take, "cancel_requested_at", *cancel_requested_at);
    // A past without traces is none.
    let none = Past::default();
    let Past { claimed_at, node, starting_at, started_at, wait_us, clock_skew_us, receipt, last_error } =
        past.as_deref().unwrap_or(&none);
    instant(take, "claimed_at", *claimed_at);
    text(take, "node", node.as_deref());
    instant(take, "starting_at", *starting_at);
    instant(take, "started_at", *started_at);
    number(take, "wait_us", wait_us.unwrap_or(i64::MIN));
    number(take, "clock_skew_us", *clock_skew_us);
    let receipt = receipt.unwrap_or_default();
    number(take, "receipt", receipt.status.map_or(-1, i64::from));
    number(take, "receipt", receipt.pid.map_or(-1, i64::from));
    let error = last_error.as_ref();
    number(take, "last_error", error.map_or(-1, |error| class(error.class)));
    text(take, "last_error", error.map(|error| &*error.message));
    instant(take, "last_error", error.map(|error| error.at));
}

const fn class(class: ErrorClass) -> i64 {
    match class {
        ErrorClass::Permanent => 0,
        ErrorClass::NotStarted => 1,
        ErrorClass::Ambiguous => 2,
        ErrorClass::Pressure => 3,
        ErrorClass::Crash => 4,
        ErrorClass::Poison => 5,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::job::{Delivery, JobId, Lane};

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    fn row() -> StoredJob {
        let job = Job {
            guid: crate::Guid::from_bytes([7; 16]),
            own_guid: true,
            idempotency_key: Some("key".into()),
            lane: Arc::new(Lane { queue: "a".into(), starter: "simulated".into(), destination: None }),
            priority: 3,
            delivery: Delivery::AtLeastOnce,
            max_attempts: 5,
            queued_at: at(1),
            run_at: at(2),
            expires_at: None,
            request: "{}".into(),
            submitted_by: None,
            grant: None,
        };
        let life = Life::new(job.run_at);
        StoredJob { id: JobId(1), job: Arc::new(job), life, quarantined: false }
    }

    fn changed(change: impl FnOnce(&mut Life)) -> StoredJob {
        let mut row = row();
        change(&mut row.life);
        row
    }

    #[test]
    fn numbers_of_rows_do_not_count_and_everything_else_does() {
        let other = StoredJob { id: JobId(2), ..row() };
        assert_eq!((row().compare(&other), row().digest()), (Compared::Same, other.digest()));
        let job = |change: fn(&mut Job)| {
            let mut row = row();
            change(Arc::make_mut(&mut row.job));
            row
        };
        for (other, name) in [
            (job(|job| job.idempotency_key = None), "idempotency_key"),
            (job(|job| job.own_guid = false), "own_guid"),
            (job(|job| job.request = "[]".into()), "request"),
            (job(|job| job.submitted_by = Some("ann".into())), "submitted_by"),
            (job(|job| job.grant = Some(Arc::default())), "grant"),
            (StoredJob { quarantined: true, ..row() }, "quarantined"),
            (changed(|life| life.state = State::Unknown), "state"),
            (
                changed(|life| life.past = Some(Past { wait_us: Some(0), ..Past::default() }.into())),
                "wait_us",
            ),
        ] {
            assert_eq!(row().compare(&other), Compared::Differs(vec![name]));
            assert_ne!(row().digest(), other.digest(), "{name}");
        }
        let traceless = changed(|life| life.past = Some(Box::default()));
        assert_eq!(row().digest(), traceless.digest());
    }

    #[test]
    fn a_job_that_took_a_step_since_went_on() {
        let was = row();
        for other in [
            changed(|life| (life.fence, life.state) = (1, State::Started)),
            changed(|life| (life.state, life.ended_at) = (State::Cancelled, Some(at(9)))),
            changed(|life| (life.run_at, life.next_at) = (at(9), at(9))),
        ] {
            assert_eq!(was.compare(&other), Compared::WentOn);
            assert!(matches!(other.compare(&was), Compared::WentOn | Compared::Differs(_)));
        }
        let claimed = changed(|life| (life.fence, life.state) = (1, State::Pending));
        assert_eq!(claimed.compare(&was), Compared::Differs(vec!["fence"]), "fences never go back");
        let mut next = changed(|life| life.next_at = at(9));
        assert_eq!(was.compare(&next), Compared::Differs(vec!["next_at"]));
        next.life.fence = 1;
        Arc::make_mut(&mut next.job).priority = 4;
        assert_eq!(was.compare(&next), Compared::Differs(vec!["priority"]), "what never changes");
    }

    #[test]
    fn a_sum_does_not_depend_on_the_order() {
        let rows = [row(), changed(|life| life.fence = 1), changed(|life| life.fence = 2)];
        let sum = |order: [usize; 3]| {
            let mut sum = Digest::default();
            order.into_iter().for_each(|n| sum.add(&rows[n]));
            sum
        };
        assert_eq!(sum([0, 1, 2]), sum([2, 0, 1]));
        assert_ne!(sum([0, 1, 2]), sum([0, 1, 1]));
        assert_eq!(sum([0, 1, 2]).to_string().len(), 64);
    }
}
