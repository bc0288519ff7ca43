//! Rows as data. What cannot be decoded is never an error of the store: a claim leaves such a row
//! alone, a record shows what can be read of it.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::IgnoredAny;
use tokio_postgres::{Row, types::FromSqlOwned};
use uuid::Uuid;

use super::texts::Known;
use crate::store::codes::{self, CLASSES};
pub(super) use crate::store::codes::{job_id, row_id};
use crate::{
    guid::Guid,
    job::{
        Delivery, ErrorClass, Grant, Header, Job, JobId, JobRecord, Lane, LastError, Receipt, read_labels,
    },
    state::{Life, POISON_CRASHES, Past, State},
    store::transfer::StoredJob,
    time::Timestamp,
};

pub(super) fn class_code(class: ErrorClass) -> i16 {
    i16::from(codes::class_code(class))
}

pub(super) fn delivery_code(delivery: Delivery) -> i16 {
    i16::from(codes::delivery_code(delivery))
}

pub(super) fn state_code(state: State) -> i16 {
    i16::from(state.code())
}

pub(super) fn guid_of(uuid: Uuid) -> Guid {
    Guid::from_bytes(uuid.into_bytes())
}

pub(super) fn uuid_of(guid: &Guid) -> Uuid {
    Uuid::from_bytes(*guid.as_bytes())
}

/// A job as a claim reads it.
pub(super) struct Kept {
    pub(super) id: JobId,
    pub(super) fence: u32,
    pub(super) attempt: u32,
    pub(super) crashes: u32,
    /// None if some of it cannot be decoded.
    pub(super) job: Option<Job>,
}

/// Reads `job_columns!`. Its `run_at` is the row's, as of now.
pub(super) fn kept(row: &Row, known: &Known) -> Kept {
    let mut cells = Cells { row, known, broken: false };
    let job = job(&mut cells);
    cells.state(1);
    Kept {
        id: job_id(cells.get(0)),
        fence: cells.number::<i32, _>(5),
        attempt: cells.number::<i32, _>(6),
        crashes: cells.number::<i32, _>(17),
        job: (!cells.broken).then_some(job),
    }
}

/// The unchanging part.
fn job(cells: &mut Cells<'_>) -> Job {
    let request: Arc<str> = cells.get::<String>(15).into();
    cells.broken |= serde_json::from_str::<IgnoredAny>(&request).is_err();
    Job {
        guid: cells.guid(13),
        own_guid: cells.get(12),
        idempotency_key: cells.get::<Option<String>>(14).map(String::into_boxed_str),
        lane: cells.lane(2),
        priority: cells.number::<i16, _>(3),
        delivery: cells.delivery(4),
        max_attempts: cells.number::<i32, _>(7),
        queued_at: cells.at(8),
        run_at: cells.at(9),
        expires_at: cells.maybe_at(10),
        request,
        submitted_by: cells.actor(11),
        grant: cells.grant(18),
    }
}

/// Reads `record_columns!` as everything that is kept of a job; none if some of it cannot be decoded.
pub(super) fn stored(row: &Row, known: &Known) -> Option<StoredJob> {
    let mut cells = Cells { row, known, broken: false };
    let job = job(&mut cells);
    let started_at = cells.maybe_at(26);
    let past = Past {
        claimed_at: cells.maybe_at(23),
        node: cells.node(24),
        starting_at: cells.maybe_at(25),
        started_at,
        wait_us: cells.get(27),
        clock_skew_us: cells.get(28),
        receipt: started_at.map(|_| cells.receipt()),
        last_error: cells.last_error(),
    };
    let life = Life {
        state: cells.state(1).unwrap_or(State::Unknown),
        fence: cells.number::<i32, _>(5),
        attempt: cells.number::<i32, _>(6),
        crashes: cells.number::<i32, _>(17),
        possible_duplicate: cells.get(19),
        run_at: job.run_at,
        next_at: cells.at(20),
        ended_at: cells.maybe_at(21),
        cancel_requested_at: cells.maybe_at(22),
        past: (past != Past::default()).then(|| Box::new(past)),
    };
    let (id, quarantined) = (job_id(cells.get(0)), cells.get(16));
    (!cells.broken).then(|| StoredJob { id, job: job.into(), life, quarantined })
}

/// Reads `record_columns!`.
pub(super) fn record(row: &Row, known: &Known) -> JobRecord {
    let mut cells = Cells { row, known, broken: false };
    let lane = cells.lane(2);
    let request = cells.get::<String>(15);
    let labels = read_labels(&request).unwrap_or_else(|err| {
        // Labels of another kind are none; what follows them may be no JSON all the same.
        cells.broken |= !err.is_data() || serde_json::from_str::<IgnoredAny>(&request).is_err();
        BTreeMap::new()
    });
    let (starting_at, started_at) = (cells.maybe_at(25), cells.maybe_at(26));
    let mut record = JobRecord {
        guid: cells.guid(13),
        queue: lane.queue.clone(),
        state: cells.state(1).unwrap_or(State::Unknown),
        starter: lane.starter.clone(),
        target: lane.destination.clone(),
        delivery: cells.delivery(4),
        priority: cells.number::<i16, _>(3),
        labels,
        run_at: cells.at(9),
        next_at: cells.at(20),
        expires_at: cells.maybe_at(10),
        queued_at: cells.at(8),
        claimed_at: cells.maybe_at(23),
        starting_at,
        started_at,
        ended_at: cells.maybe_at(21),
        wait_us: cells.get(27),
        took_us: started_at.zip(starting_at).map(|(started, starting)| started.micros_since(starting)),
        attempt: cells.number::<i32, _>(6),
        max_attempts: cells.number::<i32, _>(7),
        crashes: cells.number::<i32, _>(17),
        fence: cells.number::<i32, _>(5),
        node: cells.node(24),
        receipt: None,
        last_error: cells.last_error(),
        possible_duplicate: cells.get(19),
        cancel_requested_at: cells.maybe_at(22),
        quarantined: cells.get(16),
        clock_skew_us: cells.get(28),
        submitted_by: cells.actor(11),
    };
    // A receipt may be empty, so that started_at has to say whether there is one.
    if started_at.is_some() {
        record.receipt = Some(cells.receipt());
    }
    // Not shown, but a job whose grant is unreadable never starts.
    cells.grant(18);
    record.quarantined |= cells.broken;
    record
}

/// Reads `header_columns!`; none if they cannot be decoded.
pub(super) fn header(row: &Row, known: &Known) -> Option<Header> {
    let mut cells = Cells { row, known, broken: false };
    let header = Header {
        id: job_id(cells.get(0)),
        lane: cells.lane(1),
        priority: cells.number::<i16, _>(2),
        next_at: cells.at(3),
        alone: cells.number::<i32, u32>(4) >= POISON_CRASHES,
    };
    (!cells.broken).then_some(header)
}

/// The cells of one row. One that cannot be decoded is noted and read as its type's empty value.
struct Cells<'r> {
    row: &'r Row,
    known: &'r Known,
    broken: bool,
}

impl Cells<'_> {
    fn get<T: FromSqlOwned + Default>(&mut self, column: usize) -> T {
        self.row.try_get(column).unwrap_or_else(|_| {
            self.broken = true;
            T::default()
        })
    }

    fn maybe_number<S: FromSqlOwned, T: TryFrom<S>>(&mut self, column: usize) -> Option<T> {
        let number = self.get::<Option<S>>(column)?;
        let number = T::try_from(number).ok();
        self.broken |= number.is_none();
        number
    }

    fn number<S: FromSqlOwned, T: TryFrom<S> + Default>(&mut self, column: usize) -> T {
        self.maybe_number::<S, T>(column).unwrap_or_else(|| {
            self.broken = true;
            T::default()
        })
    }

    fn state(&mut self, column: usize) -> Option<State> {
        let state = self.maybe_number::<i16, u8>(column).and_then(State::from_code);
        self.broken |= state.is_none();
        state
    }

    fn maybe_at(&mut self, column: usize) -> Option<Timestamp> {
        let at = Timestamp::from_micros(self.get::<Option<i64>>(column)?);
        self.broken |= at.is_none();
        at
    }

    fn at(&mut self, column: usize) -> Timestamp {
        self.maybe_at(column).unwrap_or_else(|| {
            self.broken = true;
            Timestamp::MIN
        })
    }

    fn guid(&mut self, column: usize) -> Guid {
        guid_of(self.get(column))
    }

    fn delivery(&mut self, column: usize) -> Delivery {
        match self.get::<i16>(column) {
            1 => Delivery::AtLeastOnce,
            code => {
                self.broken |= code != 0;
                Delivery::AtMostOnce
            }
        }
    }

    fn receipt(&mut self) -> Receipt {
        Receipt { status: self.maybe_number::<i32, _>(29), pid: self.maybe_number::<i64, _>(30) }
    }

    fn last_error(&mut self) -> Option<LastError> {
        let code = self.get::<Option<i16>>(31)?;
        let class = usize::try_from(code).ok().and_then(|code| CLASSES.get(code).copied());
        self.broken |= class.is_none();
        Some(LastError { class: class?, message: self.get(32), at: self.at(33) })
    }

    fn lane(&mut self, column: usize) -> Arc<Lane> {
        let id = self.get(column);
        self.known.lane(id).cloned().unwrap_or_else(|| {
            self.broken = true;
            Arc::new(Lane { queue: "".into(), starter: "".into(), destination: None })
        })
    }

    /// One that cannot be decoded is never taken for none: that would allow more.
    fn grant(&mut self, column: usize) -> Option<Arc<Grant>> {
        let grant = self.known.grant(self.get::<Option<i32>>(column)?).cloned();
        self.broken |= grant.is_none();
        grant
    }

    fn actor(&mut self, column: usize) -> Option<Arc<str>> {
        let name = self.known.actor(self.get::<Option<i32>>(column)?).cloned();
        self.broken |= name.is_none();
        name
    }

    fn node(&mut self, column: usize) -> Option<Arc<str>> {
        let name = self.known.node(self.get::<Option<i64>>(column)?).cloned();
        self.broken |= name.is_none();
        name
    }
}
