//! T1: inserting jobs, and finding out whether they are there already.
//!
//! Most are not, so they are inserted at once; only those that did not come through are looked up.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::{
    Client, Row, Statement,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    ask::{Answer, Param},
    call::{Insert, Work},
    failure::commit_unknown,
    flight::Way,
    rows::{delivery_code, guid_of, job_id, state_code, uuid_of},
    sql::{Sql, Texts},
    texts::Ids,
    transaction::{Stop, Transaction, lease_ran_out},
};
use crate::{
    error::{Error, ErrorKind},
    guid::Guid,
    job::{Delivery, Job, JobId},
    ports::{Conflict, Inserted, NewJob},
    state::State,
};

/// Of the parameters; the last three are only for inserting all or none.
const TYPES: [Type; 18] = [
    Type::INT8,
    Type::INT4_ARRAY,
    Type::INT2_ARRAY,
    Type::INT2_ARRAY,
    Type::INT4_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT8_ARRAY,
    Type::INT4_ARRAY,
    Type::BOOL_ARRAY,
    Type::UUID_ARRAY,
    Type::TEXT_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT4_ARRAY,
    Type::TEXT_ARRAY,
    Type::INT2_ARRAY,
    Type::INT8_ARRAY,
];
/// Of those, for inserting what can be.
const JOB_PARAMS: usize = 15;
/// How often a job is inserted anew because whoever held its guid or key was gone when looked up.
const ROUNDS: usize = 8;

/// Gives numbers to what the jobs name, before the transaction; refuses the calls that cannot be stored.
pub(super) async fn prepare(tx: &Transaction<'_>, group: &mut [Work]) -> Answer<Ids> {
    for work in &mut *group {
        let Work::Insert(call) = work else { continue };
        if let Some(err) = refusal(tx, call) {
            call.output = Some(Err(err));
        }
    }
    let jobs = |work: &Work| match work {
        Work::Insert(call) if call.output.is_none() => {
            call.input.jobs.iter().map(|new| new.job.clone()).collect::<Vec<_>>()
        }
        _ => Vec::new(),
    };
    let all: Vec<_> = group.iter().flat_map(jobs).collect();
    if let Ok(ids) = tx.shared.interned.ids(tx.ask(), all.iter().map(|job| &**job)).await? {
        return Ok(ids);
    }
    // A grant cannot be stored: whose?
    for work in &mut *group {
        let jobs = jobs(work);
        let ids = tx.shared.interned.ids(tx.ask(), jobs.iter().map(|job| &**job)).await?;
        if let (Err(err), Work::Insert(call)) = (ids, work) {
            call.output = Some(Err(err));
        }
    }
    let all: Vec<_> = group.iter().flat_map(jobs).collect();
    let ids = tx.shared.interned.ids(tx.ask(), all.iter().map(|job| &**job)).await?;
    Ok(ids.unwrap_or_default())
}

fn refusal(tx: &Transaction<'_>, call: &Insert) -> Option<Error> {
    // What an earlier try may have done cannot be refused any more.
    let refused = |err| if tx.repeated { commit_unknown() } else { err };
    for (item, NewJob { job, claim }) in call.input.jobs.iter().enumerate() {
        if let Some(field) = has_nul(job) {
            let words = format!("{field}: PostgreSQL cannot store the character U+0000; leave it out");
            return Some(Error::invalid(words).of_item(item));
        }
        if job.delivery == Delivery::AtMostOnce && tx.shared.refuses_at_most_once() {
            return Some(refused(Error::new(
                ErrorKind::Unavailable,
                "at_most_once jobs are refused: a failover of the database may forget what it acknowledged; \
                 make a standby synchronous (synchronous_standby_names), or set allow_async_failover",
            )));
        }
        if claim.as_ref().is_some_and(|node| node != tx.me.lease.node()) {
            return Some(refused(lease_ran_out()));
        }
    }
    None
}

fn has_nul(job: &Job) -> Option<&'static str> {
    let texts = [
        ("the request", Some(&*job.request)),
        ("idempotency_key", job.idempotency_key.as_deref()),
        ("queue", Some(&*job.lane.queue)),
        ("starter", Some(&*job.lane.starter)),
        ("the destination", job.lane.destination.as_deref()),
        ("the submitter's name", job.submitted_by.as_deref()),
    ];
    texts.into_iter().find(|(_, text)| text.is_some_and(|text| text.contains('\0'))).map(|(field, _)| field)
}

/// Whether these calls can be one statement that needs no transaction around it: none of them has to
/// be undone as a whole after some of its rows came through.
pub(super) fn is_plain(group: &[Work], calls: &[usize]) -> bool {
    calls.iter().all(|&call| match &group[call] {
        Work::Insert(call) => {
            call.input.bookmark.is_none() && (!call.input.atomic || call.input.jobs.len() < 2)
        }
        _ => false,
    })
}

/// The statement that inserts all, for this session. A plan that serves any number of rows is made of it:
/// there is no table in it to be walked.
pub(super) async fn prepare_statement(client: &Client, texts: &Texts) -> Answer<Statement> {
    client.prepare_typed(texts.text(Sql::InsertAll), &TYPES).await
}

/// A job of a group: its call and its place there.
type Item = (usize, usize);

/// Jobs on their way in.
pub(super) struct Inserting {
    /// Those that have no verdict yet.
    open: Vec<Item>,
    verdicts: HashMap<usize, Vec<Option<Inserted>>>,
    made: HashMap<JobId, Item>,
}

impl Inserting {
    pub(super) fn new(group: &[Work], calls: impl IntoIterator<Item = usize>) -> Self {
        let mut new = Self { open: Vec::new(), verdicts: HashMap::new(), made: HashMap::new() };
        for call in calls {
            if let Work::Insert(Insert { input, output: None, .. }) = &group[call] {
                new.open.extend((0..input.jobs.len()).map(|item| (call, item)));
                new.verdicts.insert(call, vec![None; input.jobs.len()]);
            }
        }
        new
    }

    /// Whether every job came through.
    pub(super) fn is_through(&self) -> bool {
        self.open.is_empty()
    }

    /// Inserts those whose guid and key nobody has; or, which costs less, all of them, and fails with a
    /// unique violation if anybody has one.
    pub(super) async fn send(
        &mut self,
        tx: &Transaction<'_>,
        group: &[Work],
        ids: &Ids,
        way: &Way,
    ) -> Result<(), Stop> {
        if self.open.is_empty() {
            return Ok(());
        }
        let created = send(tx, group, &self.open, ids, way).await?;
        let mut missing = Vec::new();
        for (item, id) in std::mem::take(&mut self.open).into_iter().zip(created) {
            match id {
                Some(id) => {
                    self.made.insert(id, item);
                    set(&mut self.verdicts, item, Inserted::Created(id));
                }
                None => missing.push(item),
            }
        }
        self.open = missing;
        Ok(())
    }

    /// Judges those that did not come through, and answers the calls.
    pub(super) async fn finish(
        mut self,
        tx: &Transaction<'_>,
        group: &mut [Work],
        ids: &Ids,
    ) -> Result<(), Stop> {
        for round in 1.. {
            if self.open.is_empty() {
                break;
            }
            if round == ROUNDS {
                let words =
                    "a guid or a key was taken and given up again and again; nothing was done, try again";
                return Err(Stop::Refused(Error::new(ErrorKind::Busy, words)));
            }
            let missing = std::mem::take(&mut self.open);
            self.open = judge(tx, group, &missing, &mut self.made, &mut self.verdicts).await?;
            self.send(tx, group, ids, &Way::Careful).await?;
        }
        finish(tx, group, self.verdicts).await
    }
}

pub(super) async fn insert(
    tx: &Transaction<'_>,
    group: &mut [Work],
    calls: &[usize],
    ids: &Ids,
) -> Result<(), Stop> {
    let mut inserting = Inserting::new(group, calls.iter().copied());
    inserting.send(tx, group, ids, &Way::Careful).await?;
    inserting.finish(tx, group, ids).await
}

fn set(verdicts: &mut HashMap<usize, Vec<Option<Inserted>>>, (call, item): Item, verdict: Inserted) {
    if let Some(verdicts) = verdicts.get_mut(&call) {
        verdicts[item] = Some(verdict);
    }
}

fn new_job(group: &[Work], (call, item): Item) -> Option<(&NewJob, i64)> {
    match &group[call] {
        Work::Insert(call) => Some((call.input.jobs.get(item)?, call.input.now.as_micros())),
        _ => None,
    }
}

/// The ids of those that came through.
async fn send(
    tx: &Transaction<'_>,
    group: &[Work],
    items: &[Item],
    ids: &Ids,
    way: &Way,
) -> Result<Vec<Option<JobId>>, Stop> {
    let jobs: Vec<(&NewJob, i64)> = items.iter().filter_map(|item| new_job(group, *item)).collect();
    let column = |of: fn(&Job) -> i64| jobs.iter().map(|(new, _)| of(&new.job)).collect::<Vec<i64>>();
    let lanes: Vec<i32> = jobs.iter().map(|(new, _)| ids.lane(&new.job)).collect();
    let priorities: Vec<i16> = jobs.iter().map(|(new, _)| i16::from(new.job.priority)).collect();
    let deliveries: Vec<i16> = jobs.iter().map(|(new, _)| delivery_code(new.job.delivery)).collect();
    let attempts: Vec<i32> =
        jobs.iter().map(|(new, _)| i32::try_from(new.job.max_attempts).unwrap_or(i32::MAX)).collect();
    let queued = column(|job| job.queued_at.as_micros());
    let runs = column(|job| job.run_at.as_micros());
    let expires: Vec<Option<i64>> =
        jobs.iter().map(|(new, _)| new.job.expires_at.map(|at| at.as_micros())).collect();
    let claims: Vec<Option<i64>> = jobs.iter().map(|(new, now)| new.claim.as_ref().map(|_| *now)).collect();
    let submitters: Vec<Option<i32>> = jobs.iter().map(|(new, _)| ids.submitter(&new.job)).collect();
    let own: Vec<bool> = jobs.iter().map(|(new, _)| new.job.own_guid).collect();
    let guids: Vec<Uuid> = jobs.iter().map(|(new, _)| uuid_of(&new.job.guid)).collect();
    let keys: Vec<Option<&str>> = jobs.iter().map(|(new, _)| new.job.idempotency_key.as_deref()).collect();
    let requests: Vec<&str> = jobs.iter().map(|(new, _)| &*new.job.request).collect();
    let grants: Vec<Option<i32>> = jobs.iter().map(|(new, _)| ids.grant(&new.job)).collect();
    let claiming = claims.iter().any(Option::is_some);
    let node = claiming.then_some(tx.me.id);
    let Tally { queues, states, counts } = Tally::of(&jobs);
    let (expires, claims, submitters) = (sparse(expires), sparse(claims), sparse(submitters));
    let (keys, grants) = (sparse(keys), sparse(grants));
    let values: [&(dyn ToSql + Sync); 18] = [
        &node,
        &lanes,
        &priorities,
        &deliveries,
        &attempts,
        &queued,
        &runs,
        &expires,
        &claims,
        &submitters,
        &own,
        &guids,
        &keys,
        &requests,
        &grants,
        &queues,
        &states,
        &counts,
    ];
    let typed = || values.into_iter().zip(TYPES).collect::<Vec<Param<'_>>>();
    let rows = match way {
        Way::Careful => tx.rows(Sql::Insert, &typed()[..JOB_PARAMS]).await?,
        Way::All => tx.rows(Sql::InsertAll, &typed()).await?,
        Way::Prepared(statement) => tx.client.query(statement, &values).await?,
    };
    if !matches!(way, Way::Careful) {
        // There is nothing to tell apart: all came through, or this node is not alive.
        if rows.is_empty() {
            return Err(not_alive(tx));
        }
        return Ok(rows.iter().map(|row| Ok(Some(job_id(row.try_get(0)?)))).collect::<Answer<_>>()?);
    }
    let mut created = Vec::with_capacity(jobs.len());
    let mut rows = rows.iter().peekable();
    for (guid, (new, _)) in guids.iter().zip(&jobs) {
        let Some(row) = rows.peek() else {
            created.push(None);
            continue;
        };
        let id: i64 = row.try_get(0)?;
        if id == 0 {
            return Err(not_alive(tx));
        }
        let is_it = row.try_get::<_, Uuid>(1)? == *guid
            && row.try_get::<_, Option<&str>>(2)? == new.job.idempotency_key.as_deref();
        created.push(is_it.then(|| job_id(id)));
        if is_it {
            rows.next();
        }
    }
    Ok(created)
}

fn not_alive(tx: &Transaction<'_>) -> Stop {
    tx.shared.node.doubt();
    Stop::Refused(lease_ran_out())
}

/// A column without any value takes no room: the database fills it up with NULL.
fn sparse<T>(column: Vec<Option<T>>) -> Vec<Option<T>> {
    if column.iter().all(Option::is_none) { Vec::new() } else { column }
}

/// How many jobs come to which state of which queue.
struct Tally<'j> {
    queues: Vec<&'j str>,
    states: Vec<i16>,
    counts: Vec<i64>,
}

impl<'j> Tally<'j> {
    fn of(jobs: &[(&'j NewJob, i64)]) -> Self {
        let mut counts: BTreeMap<(&str, State), i64> = BTreeMap::new();
        for (new, _) in jobs {
            let state = if new.claim.is_some() { State::Starting } else { State::Pending };
            *counts.entry((&new.job.lane.queue, state)).or_default() += 1;
        }
        Self {
            queues: counts.keys().map(|(queue, _)| *queue).collect(),
            states: counts.keys().map(|(_, state)| state_code(*state)).collect(),
            counts: counts.into_values().collect(),
        }
    }
}

/// A stored job that holds a guid or a key.
struct Holder {
    id: JobId,
    guid: Guid,
    key: Option<String>,
    request: String,
    queued_at: i64,
    /// Whether it is as a claimed insert of this node leaves it.
    mine: bool,
}

impl Holder {
    fn read(row: &Row, node: i64) -> Answer<Self> {
        let (state, fence): (i16, i32) = (row.try_get(5)?, row.try_get(6)?);
        let node_of_row: Option<i64> = row.try_get(7)?;
        Ok(Self {
            id: job_id(row.try_get(0)?),
            guid: guid_of(row.try_get(1)?),
            key: row.try_get(2)?,
            request: row.try_get(3)?,
            queued_at: row.try_get(4)?,
            mine: state == i16::from(State::Starting.code()) && fence == 1 && node_of_row == Some(node),
        })
    }
}

/// Judges jobs that did not come through; those whose holders are gone meanwhile are left.
async fn judge(
    tx: &Transaction<'_>,
    group: &[Work],
    missing: &[Item],
    made: &mut HashMap<JobId, Item>,
    verdicts: &mut HashMap<usize, Vec<Option<Inserted>>>,
) -> Result<Vec<Item>, Stop> {
    let jobs = || missing.iter().filter_map(|item| Some((*item, new_job(group, *item)?.0)));
    let guids: Vec<Uuid> = jobs().map(|(_, new)| uuid_of(&new.job.guid)).collect();
    let keys: Vec<&str> = jobs().filter_map(|(_, new)| new.job.idempotency_key.as_deref()).collect();
    let rows = tx.rows(Sql::Holders, &[(&guids, Type::UUID_ARRAY), (&keys, Type::TEXT_ARRAY)]).await?;
    let holders: Vec<Holder> = rows.iter().map(|row| Holder::read(row, tx.me.id)).collect::<Answer<_>>()?;
    let by_guid: HashMap<Guid, &Holder> = holders.iter().map(|holder| (holder.guid, holder)).collect();
    let by_key: HashMap<&str, &Holder> =
        holders.iter().filter_map(|holder| Some((holder.key.as_deref()?, holder))).collect();
    let mut left = Vec::new();
    for ((call, item), new) in jobs() {
        let job = &new.job;
        let by_guid = by_guid.get(&job.guid).copied();
        let by_key = job.idempotency_key.as_deref().and_then(|key| by_key.get(key).copied());
        let with_item =
            |holder: &Holder| made.get(&holder.id).filter(|(of, _)| *of == call).map(|(_, item)| *item);
        let conflict = |holder: &Holder, field| {
            Inserted::Conflict(Conflict { with: holder.guid, with_item: with_item(holder), field })
        };
        let mut credited = None;
        let verdict = match (by_guid, by_key) {
            (None, None) => {
                left.push((call, item));
                continue;
            }
            (Some(by_guid), Some(by_key)) if by_guid.guid != by_key.guid => {
                conflict(by_key, "idempotency_key")
            }
            (by_guid, by_key) => {
                let field = if by_guid.is_some() { "guid" } else { "idempotency_key" };
                let Some(holder) = by_guid.or(by_key) else { continue };
                if !same_content(&job.request, &holder.request) {
                    conflict(holder, field)
                } else if tx.repeated
                    && !made.contains_key(&holder.id)
                    && holder.guid == job.guid
                    && holder.queued_at == job.queued_at.as_micros()
                    && *holder.request == *job.request
                {
                    // The earlier try was done, and only its answer was lost.
                    if new.claim.is_some() && !holder.mine {
                        return Err(Stop::Refused(commit_unknown()));
                    }
                    credited = Some(holder.id);
                    Inserted::Created(holder.id)
                } else {
                    Inserted::Existing(holder.guid)
                }
            }
        };
        set(verdicts, (call, item), verdict);
        if let Some(id) = credited {
            made.insert(id, (call, item));
        }
    }
    Ok(left)
}

fn same_content(a: &str, b: &str) -> bool {
    let value = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || value(a).zip(value(b)).is_some_and(|(a, b)| a == b)
}

/// Answers the calls; bookmarks come with those that are not refused.
async fn finish(
    tx: &Transaction<'_>,
    group: &mut [Work],
    verdicts: HashMap<usize, Vec<Option<Inserted>>>,
) -> Result<(), Stop> {
    let mut undo = false;
    let mut verdicts: Vec<_> = verdicts.into_iter().collect();
    verdicts.sort_unstable_by_key(|(call, _)| *call);
    for (call, verdicts) in verdicts {
        let Work::Insert(call) = &mut group[call] else { continue };
        let mut verdicts: Vec<Inserted> = verdicts.into_iter().flatten().collect();
        let conflicts = verdicts.iter().any(|verdict| matches!(verdict, Inserted::Conflict(_)));
        if call.input.atomic && conflicts {
            undo |= verdicts.iter().any(|verdict| matches!(verdict, Inserted::Created(_)));
            for verdict in &mut verdicts {
                if !matches!(verdict, Inserted::Conflict(_)) {
                    *verdict = Inserted::Skipped;
                }
            }
        } else if let Some((name, value)) = &call.input.bookmark {
            if name.contains('\0') {
                return Err(Stop::Refused(Error::invalid("the bookmark's name: it may not hold U+0000")));
            }
            tx.rows(Sql::SetBookmark, &[(name, Type::TEXT), (value, Type::BYTEA)]).await?;
        }
        call.set(verdicts);
    }
    if undo { Err(Stop::Undo) } else { Ok(()) }
}
