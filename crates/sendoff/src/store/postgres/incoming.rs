//! Jobs of another store as the columns of a write, and whether they fit.

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    ask::Param,
    rows::{class_code, delivery_code, state_code, uuid_of},
};
use crate::{
    state::{Life, Past},
    store::transfer::{StoredJob, Unreadable},
    time::Timestamp,
};

/// The numbers of the texts that a job names.
pub(super) struct Named {
    pub(super) lane: i32,
    pub(super) submitter: Option<i32>,
    pub(super) grant: Option<i32>,
    pub(super) node: Option<i64>,
}

macro_rules! columns {
    ($($name:ident: $of:ty as $type:ident;)*) => {
        /// In the order of the statement `Import`.
        #[derive(Default)]
        pub(super) struct Columns<'j> {
            $($name: Vec<$of>,)*
        }

        impl Columns<'_> {
            pub(super) fn params(&self) -> Vec<Param<'_>> {
                vec![$((&self.$name, Type::$type)),*]
            }
        }
    };
}

columns! {
    next_at: i64 as INT8_ARRAY;
    expires_at: Option<i64> as INT8_ARRAY;
    queued_at: i64 as INT8_ARRAY;
    run_at: i64 as INT8_ARRAY;
    ended_at: Option<i64> as INT8_ARRAY;
    cancel_requested_at: Option<i64> as INT8_ARRAY;
    claimed_at: Option<i64> as INT8_ARRAY;
    starting_at: Option<i64> as INT8_ARRAY;
    started_at: Option<i64> as INT8_ARRAY;
    wait_us: Option<i64> as INT8_ARRAY;
    clock_skew_us: i64 as INT8_ARRAY;
    error_at: Option<i64> as INT8_ARRAY;
    node: Option<i64> as INT8_ARRAY;
    lane: i32 as INT4_ARRAY;
    fence: i32 as INT4_ARRAY;
    attempt: i32 as INT4_ARRAY;
    max_attempts: i32 as INT4_ARRAY;
    crashes: i32 as INT4_ARRAY;
    receipt_status: Option<i32> as INT4_ARRAY;
    receipt_pid: Option<i64> as INT8_ARRAY;
    submitted_by: Option<i32> as INT4_ARRAY;
    granted: Option<i32> as INT4_ARRAY;
    state: i16 as INT2_ARRAY;
    priority: i16 as INT2_ARRAY;
    delivery: i16 as INT2_ARRAY;
    error_class: Option<i16> as INT2_ARRAY;
    quarantined: bool as BOOL_ARRAY;
    possible_duplicate: bool as BOOL_ARRAY;
    own_guid: bool as BOOL_ARRAY;
    guid: Uuid as UUID_ARRAY;
    idempotency_key: Option<&'j str> as TEXT_ARRAY;
    error_message: Option<&'j str> as TEXT_ARRAY;
    request: &'j str as TEXT_ARRAY;
}

fn micros(at: Option<Timestamp>) -> Option<i64> {
    at.map(|at| at.as_micros())
}

/// Numbers that are checked by [`fits`].
fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl<'j> Columns<'j> {
    pub(super) fn push(&mut self, row: &'j StoredJob, named: &Named, none: &'j Past) {
        let StoredJob { job, life, .. } = row;
        let past = life.past.as_deref().unwrap_or(none);
        let (receipt, error) = (past.receipt.unwrap_or_default(), past.last_error.as_ref());
        self.next_at.push(life.next_at.as_micros());
        self.expires_at.push(micros(job.expires_at));
        self.queued_at.push(job.queued_at.as_micros());
        self.run_at.push(life.run_at.as_micros());
        self.ended_at.push(micros(life.ended_at));
        self.cancel_requested_at.push(micros(life.cancel_requested_at));
        self.claimed_at.push(micros(past.claimed_at));
        self.starting_at.push(micros(past.starting_at));
        self.started_at.push(micros(past.started_at));
        self.wait_us.push(past.wait_us);
        self.clock_skew_us.push(past.clock_skew_us);
        self.error_at.push(error.map(|error| error.at.as_micros()));
        self.node.push(named.node);
        self.lane.push(named.lane);
        self.fence.push(small(life.fence));
        self.attempt.push(small(life.attempt));
        self.max_attempts.push(small(job.max_attempts));
        self.crashes.push(small(life.crashes));
        self.receipt_status.push(receipt.status.map(i32::from));
        self.receipt_pid.push(receipt.pid.map(i64::from));
        self.submitted_by.push(named.submitter);
        self.granted.push(named.grant);
        self.state.push(state_code(life.state));
        self.priority.push(i16::from(job.priority));
        self.delivery.push(delivery_code(job.delivery));
        self.error_class.push(error.map(|error| class_code(error.class)));
        self.quarantined.push(row.quarantined);
        self.possible_duplicate.push(life.possible_duplicate);
        self.own_guid.push(job.own_guid);
        self.guid.push(uuid_of(&job.guid));
        self.idempotency_key.push(job.idempotency_key.as_deref());
        self.error_message.push(error.map(|error| &*error.message));
        self.request.push(&job.request);
    }
}

/// Whether PostgreSQL can hold all of a job: its texts have no NUL, its whole numbers have 31 bits.
pub(super) fn fits(row: &StoredJob) -> Result<(), Unreadable> {
    let StoredJob { job, life, .. } = row;
    let Life { fence, attempt, crashes, past, .. } = life;
    let past = past.as_deref();
    let texts = [
        ("idempotency_key", job.idempotency_key.as_deref()),
        ("queue", Some(&*job.lane.queue)),
        ("starter", Some(&*job.lane.starter)),
        ("target", job.lane.destination.as_deref()),
        ("request", Some(&*job.request)),
        ("submitted_by", job.submitted_by.as_deref()),
        ("node", past.and_then(|past| past.node.as_deref())),
        ("last_error", past.and_then(|past| past.last_error.as_ref()).map(|error| &*error.message)),
    ];
    let numbers =
        [("fence", fence), ("attempt", attempt), ("crashes", crashes), ("max_attempts", &job.max_attempts)];
    let with_nul = texts.into_iter().filter(|(_, text)| text.is_some_and(|text| text.contains('\0')));
    let with_nul = with_nul.map(|(name, _)| format!("its {name} has a NUL, which PostgreSQL cannot hold"));
    let too_large = numbers.into_iter().filter(|(_, number)| i32::try_from(**number).is_err());
    let too_large = too_large.map(|(name, _)| format!("its {name} is larger than PostgreSQL can hold"));
    match with_nul.chain(too_large).next() {
        None => Ok(()),
        Some(reason) => Err(Unreadable { id: row.id, guid: Some(job.guid), reason }),
    }
}
