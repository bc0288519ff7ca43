//! The names that clients choose: guids of any version, and idempotency keys.
//!
//! Random names in a plain index are a cliff: each dirties a page of its own, which goes to the log
//! and to the database. So new names go to a table in the order of their coming, mirrored in memory
//! (`Recent::young`). Once there are enough they become `Recent::old` and move to the index in
//! ascending order, a slice with each commit that brings names, so that one page takes many: the
//! rolling merge of the LSM tree (O'Neil and others, 1996). A name given up goes the same way, as a
//! row without a job. A look-up asks memory, then the index; opening reads the table again, at most
//! about twice what stays in memory. sendoff's own guids ascend and have an index of their own.
//!
//! Measured with 2 M final jobs, all taking turns in one run on a busy machine of 2 cores
//! (`store_names 2000000 v7 raw-v7 v4 plain-v4 raw-v4`), in lives (insert, claim, started) per second:
//! own guids 30,300 (bare SQLite 33,000), random guids 20,600, random guids straight to the index
//! 13,400, bare SQLite with random guids in a unique index 15,700; inserts alone 93,600, 39,400,
//! 20,100, 20,500.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use rusqlite::{Connection, OptionalExtension, Statement, params};
use sha2::{Digest, Sha256};

use super::sql::{Sql, Texts};
use crate::guid::Guid;

/// A byte for the kind and 16 bytes: the guid itself, or the truncated SHA-256 of a key.
pub(super) type ClientName = [u8; 17];

pub(super) fn guid_name(guid: &Guid) -> ClientName {
    let mut name = [0; 17];
    name[1..].copy_from_slice(guid.as_bytes());
    name
}

pub(super) fn key_name(key: &str) -> ClientName {
    let mut name = [1; 17];
    name[1..].copy_from_slice(&Sha256::digest(key.as_bytes())[..16]);
    name
}

/// Whether this guid may be one of sendoff's own, which have an index of their own.
pub(super) const fn may_be_own(guid: &Guid) -> bool {
    guid.as_bytes()[6] >> 4 == 7
}

/// The row that has this guid, if sendoff made it.
pub(super) fn look_up_own(index: &mut Statement<'_>, guid: &Guid) -> rusqlite::Result<Option<i64>> {
    if !may_be_own(guid) {
        return Ok(None);
    }
    index.query_row([guid.as_bytes()], |row| row.get(0)).optional()
}

/// Names that are not in the index yet, as of the last commit; 0 for one that was given up.
#[derive(Default)]
pub(super) struct Recent {
    young: HashMap<ClientName, i64>,
    old: HashMap<ClientName, i64>,
}

impl Recent {
    fn get(&self, name: &ClientName) -> Option<i64> {
        self.young.get(name).or_else(|| self.old.get(name)).copied()
    }
}

/// What the writer and the readers share of [`Recent`].
pub(super) type SharedRecent = Arc<RwLock<Recent>>;

/// For a reader: the row that had this name at the last commit.
pub(super) fn look_up(
    recent: &SharedRecent,
    index: &mut Statement<'_>,
    name: &ClientName,
) -> rusqlite::Result<Option<i64>> {
    let known = recent.read().unwrap_or_else(PoisonError::into_inner).get(name);
    match known {
        Some(row) => Ok((row != 0).then_some(row)),
        None => index.query_row([name], |row| row.get(0)).optional(),
    }
}

/// The writer's side.
pub(super) struct Names<'c> {
    recent: SharedRecent,
    index: Statement<'c>,
    put: Statement<'c>,
    drop: Statement<'c>,
    log: Statement<'c>,
    cut: Statement<'c>,
    /// How many names stay out of the index.
    keep: usize,
    /// What this transaction changed.
    staged: HashMap<ClientName, i64>,
    /// The log's rows that count begin here.
    first_seq: i64,
    last_seq: i64,
    staged_seq: i64,
    merge: Option<Merge>,
    /// Names that this transaction moved to the index, and log rows that it cut.
    staged_merge: (usize, i64),
}

/// The names of `Recent::old` on their way into the index.
struct Merge {
    /// Ascending.
    names: Vec<(ClientName, i64)>,
    done: usize,
    /// Their part of the log: what is left of it begins after `cut`.
    cut: i64,
    log_end: i64,
}

impl<'c> Names<'c> {
    /// Reads the log; `keep` names at most stay out of the index.
    pub(super) fn open(conn: &'c Connection, texts: &Texts, keep: usize) -> rusqlite::Result<Self> {
        let prepare = |name| texts.prepare(conn, name);
        let mut recent = Recent::default();
        let (mut first_seq, mut last_seq) = (None, 0);
        let mut rows = prepare(Sql::NameLog)?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            last_seq = row.get(0)?;
            first_seq.get_or_insert(last_seq);
            recent.young.insert(row.get(1)?, row.get::<_, Option<i64>>(2)?.unwrap_or(0));
        }
        let mut names = Self {
            recent: Arc::new(RwLock::new(recent)),
            index: prepare(Sql::JobNamed)?,
            put: prepare(Sql::PutName)?,
            drop: prepare(Sql::DropName)?,
            log: prepare(Sql::LogName)?,
            cut: prepare(Sql::CutNameLog)?,
            keep,
            staged: HashMap::new(),
            first_seq: first_seq.unwrap_or(1),
            last_seq,
            staged_seq: last_seq,
            merge: None,
            staged_merge: (0, 0),
        };
        names.turn_over();
        Ok(names)
    }

    pub(super) fn shared(&self) -> SharedRecent {
        self.recent.clone()
    }

    /// The row that has this name, as of this transaction.
    pub(super) fn find(&mut self, name: &ClientName) -> rusqlite::Result<Option<i64>> {
        match self.staged.get(name) {
            Some(row) => Ok((*row != 0).then_some(*row)),
            None => look_up(&self.recent, &mut self.index, name),
        }
    }

    /// The row gets this name.
    pub(super) fn put(&mut self, name: ClientName, row: i64) -> rusqlite::Result<()> {
        self.stage(name, row)
    }

    /// Nobody has this name any more.
    pub(super) fn give_up(&mut self, name: ClientName) -> rusqlite::Result<()> {
        self.stage(name, 0)
    }

    fn stage(&mut self, name: ClientName, row: i64) -> rusqlite::Result<()> {
        self.staged_seq += 1;
        self.log.execute(params![self.staged_seq, name, (row != 0).then_some(row)])?;
        self.staged.insert(name, row);
        Ok(())
    }

    /// Moves some names to the index: twice as many as came, so that it ends before the next turn.
    pub(super) fn before_commit(&mut self) -> rusqlite::Result<()> {
        let Some(merge) = &self.merge else { return Ok(()) };
        let came = self.staged.len();
        if came == 0 {
            return Ok(());
        }
        let end = merge.names.len().min(merge.done + 2 * came);
        for (name, row) in &merge.names[merge.done..end] {
            if *row == 0 {
                self.drop.execute([name])?;
            } else {
                self.put.execute(params![name, row])?;
            }
        }
        let mut cut = merge.cut;
        if merge.done == merge.names.len() {
            cut = merge.log_end.min(merge.cut.saturating_add_unsigned(4 * came as u64));
            self.cut.execute([merge.cut + 1, cut])?;
        }
        self.staged_merge = (end, cut);
        Ok(())
    }

    /// The transaction is durable.
    pub(super) fn committed(&mut self) {
        self.last_seq = self.staged_seq;
        if self.staged.is_empty() {
            return;
        }
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.young.extend(self.staged.drain());
        if let Some(merge) = &mut self.merge {
            (merge.done, merge.cut) = self.staged_merge;
            if merge.cut == merge.log_end {
                self.first_seq = merge.log_end + 1;
                self.merge = None;
                recent.old = HashMap::new();
            }
        }
        drop(recent);
        self.turn_over();
    }

    /// The transaction was undone.
    pub(super) fn rolled_back(&mut self) {
        self.staged.clear();
        self.staged_seq = self.last_seq;
    }

    /// Once enough names came, they are on their way to the index.
    fn turn_over(&mut self) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        if self.merge.is_some() || recent.young.len() < self.keep.max(1) {
            return;
        }
        let recent = &mut *recent;
        recent.old = std::mem::take(&mut recent.young);
        let mut names: Vec<_> = recent.old.iter().map(|(name, row)| (*name, *row)).collect();
        names.sort_unstable();
        self.merge = Some(Merge { names, done: 0, cut: self.first_seq - 1, log_end: self.last_seq });
    }
}
