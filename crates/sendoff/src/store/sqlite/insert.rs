//! T1: inserting jobs, and finding out whether they are there already.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Statement, params};

use super::{
    names::{ClientName, guid_name, key_name, look_up_own, may_be_own},
    rows::{delivery_code, job_id},
    sql::{Sql, TOGETHER},
    writer::Writer,
};
use crate::{
    crash::Deed,
    error::Result,
    guid::Guid,
    job::Job,
    ports::{Conflict, InsertBatch, Inserted, NewJob},
    state::State,
    time::Timestamp,
};

/// The names by which a client may submit the same job again; sendoff's own guids cannot collide.
fn client_names(job: &Job) -> (Option<ClientName>, Option<ClientName>) {
    let own = job.own_guid && may_be_own(&job.guid);
    ((!own).then(|| guid_name(&job.guid)), job.idempotency_key.as_deref().map(key_name))
}

/// Who has a name already.
#[derive(Clone, PartialEq)]
struct Holder {
    guid: Guid,
    item: Option<usize>,
    request: Box<str>,
}

pub(super) fn insert(
    writer: &mut Writer<'_>,
    batch: &InsertBatch,
) -> rusqlite::Result<Result<Vec<Inserted>>> {
    if let Some(err) = writer.no_room() {
        return Ok(Err(err));
    }
    // First of all, since a grant that cannot be stored refuses the call.
    let mut grants = Vec::with_capacity(batch.jobs.len());
    for NewJob { job, .. } in &batch.jobs {
        let grant = match &job.grant {
            None => None,
            Some(grant) => match writer.grants.id(grant)? {
                Ok(id) => Some(id),
                Err(err) => return Ok(Err(err)),
            },
        };
        grants.push(grant);
    }
    let mut verdicts = Vec::with_capacity(batch.jobs.len());
    let mut coming = HashMap::new();
    for (item, NewJob { job, .. }) in batch.jobs.iter().enumerate() {
        let names = client_names(job);
        let verdict = match names {
            (None, None) => None,
            _ => judge(writer, batch, &coming, job, names)?,
        };
        if verdict.is_none() {
            coming.extend(names.0.into_iter().chain(names.1).map(|name| (name, item)));
        }
        verdicts.push(verdict);
    }
    if batch.atomic && verdicts.iter().flatten().any(|verdict| matches!(verdict, Inserted::Conflict(_))) {
        let skipped = |verdict| match verdict {
            Some(Inserted::Conflict(conflict)) => Inserted::Conflict(conflict),
            _ => Inserted::Skipped,
        };
        return Ok(Ok(verdicts.into_iter().map(skipped).collect()));
    }
    let mut inserted = Vec::with_capacity(verdicts.len());
    let mut rows = Vec::with_capacity(verdicts.len());
    for ((new, grant), verdict) in batch.jobs.iter().zip(grants).zip(verdicts) {
        inserted.push(match verdict {
            Some(verdict) => verdict,
            None => {
                let row = NewRow::of(writer, new, grant)?;
                let id = row.id;
                rows.push(row);
                Inserted::Created(job_id(id))
            }
        });
    }
    insert_rows(writer, &rows, batch.now)?;
    if let Some((name, value)) = &batch.bookmark {
        writer.st[Sql::SetBookmark].execute(params![name, value])?;
    }
    writer.deeds.done(Deed::Submit);
    if rows.iter().any(|row| row.node.is_some()) {
        writer.deeds.done(Deed::Claim);
    }
    Ok(Ok(inserted))
}

/// The verdict on a job with names of the client's; none if it is new.
fn judge(
    writer: &mut Writer<'_>,
    batch: &InsertBatch,
    coming: &HashMap<ClientName, usize>,
    job: &Job,
    (guid, key): (Option<ClientName>, Option<ClientName>),
) -> rusqlite::Result<Option<Inserted>> {
    let mut holder = |name: Option<ClientName>, is_guid: bool| {
        let Some(name) = name else { return Ok(None) };
        if let Some(&item) = coming.get(&name) {
            let first = &batch.jobs[item].job;
            let request = first.request.as_ref().into();
            return Ok(Some(Holder { guid: first.guid, item: Some(item), request }));
        }
        stored(writer, job, &name, is_guid)
    };
    let by_guid = holder(guid, true)?;
    let by_key = holder(key, false)?;
    let (holder, field) = match (by_guid, by_key) {
        (None, None) => return Ok(None),
        (Some(by_guid), Some(by_key)) if by_guid.guid != by_key.guid => {
            let conflict = Conflict { with: by_key.guid, with_item: by_key.item, field: "idempotency_key" };
            return Ok(Some(Inserted::Conflict(conflict)));
        }
        (Some(by_guid), _) => (by_guid, "guid"),
        (None, Some(by_key)) => (by_key, "idempotency_key"),
    };
    Ok(Some(if same_content(&job.request, &holder.request) {
        Inserted::Existing(holder.guid)
    } else {
        Inserted::Conflict(Conflict { with: holder.guid, with_item: holder.item, field })
    }))
}

/// The stored job that has this name of `job`'s. What the index says is checked against the row.
fn stored(
    writer: &mut Writer<'_>,
    job: &Job,
    name: &ClientName,
    is_guid: bool,
) -> rusqlite::Result<Option<Holder>> {
    let mut row = writer.names.find(name)?;
    if row.is_none() && is_guid {
        row = look_up_own(&mut writer.st[Sql::OwnGuid], &job.guid)?;
    }
    let Some(row) = row else { return Ok(None) };
    let found = writer.st[Sql::Identity].query_row([row], |row| {
        let guid = Guid::from_bytes(row.get(0)?);
        let key: Option<Box<str>> = row.get(2)?;
        let named = if is_guid { guid == job.guid } else { key == job.idempotency_key };
        Ok(named.then_some(Holder { guid, item: None, request: row.get(3)? }))
    });
    Ok(found.optional()?.flatten())
}

fn same_content(a: &str, b: &str) -> bool {
    let value = |text| serde_json::from_str::<serde_json::Value>(text).ok();
    a == b || value(a).zip(value(b)).is_some_and(|(a, b)| a == b)
}

/// A row to be: what is a number there, and the job.
struct NewRow<'b> {
    id: i64,
    lane: i64,
    submitted_by: Option<i64>,
    /// The node that claims it.
    node: Option<i64>,
    grant: Option<i64>,
    job: &'b Job,
}

impl<'b> NewRow<'b> {
    fn of(writer: &mut Writer<'_>, new: &'b NewJob, grant: Option<i64>) -> rusqlite::Result<Self> {
        let job = &*new.job;
        let lane = writer.lanes.id(&job.lane)?;
        let submitted_by = job.submitted_by.as_deref().map(|name| writer.actors.id(name)).transpose()?;
        let node = new.claim.as_deref().map(|name| writer.actors.id(name)).transpose()?;
        let id = writer.next_id;
        writer.next_id += 1;
        Ok(Self { id, lane, submitted_by, node, grant, job })
    }

    const fn state(&self) -> State {
        if self.node.is_some() { State::Starting } else { State::Pending }
    }

    /// Gives an insert's parameters their values, those after the first `before` of them.
    fn bind(&self, insert: &mut Statement<'_>, before: usize, now: Timestamp) -> rusqlite::Result<usize> {
        let Self { id, lane, submitted_by, node, grant, job } = self;
        let values = params![
            id,
            self.state().code(),
            lane,
            job.priority,
            delivery_code(job.delivery),
            u8::from(node.is_some()),
            job.max_attempts,
            job.queued_at.as_micros(),
            job.run_at.as_micros(),
            job.expires_at.map(|at| at.as_micros()),
            node.map(|_| now.as_micros()),
            node,
            submitted_by,
            job.own_guid,
            job.guid.as_bytes(),
            job.idempotency_key,
            job.request,
            grant,
        ];
        for (place, value) in values.iter().enumerate() {
            insert.raw_bind_parameter(before + place + 1, value)?;
        }
        Ok(before + values.len())
    }
}

fn insert_rows(writer: &mut Writer<'_>, rows: &[NewRow<'_>], now: Timestamp) -> rusqlite::Result<()> {
    for chunk in rows.chunks(TOGETHER) {
        if chunk.len() == TOGETHER {
            let insert = &mut writer.several.insert;
            chunk.iter().try_fold(0, |bound, row| row.bind(insert, bound, now))?;
            insert.raw_execute()?;
            // The copies of the requests would take up SQLite's quick memory.
            insert.clear_bindings();
        } else {
            let insert = &mut writer.st[Sql::Insert];
            for row in chunk {
                row.bind(insert, 0, now)?;
                insert.raw_execute()?;
            }
        }
    }
    for row in rows {
        let (guid, key) = client_names(row.job);
        for name in guid.into_iter().chain(key) {
            writer.names.put(name, row.id)?;
        }
        if row.node.is_some() {
            writer.starting.insert(row.id, row.lane);
        }
        writer.moved(row.lane, None, Some(row.state().code()))?;
    }
    Ok(())
}
