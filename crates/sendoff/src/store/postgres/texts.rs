//! Lanes, submitters, grants and nodes: texts that many rows share are kept once and named by a
//! number.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sha2::{Digest, Sha256};
use tokio_postgres::{Row, types::Type};

use super::{
    ask::{Answer, Ask},
    sql::Sql,
};
use crate::{
    error::{Error, Result},
    job::{Grant, Job, Lane},
};

/// Past this many of a kind, that kind is forgotten and read again as it is asked for.
const CACHED: usize = 65_536;

/// How the destination is stored: never null, and in the order of [`Lane`].
fn stored_destination(lane: &Lane) -> String {
    lane.destination.as_ref().map_or_else(String::new, |destination| format!("={destination}"))
}

/// The stored text of a grant.
///
/// # Errors
/// Invalid if a path in it is not UTF-8.
fn written(grant: &Grant) -> Result<String> {
    serde_json::to_string(grant)
        .map_err(|err| Error::invalid("a caller's grant cannot be stored").with_source(err))
}

/// The grant with this stored text; none if that says anything that this version does not know: what
/// is passed over might have been a restriction.
fn granted(text: &str) -> Option<Grant> {
    let grant = serde_json::from_str(text).ok()?;
    (written(&grant).ok()? == text).then_some(grant)
}

/// The texts that this node has met. In the database they are never changed nor deleted, so what is
/// known stays true, as long as it is the same database: after a failover it may have lost some.
#[derive(Default)]
pub(super) struct Interned(Mutex<Known>);

/// Texts by their numbers: what the rows of one answer name.
#[derive(Default)]
pub(super) struct Known {
    lanes: Cache<i32, Lane>,
    actors: Cache<i32, str>,
    grants: Cache<i32, Grant>,
    nodes: Cache<i64, str>,
}

/// Numbers by their texts: what the jobs of one write need.
#[derive(Default)]
pub(super) struct Ids {
    lanes: HashMap<Arc<Lane>, i32>,
    actors: HashMap<Arc<str>, i32>,
    grants: HashMap<Arc<Grant>, i32>,
}

/// Which columns an answer's rows have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Columns {
    /// `header_columns!`
    Header,
    /// `job_columns!`
    Job,
    /// `record_columns!`
    Record,
}

impl Ids {
    /// The number of a lane of one of the jobs.
    ///
    /// # Panics
    /// If it is none of those that were asked for.
    pub(super) fn lane(&self, job: &Job) -> i32 {
        self.lanes[&job.lane]
    }

    /// The number of a job's submitter, if it has one. Panics like [`Ids::lane`].
    pub(super) fn submitter(&self, job: &Job) -> Option<i32> {
        job.submitted_by.as_ref().map(|name| self.actors[name])
    }

    /// The number of a job's grant, if it has one. Panics like [`Ids::lane`].
    pub(super) fn grant(&self, job: &Job) -> Option<i32> {
        job.grant.as_ref().map(|grant| self.grants[grant])
    }
}

impl Known {
    pub(super) fn lane(&self, id: i32) -> Option<&Arc<Lane>> {
        self.lanes.texts.get(&id)
    }

    pub(super) fn actor(&self, id: i32) -> Option<&Arc<str>> {
        self.actors.texts.get(&id)
    }

    pub(super) fn grant(&self, id: i32) -> Option<&Arc<Grant>> {
        self.grants.texts.get(&id)
    }

    pub(super) fn node(&self, id: i64) -> Option<&Arc<str>> {
        self.nodes.texts.get(&id)
    }
}

impl Interned {
    /// Forgets all: for a new connection, which may lead to another server.
    pub(super) fn forget(&self) {
        *self.lock() = Known::default();
    }

    /// The numbers of what these jobs name, new ones where need be. Those are made at once and for
    /// good, in transactions of their own: not to be called within one. Asks nothing if all is known.
    /// An error within is of the call: a grant that cannot be stored.
    pub(super) async fn ids<'j>(
        &self,
        ask: Ask<'_>,
        jobs: impl IntoIterator<Item = &'j Job>,
    ) -> Answer<Result<Ids>> {
        let (mut lanes, mut actors, mut grants) = (HashSet::new(), HashSet::new(), HashSet::new());
        for job in jobs {
            lanes.insert(&job.lane);
            actors.extend(&job.submitted_by);
            grants.extend(&job.grant);
        }
        let (mut new_lanes, mut new_actors, mut new_grants) = (Vec::new(), Vec::new(), Vec::new());
        let mut ids = Ids::default();
        {
            let known = self.lock();
            known.lanes.split(lanes, &mut ids.lanes, &mut new_lanes);
            known.actors.split(actors, &mut ids.actors, &mut new_actors);
            known.grants.split(grants, &mut ids.grants, &mut new_grants);
        }
        if !new_lanes.is_empty() {
            let found = self.new_lanes(ask, &new_lanes).await?;
            ids.lanes.extend(found);
        }
        if !new_actors.is_empty() {
            let found = self.new_actors(ask, &new_actors).await?;
            ids.actors.extend(found);
        }
        if !new_grants.is_empty() {
            match self.new_grants(ask, &new_grants).await? {
                Ok(found) => ids.grants.extend(found),
                Err(err) => return Ok(Err(err)),
            }
        }
        Ok(Ok(ids))
    }

    /// The number of a lane, if it has one.
    pub(super) async fn find_lane(&self, ask: Ask<'_>, lane: &Arc<Lane>) -> Answer<Option<i32>> {
        if let Some(id) = self.lock().lanes.ids.get(lane) {
            return Ok(Some(*id));
        }
        let (queues, starters, destinations) = lane_columns(std::slice::from_ref(lane));
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&queues, Type::TEXT_ARRAY), (&starters, Type::TEXT_ARRAY), (&destinations, Type::TEXT_ARRAY)];
        let rows = ask.rows(Sql::LaneIds, &params).await?;
        Ok(self.keep_lanes(&rows)?.get(lane).copied())
    }

    /// The number of a submitter, if it has one.
    pub(super) async fn find_actor(&self, ask: Ask<'_>, name: &str) -> Answer<Option<i32>> {
        if let Some(id) = self.lock().actors.ids.get(name) {
            return Ok(Some(*id));
        }
        let rows = ask.rows(Sql::ActorIds, &[(&vec![name], Type::TEXT_ARRAY)]).await?;
        Ok(self.keep_actors(&rows)?.get(name).copied())
    }

    /// What rows name, for [`rows`](super::rows) to decode them. Asks nothing if all is known.
    pub(super) async fn known(&self, ask: Ask<'_>, rows: &[Row], columns: Columns) -> Answer<Known> {
        let mut wanted = Wanted::default();
        wanted.add(rows, columns);
        self.named(ask, wanted).await
    }

    /// The lanes of these numbers.
    pub(super) async fn lanes(&self, ask: Ask<'_>, ids: &[i32]) -> Answer<Known> {
        self.named(ask, Wanted { lanes: ids.iter().copied().collect(), ..Wanted::default() }).await
    }

    async fn named(&self, ask: Ask<'_>, wanted: Wanted) -> Answer<Known> {
        let mut found = Known::default();
        let missing = {
            let known = self.lock();
            Wanted {
                lanes: known.lanes.copy(wanted.lanes, &mut found.lanes),
                actors: known.actors.copy(wanted.actors, &mut found.actors),
                grants: known.grants.copy(wanted.grants, &mut found.grants),
                nodes: known.nodes.copy(wanted.nodes, &mut found.nodes),
            }
        };
        if !missing.lanes.is_empty() {
            let ids: Vec<_> = missing.lanes.into_iter().collect();
            let rows = ask.rows(Sql::LaneTexts, &[(&ids, Type::INT4_ARRAY)]).await?;
            for (lane, id) in self.keep_lanes(&rows)? {
                found.lanes.texts.insert(id, lane);
            }
        }
        if !missing.actors.is_empty() {
            let ids: Vec<_> = missing.actors.into_iter().collect();
            let rows = ask.rows(Sql::ActorTexts, &[(&ids, Type::INT4_ARRAY)]).await?;
            for (name, id) in self.keep_actors(&rows)? {
                found.actors.texts.insert(id, name);
            }
        }
        if !missing.grants.is_empty() {
            let ids: Vec<_> = missing.grants.into_iter().collect();
            let rows = ask.rows(Sql::GrantTexts, &[(&ids, Type::INT4_ARRAY)]).await?;
            for row in &rows {
                if let Some(grant) = granted(row.try_get(1)?) {
                    found.grants.texts.insert(row.try_get(0)?, Arc::new(grant));
                }
            }
            self.lock().grants.keep(&found.grants);
        }
        if !missing.nodes.is_empty() {
            let ids: Vec<_> = missing.nodes.into_iter().collect();
            let rows = ask.rows(Sql::NodeNames, &[(&ids, Type::INT8_ARRAY)]).await?;
            for row in &rows {
                found.nodes.texts.insert(row.try_get(0)?, row.try_get::<_, &str>(1)?.into());
            }
            self.lock().nodes.keep(&found.nodes);
        }
        Ok(found)
    }

    async fn new_lanes(&self, ask: Ask<'_>, lanes: &[Arc<Lane>]) -> Answer<HashMap<Arc<Lane>, i32>> {
        let mut sorted = lanes.to_vec();
        // In one order on all nodes, so that they do not wait for each other in a ring.
        sorted.sort();
        let (queues, starters, destinations) = lane_columns(&sorted);
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
            [(&queues, Type::TEXT_ARRAY), (&starters, Type::TEXT_ARRAY), (&destinations, Type::TEXT_ARRAY)];
        let rows = ask.rows(Sql::LaneIds, &params).await?;
        if rows.len() == lanes.len() {
            return self.keep_lanes(&rows);
        }
        ask.rows(Sql::NewLanes, &params).await?;
        self.keep_lanes(&ask.rows(Sql::LaneIds, &params).await?)
    }

    async fn new_actors(&self, ask: Ask<'_>, names: &[Arc<str>]) -> Answer<HashMap<Arc<str>, i32>> {
        let sorted: Vec<&str> =
            names.iter().map(|name| &**name).collect::<BTreeSet<_>>().into_iter().collect();
        let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] = [(&sorted, Type::TEXT_ARRAY)];
        let rows = ask.rows(Sql::ActorIds, &params).await?;
        if rows.len() == names.len() {
            return self.keep_actors(&rows);
        }
        ask.rows(Sql::NewActors, &params).await?;
        self.keep_actors(&ask.rows(Sql::ActorIds, &params).await?)
    }

    async fn new_grants(
        &self,
        ask: Ask<'_>,
        grants: &[Arc<Grant>],
    ) -> Answer<Result<HashMap<Arc<Grant>, i32>>> {
        let mut by_digest = std::collections::BTreeMap::new();
        for grant in grants {
            let text = match written(grant) {
                Ok(text) => text,
                Err(err) => return Ok(Err(err)),
            };
            by_digest.insert(Sha256::digest(&text).to_vec(), (text, grant));
        }
        let digests: Vec<&[u8]> = by_digest.keys().map(Vec::as_slice).collect();
        let texts: Vec<&str> = by_digest.values().map(|(text, _)| &**text).collect();
        let look = [(&digests as &(dyn tokio_postgres::types::ToSql + Sync), Type::BYTEA_ARRAY)];
        let mut rows = ask.rows(Sql::GrantIds, &look).await?;
        if rows.len() < by_digest.len() {
            ask.rows(Sql::NewGrants, &[(&digests, Type::BYTEA_ARRAY), (&texts, Type::TEXT_ARRAY)]).await?;
            rows = ask.rows(Sql::GrantIds, &look).await?;
        }
        let mut ids = HashMap::new();
        let mut known = self.lock();
        for row in &rows {
            if let Some((_, grant)) = by_digest.get(row.try_get::<_, &[u8]>(1)?) {
                let id = row.try_get(0)?;
                known.grants.put(id, (*grant).clone());
                ids.insert((*grant).clone(), id);
            }
        }
        Ok(Ok(ids))
    }

    fn keep_lanes(&self, rows: &[Row]) -> Answer<HashMap<Arc<Lane>, i32>> {
        let mut ids = HashMap::new();
        let mut known = self.lock();
        for row in rows {
            let Some(lane) = lane(row)? else { continue };
            let (id, lane) = (row.try_get(0)?, Arc::new(lane));
            known.lanes.put(id, lane.clone());
            ids.insert(lane, id);
        }
        Ok(ids)
    }

    fn keep_actors(&self, rows: &[Row]) -> Answer<HashMap<Arc<str>, i32>> {
        let mut ids = HashMap::new();
        let mut known = self.lock();
        for row in rows {
            let (id, name): (_, Arc<str>) = (row.try_get(0)?, row.try_get::<_, &str>(1)?.into());
            known.actors.put(id, name.clone());
            ids.insert(name, id);
        }
        Ok(ids)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lane of a row of (id, queue, starter, destination); none if the destination is not one that
/// we write.
fn lane(row: &Row) -> Answer<Option<Lane>> {
    let destination = match row.try_get::<_, &str>(3)? {
        "" => None,
        named => match named.strip_prefix('=') {
            None => return Ok(None),
            named => named.map(Into::into),
        },
    };
    let (queue, starter): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
    Ok(Some(Lane { queue: queue.into(), starter: starter.into(), destination }))
}

fn lane_columns(lanes: &[Arc<Lane>]) -> (Vec<&str>, Vec<&str>, Vec<String>) {
    (
        lanes.iter().map(|lane| &*lane.queue).collect(),
        lanes.iter().map(|lane| &*lane.starter).collect(),
        lanes.iter().map(|lane| stored_destination(lane)).collect(),
    )
}

/// Numbers whose texts are wanted.
#[derive(Default)]
struct Wanted {
    lanes: HashSet<i32>,
    actors: HashSet<i32>,
    grants: HashSet<i32>,
    nodes: HashSet<i64>,
}

impl Wanted {
    /// A cell that cannot be read names nothing here; decoding it finds that out.
    fn add(&mut self, rows: &[Row], columns: Columns) {
        for row in rows {
            if columns == Columns::Header {
                self.lanes.extend(row.try_get::<_, i32>(1));
                continue;
            }
            self.lanes.extend(row.try_get::<_, i32>(2));
            self.actors.extend(row.try_get::<_, Option<i32>>(11).ok().flatten());
            self.grants.extend(row.try_get::<_, Option<i32>>(18).ok().flatten());
            if columns == Columns::Record {
                self.nodes.extend(row.try_get::<_, Option<i64>>(24).ok().flatten());
            }
        }
    }
}

/// Both ways.
struct Cache<I, T: ?Sized> {
    texts: HashMap<I, Arc<T>>,
    ids: HashMap<Arc<T>, I>,
}

impl<I, T: ?Sized> Default for Cache<I, T> {
    fn default() -> Self {
        Self { texts: HashMap::new(), ids: HashMap::new() }
    }
}

impl<I: Copy + Eq + Hash, T: ?Sized + Eq + Hash> Cache<I, T> {
    fn put(&mut self, id: I, text: Arc<T>) {
        if self.texts.len() >= CACHED {
            *self = Self::default();
        }
        self.ids.insert(text.clone(), id);
        self.texts.insert(id, text);
    }

    fn keep(&mut self, others: &Self) {
        for (id, text) in &others.texts {
            self.put(*id, text.clone());
        }
    }

    /// The numbers of texts that are known, and the texts that are not.
    fn split(&self, texts: HashSet<&Arc<T>>, ids: &mut HashMap<Arc<T>, I>, unknown: &mut Vec<Arc<T>>) {
        for text in texts {
            match self.ids.get(text) {
                Some(id) => drop(ids.insert(text.clone(), *id)),
                None => unknown.push(text.clone()),
            }
        }
    }

    /// Copies the texts that are known; the numbers that are not.
    fn copy(&self, ids: HashSet<I>, to: &mut Self) -> HashSet<I> {
        let missing = ids.into_iter().filter(|id| match self.texts.get(id) {
            Some(text) => {
                to.texts.insert(*id, text.clone());
                false
            }
            None => true,
        });
        missing.collect()
    }
}
