//! Rows as data. What cannot be decoded is never an error of the store: a claim leaves such a row
//! alone, a record shows what can be read of it.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::{Row, types::FromSql};
use serde::de::IgnoredAny;

use super::{
    grants::Grants,
    lanes::{Actors, Lanes},
};
use crate::store::codes::CLASSES;
pub(super) use crate::store::codes::{class_code, delivery_code, job_id, row_id};
use crate::{
    guid::Guid,
    job::{Delivery, Grant, Header, Job, JobRecord, Lane, LastError, Receipt, read_labels},
    state::{POISON_CRASHES, State},
    time::Timestamp,
};

/// A job as a claim reads it.
pub(super) struct Kept {
    pub(super) state: u8,
    pub(super) fence: u32,
    pub(super) attempt: u32,
    pub(super) crashes: u32,
    pub(super) lane: i64,
    /// None if some of it cannot be decoded.
    pub(super) job: Option<Job>,
}

/// Reads the columns of a `Job` statement.
pub(super) fn kept(
    row: &Row<'_>,
    lanes: &mut Lanes<'_>,
    actors: &mut Actors<'_>,
    grants: &mut Grants<'_>,
) -> rusqlite::Result<Kept> {
    let mut cells = Cells::of(row);
    let job = job(&mut cells, 18, lanes, actors, grants)?;
    let (state, fence, attempt, crashes) = (cells.get(1), cells.get(5), cells.get(6), cells.get(17));
    let job = cells.broken.is_none().then_some(job);
    Ok(Kept { state, fence, attempt, crashes, lane: cells.get(2), job })
}

/// The unchanging part; the grant is in this column.
pub(super) fn job(
    cells: &mut Cells<'_>,
    grant: usize,
    lanes: &mut Lanes<'_>,
    actors: &mut Actors<'_>,
    grants: &mut Grants<'_>,
) -> rusqlite::Result<Job> {
    let request: Arc<str> = cells.text(15).into();
    cells.check(15, serde_json::from_str::<IgnoredAny>(&request).is_ok());
    Ok(Job {
        guid: cells.guid(13),
        own_guid: cells.get(12),
        idempotency_key: cells.get(14),
        lane: cells.lane(2, lanes)?,
        priority: cells.get(3),
        delivery: cells.delivery(4),
        max_attempts: cells.get(7),
        queued_at: cells.at(8),
        run_at: cells.at(9),
        expires_at: cells.maybe_at(10),
        request,
        submitted_by: cells.actor(11, actors)?,
        grant: cells.grant(grant, grants)?,
    })
}

/// Reads the columns of a `Record` or `List…` statement.
pub(super) fn record(
    row: &Row<'_>,
    lanes: &mut Lanes<'_>,
    actors: &mut Actors<'_>,
    grants: &mut Grants<'_>,
) -> rusqlite::Result<JobRecord> {
    let mut cells = Cells::of(row);
    let lane = cells.lane(2, lanes)?;
    let request: Box<str> = cells.get(15);
    let labels = read_labels(&request).unwrap_or_else(|err| {
        // Labels of another kind are none; what follows them may be no JSON all the same.
        cells.check(15, err.is_data() && serde_json::from_str::<IgnoredAny>(&request).is_ok());
        BTreeMap::new()
    });
    let state = cells.state(1);
    let (starting_at, started_at) = (cells.maybe_at(24), cells.maybe_at(25));
    let mut record = JobRecord {
        guid: cells.guid(13),
        queue: lane.queue.clone(),
        state,
        starter: lane.starter.clone(),
        target: lane.destination.clone(),
        delivery: cells.delivery(4),
        priority: cells.get(3),
        labels,
        run_at: cells.at(9),
        next_at: cells.at(19),
        expires_at: cells.maybe_at(10),
        queued_at: cells.at(8),
        claimed_at: cells.maybe_at(22),
        starting_at,
        started_at,
        ended_at: cells.maybe_at(20),
        wait_us: cells.get(26),
        took_us: started_at.zip(starting_at).map(|(started, starting)| started.micros_since(starting)),
        attempt: cells.get(6),
        max_attempts: cells.get(7),
        crashes: cells.get(17),
        fence: cells.get(5),
        node: cells.actor(23, actors)?,
        receipt: None,
        last_error: cells.last_error(),
        possible_duplicate: cells.get(18),
        cancel_requested_at: cells.maybe_at(21),
        quarantined: cells.get(16),
        clock_skew_us: cells.get(27),
        submitted_by: cells.actor(11, actors)?,
    };
    // A receipt may be empty, so that started_at has to say whether there is one.
    if started_at.is_some() {
        record.receipt = Some(Receipt { status: cells.get(28), pid: cells.get(29) });
    }
    // Not shown, but a job whose grant is unreadable never starts.
    cells.grant(33, grants)?;
    record.quarantined |= cells.broken.is_some();
    Ok(record)
}

/// Reads the columns of a `Header`, `Due…` or `Ready` statement; none if they cannot be decoded.
pub(super) fn header(row: &Row<'_>, lanes: &mut Lanes<'_>) -> rusqlite::Result<Option<Header>> {
    let mut cells = Cells::of(row);
    let Some(lane) = lanes.get(cells.get(1))? else { return Ok(None) };
    let header = Header {
        id: job_id(cells.get(0)),
        lane,
        priority: cells.get(2),
        next_at: cells.at(3),
        alone: cells.get::<u32>(4) >= POISON_CRASHES,
    };
    Ok(cells.broken.is_none().then_some(header))
}

/// The cells of one row. One that cannot be decoded is noted and read as its type's empty value.
pub(super) struct Cells<'r> {
    row: &'r Row<'r>,
    /// The first column that cannot be decoded.
    pub(super) broken: Option<usize>,
}

impl<'r> Cells<'r> {
    pub(super) const fn of(row: &'r Row<'r>) -> Self {
        Self { row, broken: None }
    }

    /// Notes the column unless it is sound.
    pub(super) fn check(&mut self, column: usize, sound: bool) {
        if !sound {
            self.broken.get_or_insert(column);
        }
    }

    pub(super) fn get<T: FromSql + Default>(&mut self, column: usize) -> T {
        self.row.get(column).unwrap_or_else(|_| {
            self.check(column, false);
            T::default()
        })
    }

    /// Without a copy.
    fn text(&mut self, column: usize) -> &'r str {
        let text = self.row.get_ref(column).ok().and_then(|cell| cell.as_str().ok());
        self.check(column, text.is_some());
        text.unwrap_or_default()
    }

    pub(super) fn maybe_at(&mut self, column: usize) -> Option<Timestamp> {
        let micros: i64 = self.get::<Option<i64>>(column)?;
        let at = Timestamp::from_micros(micros);
        self.check(column, at.is_some());
        at
    }

    pub(super) fn at(&mut self, column: usize) -> Timestamp {
        self.maybe_at(column).unwrap_or_else(|| {
            self.check(column, false);
            Timestamp::MIN
        })
    }

    pub(super) fn state(&mut self, column: usize) -> State {
        State::from_code(self.get(column)).unwrap_or_else(|| {
            self.check(column, false);
            State::Unknown
        })
    }

    fn guid(&mut self, column: usize) -> Guid {
        Guid::from_bytes(self.row.get(column).unwrap_or_else(|_| {
            self.check(column, false);
            [0; 16]
        }))
    }

    fn delivery(&mut self, column: usize) -> Delivery {
        match self.get::<u8>(column) {
            1 => Delivery::AtLeastOnce,
            code => {
                self.check(column, code == 0);
                Delivery::AtMostOnce
            }
        }
    }

    /// Its class is in column 30, its words and time in the two that follow.
    pub(super) fn last_error(&mut self) -> Option<LastError> {
        let code = self.get::<Option<u8>>(30)?;
        let class = CLASSES.get(usize::from(code)).copied();
        self.check(30, class.is_some());
        Some(LastError { class: class?, message: self.get(31), at: self.at(32) })
    }

    fn lane(&mut self, column: usize, lanes: &mut Lanes<'_>) -> rusqlite::Result<Arc<Lane>> {
        let lane = lanes.get(self.get(column))?;
        self.check(column, lane.is_some());
        Ok(lane.unwrap_or_else(|| Arc::new(Lane { queue: "".into(), starter: "".into(), destination: None })))
    }

    /// One that cannot be decoded is never taken for none: that would allow more.
    fn grant(&mut self, column: usize, grants: &mut Grants<'_>) -> rusqlite::Result<Option<Arc<Grant>>> {
        let Some(id) = self.get::<Option<i64>>(column) else { return Ok(None) };
        let grant = grants.get(id)?;
        self.check(column, grant.is_some());
        Ok(grant)
    }

    pub(super) fn actor(
        &mut self,
        column: usize,
        actors: &mut Actors<'_>,
    ) -> rusqlite::Result<Option<Arc<str>>> {
        let Some(id) = self.get::<Option<i64>>(column) else { return Ok(None) };
        let name = actors.get(id)?;
        self.check(column, name.is_some());
        Ok(name)
    }
}
