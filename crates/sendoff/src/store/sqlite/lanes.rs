//! Lanes, nodes and submitters: texts that many rows share are kept once and named by a number.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Statement, params};

use super::sql::{Sql, Texts};
use crate::job::Lane;

/// Past this many, a cache forgets all and reads again what is asked for.
pub(super) const CACHED: usize = 65_536;

/// How the destination is stored: never null, and in the order of [`Lane`].
pub(super) fn stored_destination(lane: &Lane) -> String {
    lane.destination.as_ref().map_or_else(String::new, |destination| format!("={destination}"))
}

/// The lane with this stored destination; none if that is not one that we write.
pub(super) fn lane(queue: String, starter: String, destination: &str) -> Option<Lane> {
    let destination = match destination {
        "" => None,
        named => Some(named.strip_prefix('=')?.into()),
    };
    Some(Lane { queue: queue.into(), starter: starter.into(), destination })
}

/// One connection's view of the lanes. They are never changed nor deleted.
pub(super) struct Lanes<'c> {
    find: Statement<'c>,
    read: Statement<'c>,
    add: Statement<'c>,
    set_busy: Statement<'c>,
    known: HashMap<i64, Known>,
    ids: HashMap<Arc<Lane>, i64>,
}

struct Known {
    lane: Arc<Lane>,
    busy: bool,
}

impl<'c> Lanes<'c> {
    pub(super) fn new(conn: &'c Connection, texts: &Texts) -> rusqlite::Result<Self> {
        let prepare = |name| texts.prepare(conn, name);
        Ok(Self {
            find: prepare(Sql::LaneId)?,
            read: prepare(Sql::LaneText)?,
            add: prepare(Sql::NewLane)?,
            set_busy: prepare(Sql::LaneBusy)?,
            known: HashMap::new(),
            ids: HashMap::new(),
        })
    }

    /// The lane of this number, if there is one that can be read.
    pub(super) fn get(&mut self, id: i64) -> rusqlite::Result<Option<Arc<Lane>>> {
        if let Some(known) = self.known.get(&id) {
            return Ok(Some(known.lane.clone()));
        }
        let row = self.read.query_row([id], |row| {
            Ok((lane(row.get(0)?, row.get(1)?, row.get_ref(2)?.as_str()?), row.get(3)?))
        });
        let Some((Some(lane), busy)) = row.optional()? else { return Ok(None) };
        let lane = Arc::new(lane);
        self.remember(id, lane.clone(), busy);
        Ok(Some(lane))
    }

    /// The number of this lane, if it has one.
    pub(super) fn find(&mut self, lane: &Arc<Lane>) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.ids.get(lane) {
            return Ok(Some(*id));
        }
        let row = self.find.query_row(params![lane.queue, lane.starter, stored_destination(lane)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        let Some((id, busy)) = row.optional()? else { return Ok(None) };
        self.remember(id, lane.clone(), busy);
        Ok(Some(id))
    }

    /// The number of this lane, a new one if need be. For the writer.
    pub(super) fn id(&mut self, lane: &Arc<Lane>) -> rusqlite::Result<i64> {
        if let Some(id) = self.find(lane)? {
            return Ok(id);
        }
        let id = self.add.insert(params![lane.queue, lane.starter, stored_destination(lane)])?;
        self.remember(id, lane.clone(), false);
        Ok(id)
    }

    /// Says that the lane gets a pending job. For the writer.
    pub(super) fn busy(&mut self, id: i64) -> rusqlite::Result<()> {
        match self.known.get_mut(&id) {
            Some(Known { busy: true, .. }) => {}
            known => {
                self.set_busy.execute([id])?;
                if let Some(known) = known {
                    known.busy = true;
                }
            }
        }
        Ok(())
    }

    /// The lane was found without pending jobs, and the table says so. For the writer.
    pub(super) fn idle(&mut self, id: i64) {
        if let Some(known) = self.known.get_mut(&id) {
            known.busy = false;
        }
    }

    /// Forgets what may no longer be so: the transaction was undone.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.ids.clear();
    }

    fn remember(&mut self, id: i64, lane: Arc<Lane>, busy: bool) {
        if self.known.len() >= CACHED {
            self.forget();
        }
        self.ids.insert(lane.clone(), id);
        self.known.insert(id, Known { lane, busy });
    }
}

/// One connection's view of the nodes and submitters. They are never changed nor deleted.
pub(super) struct Actors<'c> {
    find: Statement<'c>,
    read: Statement<'c>,
    add: Statement<'c>,
    known: HashMap<i64, Arc<str>>,
    ids: HashMap<Arc<str>, i64>,
}

impl<'c> Actors<'c> {
    pub(super) fn new(conn: &'c Connection, texts: &Texts) -> rusqlite::Result<Self> {
        let prepare = |name| texts.prepare(conn, name);
        Ok(Self {
            find: prepare(Sql::ActorId)?,
            read: prepare(Sql::ActorText)?,
            add: prepare(Sql::NewActor)?,
            known: HashMap::new(),
            ids: HashMap::new(),
        })
    }

    /// The text of this number.
    pub(super) fn get(&mut self, id: i64) -> rusqlite::Result<Option<Arc<str>>> {
        if let Some(name) = self.known.get(&id) {
            return Ok(Some(name.clone()));
        }
        let name: Option<String> = self.read.query_row([id], |row| row.get(0)).optional()?;
        let Some(name) = name.map(Arc::from) else { return Ok(None) };
        self.remember(id, &name);
        Ok(Some(name))
    }

    /// The number of this text, if it has one.
    pub(super) fn find(&mut self, name: &str) -> rusqlite::Result<Option<i64>> {
        if let Some(id) = self.ids.get(name) {
            return Ok(Some(*id));
        }
        let id = self.find.query_row([name], |row| row.get(0)).optional()?;
        if let Some(id) = id {
            self.remember(id, &name.into());
        }
        Ok(id)
    }

    /// The number of this text, a new one if need be. For the writer.
    pub(super) fn id(&mut self, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.find(name)? {
            return Ok(id);
        }
        let id = self.add.insert([name])?;
        self.remember(id, &name.into());
        Ok(id)
    }

    /// Forgets what may no longer be so: the transaction was undone.
    pub(super) fn forget(&mut self) {
        self.known.clear();
        self.ids.clear();
    }

    fn remember(&mut self, id: i64, name: &Arc<str>) {
        if self.known.len() >= CACHED {
            self.forget();
        }
        self.ids.insert(name.clone(), id);
        self.known.insert(id, name.clone());
    }
}
