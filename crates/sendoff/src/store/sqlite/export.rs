//! Moving away: rows as they are kept, for another store, and the mark that says where they went.

use std::{collections::BTreeMap, path::Path, str::FromStr};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    grants::Grants,
    lanes::{Actors, Lanes},
    open::MOVED_ID,
    reader::Reader,
    rows::{self, Cells, job_id, row_id},
    sql::Sql,
    writer::Writer,
};
use crate::{
    error::{Error, ErrorKind, Result},
    guid::Guid,
    job::{JobId, Receipt},
    state::{Life, Past},
    store::transfer::{Moved, StoredJob, Unreadable},
    time::Timestamp,
};

/// Requests of about so many bytes end an answer early.
const BYTES: usize = 8 << 20;

impl Reader<'_> {
    pub(super) fn export(
        &mut self,
        after: Option<JobId>,
        limit: usize,
    ) -> rusqlite::Result<Vec<Result<StoredJob, Unreadable>>> {
        let Self { st, lanes, actors, grants, .. } = self;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = st[Sql::List].query([after.map_or(0, row_id), limit])?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while bytes < BYTES {
            let Some(row) = rows.next()? else { break };
            let job = stored(row, lanes, actors, grants)?;
            bytes += job.as_ref().map_or(0, |job| job.job.request.len());
            found.push(job);
        }
        Ok(found)
    }

    pub(super) fn bookmarks(&mut self) -> rusqlite::Result<BTreeMap<String, Vec<u8>>> {
        self.st[Sql::Bookmarks].query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    }
}

/// Reads the columns of a `List…` statement.
fn stored(
    row: &Row<'_>,
    lanes: &mut Lanes<'_>,
    actors: &mut Actors<'_>,
    grants: &mut Grants<'_>,
) -> rusqlite::Result<Result<StoredJob, Unreadable>> {
    let mut cells = Cells::of(row);
    let id = job_id(cells.get(0));
    let job = rows::job(&mut cells, 33, lanes, actors, grants)?;
    let started_at = cells.maybe_at(25);
    let past = Past {
        claimed_at: cells.maybe_at(22),
        node: cells.actor(23, actors)?,
        starting_at: cells.maybe_at(24),
        started_at,
        wait_us: cells.get(26),
        clock_skew_us: cells.get(27),
        receipt: started_at.map(|_| Receipt { status: cells.get(28), pid: cells.get(29) }),
        last_error: cells.last_error(),
    };
    let life = Life {
        state: cells.state(1),
        fence: cells.get(5),
        attempt: cells.get(6),
        crashes: cells.get(17),
        possible_duplicate: cells.get(18),
        run_at: job.run_at,
        next_at: cells.at(19),
        ended_at: cells.maybe_at(20),
        cancel_requested_at: cells.maybe_at(21),
        past: (past != Past::default()).then(|| Box::new(past)),
    };
    let quarantined = cells.get(16);
    Ok(match cells.broken {
        None => Ok(StoredJob { id, job: job.into(), life, quarantined }),
        Some(column) => {
            let reason = format!("its {} cannot be read", row.as_ref().column_name(column)?);
            Err(Unreadable { id, guid: (column != 13).then_some(job.guid), reason })
        }
    })
}

/// Says in the file itself that its jobs are elsewhere. Its application number changes with it, so
/// that a version of sendoff that does not know the mark refuses the file as well.
pub(super) fn mark(writer: &mut Writer<'_>, moved: &Moved) -> rusqlite::Result<Result<()>> {
    let conn = writer.conn;
    conn.execute_batch(
        "CREATE TABLE moved (id TEXT NOT NULL, target TEXT NOT NULL, at INTEGER NOT NULL) STRICT",
    )?;
    let values = params![moved.id.to_string(), moved.to, moved.at.as_micros()];
    conn.execute("INSERT INTO moved (id, target, at) VALUES (?1, ?2, ?3)", values)?;
    conn.pragma_update(None, "application_id", MOVED_ID)?;
    Ok(Ok(()))
}

/// The mark, if there is one.
pub(super) fn moved(conn: &Connection) -> rusqlite::Result<Option<Moved>> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let row = conn.query_row("SELECT id, target, at FROM moved", [], read).optional()?;
    Ok(row.and_then(|(id, to, at): (String, String, i64)| {
        Some(Moved { id: Guid::from_str(&id).ok()?, to, at: Timestamp::from_micros(at)? })
    }))
}

/// Why nothing starts from this file any more.
pub(super) fn gone(path: &Path, moved: &Moved) -> Error {
    Error::new(
        ErrorKind::Unusable,
        format!(
            "the jobs of the store {} were moved to {} on {}; use that store, or run sendoff migrate \
             again to finish or check the move",
            path.display(),
            moved.to,
            moved.at
        ),
    )
}
