//! Moving in: rows of another store are inserted as they are, once, however often that is tried.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{runtime::Handle, task::AbortHandle};
use tokio_postgres::{Client, types::Type};

use super::{
    ask::{Answer, Ask, Param},
    connect::Target,
    failure::Failure,
    incoming::{self, Columns, Named},
    reader::Reader,
    rows::{self, guid_of, uuid_of},
    schema,
    sql::{Sql, Texts},
    texts::{self, Interned},
};
use crate::{
    error::{Error, ErrorKind, Result},
    guid::Guid,
    job::{JobId, QueueLimits},
    state::{Past, State},
    store::transfer::{StoredJob, Unreadable},
};

/// A database that takes in the jobs of another store. It is no node: nothing is started by it, and
/// whether nodes work on the database meanwhile does not matter.
pub struct PostgresImport {
    client: Client,
    /// Ends with this.
    driver: AbortHandle,
    place: String,
    /// There are tables of ours.
    tables: bool,
    texts: Texts,
    interned: Interned,
    nodes: Mutex<HashMap<Arc<str>, i64>>,
}

/// How far the move of one store has come, as its target knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is known and has brought nothing.
    Begun,
    /// All rows up to this one are there, and what belongs to no row.
    Until(JobId),
}

/// What the target holds of some jobs.
#[derive(Debug, Default)]
pub struct Held {
    /// By guid; none for a row that cannot be read.
    pub jobs: HashMap<Guid, Option<StoredJob>>,
    /// Who has their keys.
    pub keys: HashMap<Box<str>, Guid>,
}

impl PostgresImport {
    /// Connects to the database at this URL, see
    /// [`PostgresStore::connect`](super::PostgresStore::connect), and makes or upgrades its tables if
    /// it has to.
    ///
    /// # Errors
    /// As [`PostgresStore::connect`](super::PostgresStore::connect).
    pub async fn connect(url: &str) -> Result<Self> {
        let mut import = Self::look(url).await?;
        schema::prepare(&mut import.client, schema::MIGRATIONS).await?;
        import.tables = true;
        Ok(import)
    }

    /// The same, but changes nothing: for a look at what is there.
    ///
    /// # Errors
    /// As [`PostgresImport::connect`].
    pub async fn look(url: &str) -> Result<Self> {
        let target = Target::parse(url)?;
        let connected = target.connect().await?;
        let driver = connected.driver;
        // Polled whoever asks, as long as this is there.
        let driver = Handle::current().spawn(async move {
            if let Err(err) = driver.await {
                tracing::debug!(error = %super::failure::words(&err), "the connection to the database ended");
            }
        });
        let mut import = Self {
            client: connected.client,
            driver: driver.abort_handle(),
            place: target.place(),
            tables: false,
            texts: Texts::new(),
            interned: Interned::default(),
            nodes: Mutex::default(),
        };
        let row = import.client.query_typed_one("SELECT to_regclass('sendoff.job') IS NOT NULL", &[]).await;
        import.tables = row.and_then(|row| row.try_get(0)).map_err(failed)?;
        Ok(import)
    }

    /// The servers and the database, without user and password.
    pub fn place(&self) -> &str {
        &self.place
    }

    fn ask(&self) -> Ask<'_> {
        Ask::new(&self.client, &self.texts)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { ask: self.ask(), interned: &self.interned }
    }

    /// How far this move has come here; none if nothing is known of it.
    ///
    /// # Errors
    /// The database's, or [`Error::is_unusable`] if the note cannot be read.
    pub async fn mark(&self, of: Guid) -> Result<Option<Mark>> {
        if !self.tables {
            return Ok(None);
        }
        let value = self.reader().bookmark(&mark_name(of)).await.map_err(failed)?;
        value.map(|value| read_mark(&value)).transpose()
    }

    /// Notes the beginning of a move.
    ///
    /// # Errors
    /// The database's; what was lost on the way may have been done all the same, so repeat it.
    pub async fn begin(&self, of: Guid) -> Result<()> {
        let value = written_mark(Mark::Begun);
        let params: [Param<'_>; 2] = [(&mark_name(of), Type::TEXT), (&value, Type::BYTEA)];
        self.ask().rows(Sql::SetBookmark, &params).await.map(drop).map_err(failed)
    }

    /// Takes in what belongs to no job, and notes that.
    ///
    /// # Errors
    /// The database's; what was lost on the way may have been done all the same, so repeat it.
    pub async fn settings(
        &self,
        of: Guid,
        limits: &BTreeMap<Arc<str>, QueueLimits>,
        bookmarks: &BTreeMap<String, Vec<u8>>,
    ) -> Result<()> {
        let queues: Vec<&str> = limits.keys().map(|queue| &**queue).collect();
        let limits = limits.values().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let limits = limits.map_err(|err| Error::invalid("the limits of queues").with_source(err))?;
        let names: Vec<&str> = bookmarks.keys().map(String::as_str).collect();
        let values: Vec<&[u8]> = bookmarks.values().map(Vec::as_slice).collect();
        let params: [Param<'_>; 6] = [
            (&mark_name(of), Type::TEXT),
            (&written_mark(Mark::Until(JobId(0))), Type::BYTEA),
            (&queues, Type::TEXT_ARRAY),
            (&limits, Type::TEXT_ARRAY),
            (&names, Type::TEXT_ARRAY),
            (&values, Type::BYTEA_ARRAY),
        ];
        self.ask().rows(Sql::ImportSettings, &params).await.map(drop).map_err(failed)
    }

    /// Inserts what is not there yet, counts it and notes the last row, all or nothing; how many were
    /// new. Those that do not fit are left out.
    ///
    /// # Errors
    /// The database's, also for a grant that cannot be stored. What was lost on the way may have been
    /// done all the same, so repeat it.
    pub async fn import(&self, of: Guid, rows: &[StoredJob], last: JobId) -> Result<u64> {
        let rows: Vec<_> = rows.iter().filter(|row| incoming::fits(row).is_ok()).collect();
        let ids = self.interned.ids(self.ask(), rows.iter().map(|row| &*row.job)).await.map_err(failed)??;
        let nodes = self.nodes(&rows).await.map_err(failed)?;
        let (mut columns, none) = (Columns::default(), Past::default());
        for row in rows {
            let node = node(row).and_then(|name| nodes.get(name).copied());
            let job = &row.job;
            let named =
                Named { lane: ids.lane(job), submitter: ids.submitter(job), grant: ids.grant(job), node };
            columns.push(row, &named, &none);
        }
        let (name, value) = (mark_name(of), written_mark(Mark::Until(last)));
        let mut params: Vec<Param<'_>> = vec![(&name, Type::TEXT), (&value, Type::BYTEA)];
        params.extend(columns.params());
        let row = self.client.query_typed_one(self.texts.text(Sql::Import), &params).await;
        let new: i64 = row.and_then(|row| row.try_get(0)).map_err(failed)?;
        Ok(u64::try_from(new).unwrap_or(0))
    }

    /// What is here of these jobs.
    ///
    /// # Errors
    /// The database's.
    pub async fn held(&self, rows: &[StoredJob]) -> Result<Held> {
        if !self.tables || rows.is_empty() {
            return Ok(Held::default());
        }
        self.look_up(rows).await.map_err(failed)
    }

    async fn look_up(&self, jobs: &[StoredJob]) -> Answer<Held> {
        let mut held = Held::default();
        let guids: Vec<_> = jobs.iter().map(|row| uuid_of(&row.job.guid)).collect();
        let rows = self.ask().walk(Sql::Held, &[(&guids, Type::UUID_ARRAY)]).await?;
        let known = self.interned.known(self.ask(), &rows, texts::Columns::Record).await?;
        for row in &rows {
            held.jobs.insert(guid_of(row.try_get("guid")?), rows::stored(row, &known));
        }
        // A key with a NUL is nobody's here.
        let fitting = jobs.iter().filter(|row| incoming::fits(row).is_ok());
        let keys: Vec<_> = fitting.filter_map(|row| row.job.idempotency_key.as_deref()).collect();
        if !keys.is_empty() {
            for row in self.ask().walk(Sql::HeldKeys, &[(&keys, Type::TEXT_ARRAY)]).await? {
                held.keys.insert(row.try_get::<_, String>(0)?.into(), guid_of(row.try_get(1)?));
            }
        }
        Ok(held)
    }

    /// Whether a job can be held here.
    ///
    /// # Errors
    /// Why not.
    pub fn fits(row: &StoredJob) -> Result<(), Unreadable> {
        incoming::fits(row)
    }

    /// The limits of queues that are here.
    ///
    /// # Errors
    /// The database's.
    pub async fn limits(&self) -> Result<BTreeMap<Arc<str>, QueueLimits>> {
        if !self.tables {
            return Ok(BTreeMap::new());
        }
        self.reader().queues().await.map_err(failed)
    }

    /// What was last stored under this name.
    ///
    /// # Errors
    /// The database's.
    pub async fn bookmark(&self, name: &str) -> Result<Option<Vec<u8>>> {
        if !self.tables {
            return Ok(None);
        }
        self.reader().bookmark(name).await.map_err(failed)
    }

    /// Queues and states whose count is not that of the rows: the count, the rows.
    ///
    /// # Errors
    /// The database's.
    pub async fn miscounted(&self) -> Result<Vec<(String, State, i64, i64)>> {
        let rows = self.ask().rows(Sql::Miscounted, &[]).await.map_err(failed)?;
        let read = |row: &tokio_postgres::Row| {
            let state = u8::try_from(row.try_get::<_, i16>(1)?).ok().and_then(State::from_code);
            Ok((row.try_get(0)?, state.unwrap_or(State::Unknown), row.try_get(2)?, row.try_get(3)?))
        };
        rows.iter().map(read).collect::<Answer<Vec<_>>>().map_err(failed)
    }

    /// The numbers of the nodes that these jobs name.
    async fn nodes(&self, rows: &[&StoredJob]) -> Answer<HashMap<Arc<str>, i64>> {
        let lock = || self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ids = HashMap::new();
        let mut unknown: Vec<&str> = Vec::new();
        {
            let known = lock();
            for name in rows.iter().filter_map(|row| node(row)) {
                match known.get(name) {
                    Some(id) => drop(ids.insert(name.clone(), *id)),
                    None => unknown.push(name),
                }
            }
        }
        unknown.sort_unstable();
        unknown.dedup();
        if !unknown.is_empty() {
            for row in self.ask().rows(Sql::ImportNodes, &[(&unknown, Type::TEXT_ARRAY)]).await? {
                ids.insert(row.try_get::<_, &str>(1)?.into(), row.try_get(0)?);
            }
            lock().extend(ids.iter().map(|(name, id)| (name.clone(), *id)));
        }
        Ok(ids)
    }
}

impl Drop for PostgresImport {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl fmt::Debug for PostgresImport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresImport").field("place", &self.place).finish_non_exhaustive()
    }
}

fn node(row: &StoredJob) -> Option<&Arc<str>> {
    row.life.past.as_deref()?.node.as_ref()
}

fn mark_name(of: Guid) -> String {
    format!("migrate:{of}")
}

fn written_mark(mark: Mark) -> Vec<u8> {
    match mark {
        Mark::Begun => b"begun".to_vec(),
        Mark::Until(JobId(row)) => row.to_string().into_bytes(),
    }
}

fn read_mark(value: &[u8]) -> Result<Mark> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    match text.parse() {
        Ok(row) => Ok(Mark::Until(JobId(row))),
        Err(_) if text == "begun" => Ok(Mark::Begun),
        Err(_) => Err(Error::new(
            ErrorKind::Unusable,
            "the database's note of how far the move has come cannot be read",
        )),
    }
}

fn failed(err: tokio_postgres::Error) -> Error {
    Failure::of(&err).error(&err)
}
