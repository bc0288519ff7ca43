//! T3 to T6, T9 and T11: one statement for each kind of outcome.

use std::collections::HashMap;

use futures_util::future::join_all;
use tokio_postgres::{Row, types::Type};

use super::{
    ask::{Answer, Param},
    call::Work,
    plan::Item,
    rows::{class_code, row_id},
    sql::Sql,
    transaction::{Stop, Transaction},
};
use crate::{
    job::{ErrorClass, LastError},
    ports::{Settled, Settlement},
    state::{Outcome, State},
    time::Timestamp,
};

/// Settlements on their way.
pub(super) struct Settling {
    open: HashMap<i64, Item>,
    settled: Vec<(Item, Settled)>,
}

pub(super) async fn settle(tx: &Transaction<'_>, group: &mut [Work], items: &[Item]) -> Result<(), Stop> {
    Settling::send(tx, group, items).await?.finish(tx, group).await
}

impl Settling {
    /// Settles what is still that attempt's.
    pub(super) async fn send(tx: &Transaction<'_>, group: &[Work], items: &[Item]) -> Answer<Self> {
        let mut open: HashMap<i64, Item> = HashMap::with_capacity(items.len());
        let mut kinds: Vec<(Sql, Columns)> = Vec::new();
        for item in items {
            let Some((settlement, now)) = given(group, *item) else { continue };
            open.insert(row_id(settlement.id), *item);
            let kind = kind(&settlement.outcome);
            let place = kinds.iter().position(|(other, _)| *other as usize == kind as usize);
            let place = place.unwrap_or_else(|| {
                kinds.push((kind, Columns::default()));
                kinds.len() - 1
            });
            kinds[place].1.push(settlement, now);
        }
        let mut settling = Self { open, settled: Vec::with_capacity(items.len()) };
        for rows in join_all(kinds.iter().map(|(kind, columns)| columns.run(tx, *kind))).await {
            settling.take(&rows?)?;
        }
        Ok(settling)
    }

    /// Whether nothing is left to do.
    pub(super) fn is_through(&self) -> bool {
        self.open.is_empty()
    }

    fn take(&mut self, rows: &[Row]) -> Answer<()> {
        for row in rows {
            if let Some(item) = self.open.remove(&row.try_get::<_, i64>(0)?) {
                self.settled.push((item, Settled { state: state(row.try_get(1)?), applied: true }));
            }
        }
        Ok(())
    }

    /// Sees to the rest, which is rare: the job is no longer that attempt's. Then answers the calls.
    pub(super) async fn finish(mut self, tx: &Transaction<'_>, group: &mut [Work]) -> Result<(), Stop> {
        let mut late = Columns::default();
        for (settlement, now) in self.open.values().filter_map(|item| given(group, *item)) {
            if matches!(settlement.outcome, Outcome::Started { .. }) {
                late.push(settlement, now);
            }
        }
        if !late.ids.is_empty() {
            self.take(&late.run(tx, Sql::LateStarted).await?)?;
        }
        let Self { mut open, mut settled } = self;
        if !open.is_empty() {
            let ids: Vec<i64> = open.keys().copied().collect();
            for row in tx.rows(Sql::Standing, &[(&ids, Type::INT8_ARRAY)]).await? {
                let row = Standing::read(&row)?;
                let Some(item) = open.remove(&row.id) else { continue };
                let Some((settlement, now)) = given(group, item) else { continue };
                // An earlier try may have been done, though its answer never came.
                let applied = tx.doubtful.contains(&(row.id, settlement.fence))
                    && row.shows(settlement, now.as_micros());
                settled.push((item, Settled { state: row.state, applied }));
            }
        }
        // Only what is final is ever deleted; which final state it had nobody knows.
        settled
            .extend(open.into_values().map(|item| (item, Settled { state: State::Unknown, applied: false })));
        for ((call, item), settled) in settled {
            let Work::Settle(call) = &mut group[call] else { continue };
            let nothing = Settled { state: State::Unknown, applied: false };
            let all = call.input.0.len();
            if let Ok(output) = call.output.get_or_insert_with(|| Ok(vec![nothing; all])) {
                output[item] = settled;
            }
        }
        Ok(())
    }
}

fn given(group: &[Work], (call, item): Item) -> Option<(&Settlement, Timestamp)> {
    match &group[call] {
        Work::Settle(settle) => Some((settle.input.0.get(item)?, settle.input.1)),
        _ => None,
    }
}

fn kind(outcome: &Outcome) -> Sql {
    match outcome {
        Outcome::Started { .. } => Sql::Started,
        Outcome::Retry { .. } => Sql::Retry,
        Outcome::Failed { .. } => Sql::Failed,
        Outcome::Unknown { .. } => Sql::Unknown,
        Outcome::Expired => Sql::Overdue,
        Outcome::Released { .. } => Sql::Release,
    }
}

fn state(code: i16) -> State {
    // The table's CHECK admits no other code.
    u8::try_from(code).ok().and_then(State::from_code).unwrap_or(State::Unknown)
}

/// Settlements of one kind; which of the columns are used depends on the kind.
#[derive(Default)]
struct Columns {
    ids: Vec<i64>,
    fences: Vec<i32>,
    begun: Vec<Option<i64>>,
    skews: Vec<Option<i64>>,
    nows: Vec<i64>,
    started: Vec<i64>,
    statuses: Vec<Option<i32>>,
    pids: Vec<Option<i64>>,
    classes: Vec<Option<i16>>,
    messages: Vec<Option<String>>,
    ats: Vec<Option<i64>>,
    nexts: Vec<i64>,
    ambiguous: Vec<bool>,
}

impl Columns {
    fn push(&mut self, settlement: &Settlement, now: Timestamp) {
        self.ids.push(row_id(settlement.id));
        // No row has a fence that does not fit.
        self.fences.push(i32::try_from(settlement.fence).unwrap_or(-1));
        self.begun.push(settlement.begun.map(|begun| begun.starting_at.as_micros()));
        self.skews.push(settlement.begun.map(|begun| begun.clock_skew_us));
        self.nows.push(now.as_micros());
        match &settlement.outcome {
            Outcome::Started { started_at, receipt } => {
                self.started.push(started_at.as_micros());
                self.statuses.push(receipt.status.map(i32::from));
                self.pids.push(receipt.pid.map(i64::from));
            }
            Outcome::Retry { next_at, ambiguous, error } => {
                self.error(Some(error));
                self.nexts.push(next_at.as_micros());
                self.ambiguous.push(*ambiguous);
            }
            Outcome::Failed { ambiguous, error } => {
                self.error(Some(error));
                self.ambiguous.push(*ambiguous);
            }
            Outcome::Unknown { error } => self.error(Some(error)),
            Outcome::Expired => {}
            Outcome::Released { next_at, error } => {
                self.error(error.as_ref());
                self.nexts.push(next_at.as_micros());
            }
        }
    }

    fn error(&mut self, error: Option<&LastError>) {
        self.classes.push(error.map(|error| class_code(error.class)));
        // PostgreSQL's texts have no NUL.
        self.messages.push(error.map(|error| error.message.replace('\0', "\u{FFFD}")));
        self.ats.push(error.map(|error| error.at.as_micros()));
    }

    async fn run(&self, tx: &Transaction<'_>, kind: Sql) -> Answer<Vec<Row>> {
        let mut params: Vec<Param<'_>> = vec![
            (&self.ids, Type::INT8_ARRAY),
            (&self.fences, Type::INT4_ARRAY),
            (&self.begun, Type::INT8_ARRAY),
            (&self.skews, Type::INT8_ARRAY),
            (&self.nows, Type::INT8_ARRAY),
        ];
        if !self.started.is_empty() {
            params.push((&self.started, Type::INT8_ARRAY));
            params.push((&self.statuses, Type::INT4_ARRAY));
            params.push((&self.pids, Type::INT8_ARRAY));
        }
        if !self.classes.is_empty() {
            params.push((&self.classes, Type::INT2_ARRAY));
            params.push((&self.messages, Type::TEXT_ARRAY));
            params.push((&self.ats, Type::INT8_ARRAY));
        }
        if !self.nexts.is_empty() {
            params.push((&self.nexts, Type::INT8_ARRAY));
        }
        if !self.ambiguous.is_empty() {
            params.push((&self.ambiguous, Type::BOOL_ARRAY));
        }
        tx.rows(kind, &params).await
    }
}

/// Where a job stands, as far as it tells one outcome from another.
struct Standing {
    id: i64,
    state: State,
    fence: i32,
    next_at: i64,
    ended_at: Option<i64>,
    started_at: Option<i64>,
    error_at: Option<i64>,
    error_class: Option<i16>,
}

impl Standing {
    fn read(row: &Row) -> Answer<Self> {
        Ok(Self {
            id: row.try_get(0)?,
            state: state(row.try_get(1)?),
            fence: row.try_get(2)?,
            next_at: row.try_get(3)?,
            ended_at: row.try_get(4)?,
            started_at: row.try_get(5)?,
            error_at: row.try_get(6)?,
            error_class: row.try_get(7)?,
        })
    }

    /// Whether the row looks exactly as this settlement leaves it.
    fn shows(&self, settlement: &Settlement, now: i64) -> bool {
        if i64::from(self.fence) != i64::from(settlement.fence) {
            return false;
        }
        let ended = |at: i64| self.ended_at == Some(at);
        let erred = |error: &LastError| {
            let class: ErrorClass = error.class;
            self.error_at == Some(error.at.as_micros()) && self.error_class == Some(class_code(class))
        };
        let back = |next_at: &Timestamp| match self.state {
            State::Pending => self.next_at == next_at.as_micros(),
            State::Cancelled => ended(now),
            _ => false,
        };
        match &settlement.outcome {
            Outcome::Started { started_at, .. } => {
                let started = started_at.as_micros();
                self.state == State::Started && self.started_at == Some(started) && ended(now.max(started))
            }
            Outcome::Retry { next_at, error, .. } => back(next_at) && erred(error),
            Outcome::Failed { error, .. } => self.state == State::Failed && ended(now) && erred(error),
            Outcome::Unknown { error } => self.state == State::Unknown && ended(now) && erred(error),
            Outcome::Expired => matches!(self.state, State::Expired | State::Failed) && ended(now),
            Outcome::Released { next_at, error } => back(next_at) && error.as_ref().is_none_or(erred),
        }
    }
}
