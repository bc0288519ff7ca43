//! The threads that read, each with its own connection; they never wait for the writer.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
};

use rusqlite::{Connection, OptionalExtension, Rows, params};

use super::{
    grants::Grants,
    lanes::{Actors, Lanes, lane, stored_destination},
    names::{self, SharedRecent, guid_name, look_up_own},
    rows::{self, row_id},
    shared::Shared,
    sql::{Sql, Statements},
};
use crate::{
    guid::Guid,
    job::{Header, JobId, JobRecord, Lane},
    ports::Counts,
    state::State,
    time::Timestamp,
};

/// What can be in the readers' queue.
pub(super) type Request = Box<dyn FnOnce(&mut Reader<'_>) + Send>;

/// The readers' queue.
#[derive(Default)]
pub(super) struct Pool {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    requests: VecDeque<Request>,
    closed: bool,
}

impl Pool {
    /// Has it done by some reader; after the close nobody answers any more.
    pub(super) fn push(&self, request: Request) {
        let mut queue = self.lock();
        if !queue.closed {
            queue.requests.push_back(request);
            self.changed.notify_one();
        }
    }

    /// What waits is still done, but for nothing that comes later.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn next(&self) -> Option<Request> {
        let mut queue = self.lock();
        loop {
            match queue.requests.pop_front() {
                Some(request) => return Some(request),
                None if queue.closed => return None,
                None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One reader's view of the database.
pub(super) struct Reader<'c> {
    pub(super) st: Statements<'c>,
    pub(super) lanes: Lanes<'c>,
    pub(super) actors: Actors<'c>,
    pub(super) grants: Grants<'c>,
    recent: SharedRecent,
    pub(super) shared: Arc<Shared>,
}

/// A reader thread: says whether it can, then serves the pool until that is closed.
pub(super) fn run(
    conn: &Connection,
    shared: Arc<Shared>,
    recent: SharedRecent,
    ready: &mpsc::Sender<rusqlite::Result<()>>,
) {
    match Reader::prepare(conn, shared, recent) {
        Ok(mut reader) => {
            let _ = ready.send(Ok(()));
            while let Some(request) = reader.shared.clone().pool.next() {
                request(&mut reader);
            }
        }
        Err(err) => drop(ready.send(Err(err))),
    }
}

impl<'c> Reader<'c> {
    fn prepare(conn: &'c Connection, shared: Arc<Shared>, recent: SharedRecent) -> rusqlite::Result<Self> {
        Ok(Self {
            st: Statements::prepare(conn, &shared.texts)?,
            lanes: Lanes::new(conn, &shared.texts)?,
            actors: Actors::new(conn, &shared.texts)?,
            grants: Grants::new(conn, &shared.texts)?,
            recent,
            shared,
        })
    }

    pub(super) fn due(
        &mut self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> rusqlite::Result<Vec<Header>> {
        let Self { st, lanes, shared, .. } = self;
        let mut headers = Headers { found: Vec::new(), limit, lanes, shared };
        let mut later_than = -1;
        if let Some((at, id)) = after {
            if at > until {
                return Ok(Vec::new());
            }
            later_than = at.as_micros();
            headers.take(st[Sql::DueSame].query(params![later_than, row_id(id)])?)?;
        }
        headers.take(st[Sql::DueLater].query(params![later_than, until.as_micros()])?)?;
        Ok(headers.found)
    }

    pub(super) fn ready(
        &mut self,
        lane: &Arc<Lane>,
        now: Timestamp,
        limit: usize,
    ) -> rusqlite::Result<Vec<Header>> {
        let Some(id) = self.lanes.find(lane)? else { return Ok(Vec::new()) };
        let Self { st, lanes, shared, .. } = self;
        let mut headers = Headers { found: Vec::new(), limit, lanes, shared };
        // One seek for each priority there is: rows that are not due yet lie between.
        let mut above = 10;
        while headers.found.len() < limit {
            let priority = st[Sql::NextPriority].query_row(params![id, above], |row| row.get(0))?;
            let Some(priority): Option<i64> = priority else { break };
            above = priority;
            headers.take(st[Sql::Ready].query(params![id, priority, now.as_micros()])?)?;
        }
        Ok(headers.found)
    }

    pub(super) fn lanes(&mut self, after: Option<&Lane>, limit: usize) -> rusqlite::Result<Vec<Arc<Lane>>> {
        let (queue, starter, destination) = match after {
            Some(lane) => (&*lane.queue, &*lane.starter, stored_destination(lane)),
            None => ("", "", String::new()),
        };
        let mut rows = self.st[Sql::BusyLanes].query(params![queue, starter, destination])?;
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(row) = rows.next()? else { break };
            if row.get(4)? {
                found.extend(lane(row.get(1)?, row.get(2)?, row.get_ref(3)?.as_str()?).map(Arc::new));
            } else {
                note(&self.shared.idle_lanes, row.get(0)?);
            }
        }
        Ok(found)
    }

    pub(super) fn get(&mut self, guid: &Guid) -> rusqlite::Result<Option<JobRecord>> {
        let id = match look_up_own(&mut self.st[Sql::OwnGuid], guid)? {
            Some(id) => Some(id),
            None => names::look_up(&self.recent, &mut self.st[Sql::JobNamed], &guid_name(guid))?,
        };
        let Some(id) = id else { return Ok(None) };
        let Self { st, lanes, actors, grants, .. } = self;
        let record =
            st[Sql::Record].query_row([id], |row| rows::record(row, lanes, actors, grants)).optional()?;
        Ok(record.filter(|record| record.guid == *guid))
    }

    pub(super) fn counts(&mut self) -> rusqlite::Result<Counts> {
        let quarantined: i64 = self.st[Sql::Quarantined].query_row([], |row| row.get(0))?;
        let mut counts = Counts { quarantined: u64::try_from(quarantined).unwrap_or(0), ..Counts::default() };
        let mut rows = self.st[Sql::Counts].query([])?;
        while let Some(row) = rows.next()? {
            if let Some(state) = State::from_code(row.get(1)?) {
                let n = u64::try_from(row.get::<_, i64>(2)?).unwrap_or(0);
                *counts.queues.entry(row.get(0)?).or_default().entry(state).or_default() += n;
            }
        }
        Ok(counts)
    }

    pub(super) fn bookmark(&mut self, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        self.st[Sql::Bookmark].query_row([name], |row| row.get(0)).optional()
    }
}

fn note(list: &Mutex<BTreeSet<i64>>, row: i64) {
    list.lock().unwrap_or_else(PoisonError::into_inner).insert(row);
}

/// Headers as they are found. Rows that cannot be decoded are left out and told to the writer.
struct Headers<'r, 'c> {
    found: Vec<Header>,
    limit: usize,
    lanes: &'r mut Lanes<'c>,
    shared: &'r Shared,
}

impl Headers<'_, '_> {
    fn take(&mut self, mut rows: Rows<'_>) -> rusqlite::Result<()> {
        while self.found.len() < self.limit {
            let Some(row) = rows.next()? else { break };
            match rows::header(row, self.lanes)? {
                Some(header) => self.found.push(header),
                None => note(&self.shared.suspects, row.get(0)?),
            }
        }
        Ok(())
    }
}
