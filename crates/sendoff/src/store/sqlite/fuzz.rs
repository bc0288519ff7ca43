//! Rows whose cells hold anything, as a file that was damaged or written by somebody else has them: a
//! row is read as what it says, or marked as one that cannot be.

use std::cell::RefCell;

use rusqlite::{Connection, Statement, params_from_iter, types::Value};
use serde::de::IgnoredAny;

use super::{
    grants::{Grants, read as read_grant},
    lanes::{Actors, Lanes},
    open::MIGRATIONS,
    rows,
    sql::Texts,
};
use crate::{
    job::{Grant, JobRecord, labels},
    state::State,
    time::Timestamp,
};

/// The columns of a record's statement.
const COLUMNS: usize = 34;

/// What reads rows, over a database that holds the lane, the actor and the grant of number 1.
struct Readers {
    record: Statement<'static>,
    kept: Statement<'static>,
    header: Statement<'static>,
    lanes: Lanes<'static>,
    actors: Actors<'static>,
    grants: Grants<'static>,
}

thread_local! {
    static READERS: RefCell<Readers> = RefCell::new(Readers::new().expect("a database in memory"));
}

impl Readers {
    fn new() -> rusqlite::Result<Self> {
        let conn: &'static Connection = Box::leak(Box::new(Connection::open_in_memory()?));
        MIGRATIONS.iter().try_for_each(|sql| conn.execute_batch(sql))?;
        let grant = serde_json::to_string(&Grant::default()).expect("a grant has a JSON form");
        conn.execute("INSERT INTO lane VALUES (1, 'q', 'http', '=h:80', 1)", [])?;
        conn.execute("INSERT INTO actor VALUES (1, 'somebody')", [])?;
        conn.execute("INSERT INTO granted VALUES (1, ?1)", [grant])?;
        let select = |columns: &[usize]| {
            let columns: Vec<_> = columns.iter().map(|column| format!("?{}", column + 1)).collect();
            conn.prepare(&format!("SELECT {} WHERE ?{COLUMNS} IS ?{COLUMNS}", columns.join(", ")))
        };
        let all: Vec<_> = (0..COLUMNS).collect();
        let texts = Texts::new();
        Ok(Self {
            record: select(&all)?,
            kept: select(&[&all[..18], &[33]].concat())?,
            header: select(&[0, 2, 3, 19, 17])?,
            lanes: Lanes::new(conn, &texts)?,
            actors: Actors::new(conn, &texts)?,
            grants: Grants::new(conn, &texts)?,
        })
    }
}

/// Changes of a sound row: for each a column, a kind of value, and the value.
pub(crate) fn row(data: &[u8]) {
    let mut cells = sound();
    let mut bytes = data;
    while let Some(([column, kind], rest)) = bytes.split_first_chunk() {
        bytes = rest;
        let Some(value) = value(*kind, &mut bytes) else { break };
        cells[usize::from(*column) % COLUMNS] = value;
    }
    READERS.with_borrow_mut(|readers| readers.judge(&cells));
    // A grant's text is read as what it says, or not at all.
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(grant) = read_grant(text)
    {
        assert_eq!(serde_json::to_string(&grant).expect("a grant has a JSON form"), text);
    }
}

impl Readers {
    fn judge(&mut self, cells: &[Value]) {
        let Self { record, kept, header, lanes, actors, grants } = self;
        let broken: Vec<_> = (0..COLUMNS).filter(|&column| !is_sound(column, &cells[column])).collect();
        let one_of = |columns: &[usize]| columns.iter().any(|column| broken.contains(column));
        let marked = matches!(cells[16], Value::Integer(mark) if mark != 0);
        let started = cells[25] != Value::Null && !one_of(&[25]);
        let failed = matches!(cells[30], Value::Integer(0..=5));

        let read = record.query_row(params_from_iter(cells), |row| rows::record(row, lanes, actors, grants));
        let read = read.expect("a row is never an error of the store");
        let unreadable = broken.iter().any(|column| match column {
            28 | 29 => started,
            31 | 32 => failed,
            // A record shows neither the key, nor whose the guid is.
            0 | 12 | 14 => false,
            _ => true,
        });
        assert_eq!(read.quarantined, unreadable || marked, "{broken:?} {cells:?}");
        if !unreadable {
            says(&read, cells);
        }
        let json = serde_json::to_string(&read).expect("a record has a JSON form");
        assert_eq!(serde_json::from_str::<JobRecord>(&json).expect(&json), read);

        let read = kept.query_row(params_from_iter(cells), |row| rows::kept(row, lanes, actors, grants));
        let job = read.expect("a row is never an error of the store").job;
        // Which state that is, the claim itself asks.
        let state = matches!(cells[1], Value::Integer(0..=255));
        let needed = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 33];
        assert_eq!(job.is_none(), one_of(&needed) || !state, "{broken:?} {cells:?}");
        if let Some(job) = job {
            assert!(is(&cells[33], 1) == job.grant.is_some() && *job.lane.queue == *"q");
            assert!(matches!(&cells[15], Value::Text(text) if **text == *job.request));
            // Whatever the request says, it has labels or it has none.
            let _ = labels(&job.request);
        }

        let read = header.query_row(params_from_iter(cells), |row| rows::header(row, lanes));
        let header = read.expect("a row is never an error of the store");
        assert_eq!(header.is_none(), one_of(&[0, 2, 3, 17, 19]), "{broken:?} {cells:?}");
    }
}

/// A record says what its row says.
fn says(record: &JobRecord, cells: &[Value]) {
    let number = |column: usize, value: Option<i64>| {
        assert_eq!(value.map_or(Value::Null, Value::Integer), cells[column], "column {column}");
    };
    let time = |column: usize, at: Option<Timestamp>| number(column, at.map(Timestamp::as_micros));
    number(1, Some(record.state.code().into()));
    number(3, Some(record.priority.into()));
    number(5, Some(record.fence.into()));
    number(6, Some(record.attempt.into()));
    number(7, Some(record.max_attempts.into()));
    number(17, Some(record.crashes.into()));
    number(26, record.wait_us);
    number(27, Some(record.clock_skew_us));
    for (column, at) in [(8, record.queued_at), (9, record.run_at), (19, record.next_at)] {
        time(column, Some(at));
    }
    time(10, record.expires_at);
    time(20, record.ended_at);
    time(21, record.cancel_requested_at);
    time(22, record.claimed_at);
    time(24, record.starting_at);
    time(25, record.started_at);
    number(11, record.submitted_by.as_ref().map(|_| 1));
    number(23, record.node.as_ref().map(|_| 1));
    assert_eq!(Value::Blob(record.guid.as_bytes().to_vec()), cells[13]);
    assert_eq!(record.receipt.is_some(), record.started_at.is_some());
    if let Some(receipt) = record.receipt {
        number(28, receipt.status.map(Into::into));
        number(29, receipt.pid.map(Into::into));
    }
    assert_eq!(record.last_error.is_some(), cells[30] != Value::Null);
    if let Some(error) = &record.last_error {
        assert_eq!(Value::Text(error.message.clone()), cells[31]);
        time(32, Some(error.at));
    }
}

fn is(cell: &Value, number: i64) -> bool {
    *cell == Value::Integer(number)
}

/// Whether a cell holds what its column is for.
fn is_sound(column: usize, cell: &Value) -> bool {
    let within = |most: i64| matches!(cell, Value::Integer(number) if (0..=most).contains(number));
    let is_null = *cell == Value::Null;
    let is_time = || matches!(cell, Value::Integer(micros) if Timestamp::from_micros(*micros).is_some());
    match column {
        1 => {
            matches!(cell, Value::Integer(code) if u8::try_from(*code).is_ok_and(|code| State::from_code(code).is_some()))
        }
        2 => is(cell, 1),
        3 => within(255),
        4 => within(1),
        5 | 6 | 7 | 17 => within(u32::MAX.into()),
        8 | 9 | 19 | 32 => is_time(),
        10 | 20 | 21 | 22 | 24 | 25 => is_null || is_time(),
        11 | 23 | 33 => is_null || is(cell, 1),
        0 | 12 | 16 | 18 | 27 => matches!(cell, Value::Integer(_)),
        13 => matches!(cell, Value::Blob(bytes) if bytes.len() == 16),
        14 => is_null || matches!(cell, Value::Text(_)),
        15 => matches!(cell, Value::Text(text) if serde_json::from_str::<IgnoredAny>(text).is_ok()),
        26 => is_null || matches!(cell, Value::Integer(_)),
        28 => is_null || within(u16::MAX.into()),
        29 => is_null || within(u32::MAX.into()),
        30 => is_null || within(5),
        _ => matches!(cell, Value::Text(_)),
    }
}

fn value(kind: u8, bytes: &mut &[u8]) -> Option<Value> {
    let mut take = |length: usize| {
        let (taken, rest) = bytes.split_at_checked(length)?;
        *bytes = rest;
        Some(taken)
    };
    Some(match kind % 7 {
        0 => Value::Null,
        1 => Value::Integer(i64::from_le_bytes(take(8)?.try_into().ok()?)),
        2 => Value::Integer(i64::from(take(1)?[0].cast_signed())),
        // One of the edges of what numbers can be.
        3 => {
            let [bits, off] = take(2)? else { return None };
            let edge = 1_i64.checked_shl((bits % 64).into()).unwrap_or_default();
            Value::Integer(edge.wrapping_add(i64::from(*off) - 128))
        }
        // SQLite keeps no NaN: one that is bound is a NULL.
        4 => match f64::from_le_bytes(take(8)?.try_into().ok()?) {
            nan if nan.is_nan() => Value::Null,
            real => Value::Real(real),
        },
        5 => {
            let length = take(1)?[0];
            Value::Text(String::from_utf8_lossy(take(length.into())?).into_owned())
        }
        _ => {
            let length = take(1)?[0];
            Value::Blob(take(length.into())?.to_vec())
        }
    })
}

/// A job that started after an attempt that failed.
fn sound() -> Vec<Value> {
    let time = |seconds: i64| Value::Integer((1_800_000_000 + seconds) * 1_000_000);
    let number = Value::Integer;
    let mut cells = vec![Value::Null; COLUMNS];
    for (column, value) in
        [(0, 7), (1, 2), (2, 1), (3, 5), (4, 1), (5, 2), (6, 2), (7, 5), (11, 1), (12, 1), (16, 0)]
    {
        cells[column] = number(value);
    }
    for (column, value) in [(17, 0), (18, 1), (23, 1), (26, 0), (27, 0), (28, 204), (30, 2), (33, 1)] {
        cells[column] = number(value);
    }
    for (column, seconds) in [(8, 0), (9, 0), (19, 1), (20, 3), (22, 1), (24, 2), (25, 3), (32, 1)] {
        cells[column] = time(seconds);
    }
    cells[13] = Value::Blob(vec![7; 16]);
    cells[15] = Value::Text(r#"{"start":{"http":{"url":"http://h/"}},"labels":{"a":"b"}}"#.to_owned());
    cells[31] = Value::Text("it broke".to_owned());
    cells
}
