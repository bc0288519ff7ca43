//! T2: guarded updates, one for each row or for a run of rows that follow each other.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::{
    change::{Answer, PENDING, STARTING},
    rows::{self, Kept, row_id},
    sql::Sql,
    writer::Writer,
};
use crate::{
    crash::Deed,
    job::{Job, JobId},
    ports::{Claim, Claimed},
    time::Timestamp,
};

/// Claims of so many rows that follow each other are one update: for fewer its setting up costs more.
const RUN: usize = 8;

pub(super) fn claim(
    writer: &mut Writer<'_>,
    (ids, by): &(Vec<JobId>, Claim),
) -> Answer<Vec<Option<Claimed>>> {
    let node = writer.actors.id(&by.node)?;
    let mut claimed = Vec::with_capacity(ids.len());
    for run in ids.chunk_by(|one, next| one.0.checked_add(1) == Some(next.0)) {
        if run.len() < RUN {
            for id in run {
                claimed.push(claim_one(writer, *id, node, by.now)?);
            }
        } else {
            claim_run(writer, run, node, by.now, &mut claimed)?;
        }
    }
    writer.deeds.done(Deed::Claim);
    Ok(Ok(claimed))
}

fn claim_one(
    writer: &mut Writer<'_>,
    id: JobId,
    node: i64,
    now: Timestamp,
) -> rusqlite::Result<Option<Claimed>> {
    let Some((kept, job)) = read_for_claim(writer, id)? else { return Ok(None) };
    if writer.st[Sql::Claim].execute(params![row_id(id), now.as_micros(), node])? == 0 {
        return Ok(None);
    }
    now_claimed(writer, id, &kept, job, now).map(Some)
}

/// Rows that follow each other, by one update. If it left some of them out, their fences say which.
fn claim_run(
    writer: &mut Writer<'_>,
    run: &[JobId],
    node: i64,
    now: Timestamp,
    claimed: &mut Vec<Option<Claimed>>,
) -> rusqlite::Result<()> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(()) };
    let mut rows = Vec::with_capacity(run.len());
    for id in run {
        rows.push(read_for_claim(writer, *id)?);
    }
    let values = params![row_id(*first), now.as_micros(), node, row_id(*last)];
    let changed = writer.several.claim.execute(values)?;
    let all = changed == rows.iter().flatten().count();
    for (id, kept) in run.iter().zip(rows) {
        claimed.push(match kept {
            Some((kept, job)) if all || fence(writer, *id)? == Some(kept.fence + 1) => {
                Some(now_claimed(writer, *id, &kept, job, now)?)
            }
            _ => None,
        });
    }
    Ok(())
}

/// The row as it is before its claim. One that cannot be decoded is none, and no guard lets it pass.
fn read_for_claim(writer: &mut Writer<'_>, id: JobId) -> rusqlite::Result<Option<(Kept, Job)>> {
    let Writer { st, lanes, actors, grants, .. } = writer;
    let row =
        st[Sql::Job].query_row([row_id(id)], |row| rows::kept(row, lanes, actors, grants)).optional()?;
    let Some(mut kept) = row else { return Ok(None) };
    let job = kept.job.take();
    if job.is_none() && kept.state == PENDING {
        st[Sql::Quarantine].execute([row_id(id)])?;
    }
    Ok(job.map(|job| (kept, job)))
}

fn fence(writer: &mut Writer<'_>, id: JobId) -> rusqlite::Result<Option<u32>> {
    writer.st[Sql::Fence].query_row([row_id(id)], |row| row.get(0)).optional()
}

fn now_claimed(
    writer: &mut Writer<'_>,
    id: JobId,
    kept: &Kept,
    job: Job,
    now: Timestamp,
) -> rusqlite::Result<Claimed> {
    writer.moved(kept.lane, Some(kept.state), Some(STARTING))?;
    writer.starting.insert(row_id(id), kept.lane);
    Ok(Claimed {
        id,
        run_at: job.run_at,
        job: Arc::new(job),
        fence: kept.fence + 1,
        attempt: kept.attempt + 1,
        claimed_at: now,
        crashes: kept.crashes,
    })
}
