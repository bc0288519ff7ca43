//! Pages of records. What a filter asks for is read from a row before the rest of it is decoded.

use rusqlite::{Row, params};

use super::{
    lanes::Lanes,
    reader::Reader,
    rows::{self, delivery_code, job_id, row_id},
    sql::Sql,
};
use crate::{
    guid::{Guid, GuidSuffix},
    job::JobRecord,
    ports::{Filter, Page, PageRequest},
    state::State,
};

/// The statement that walks over the fewest rows. All go by the rows' numbers, so that one kind of
/// cursor does for all.
fn statement(state: Option<State>, newest_first: bool) -> Sql {
    match (state, newest_first) {
        (Some(State::Starting), false) => Sql::ListStarting,
        (Some(State::Starting), true) => Sql::ListStartingNewest,
        (Some(State::Unknown), false) => Sql::ListUnknown,
        (Some(State::Unknown), true) => Sql::ListUnknownNewest,
        (_, false) => Sql::List,
        (_, true) => Sql::ListNewest,
    }
}

impl Reader<'_> {
    pub(super) fn list(
        &mut self,
        filter: &Filter,
        suffix: Option<GuidSuffix>,
        page: PageRequest,
    ) -> rusqlite::Result<Page> {
        let Self { st, lanes, actors, grants, .. } = self;
        let submitter = match &filter.submitted_by {
            None => None,
            Some(name) => match actors.find(name)? {
                None => return Ok(Page::default()),
                known => known,
            },
        };
        let end = if page.newest_first { i64::MAX } else { 0 };
        let after = page.after.map_or(end, row_id);
        // One more than is looked at says whether there is a next page.
        let budget = i64::try_from(page.row_budget.max(1)).unwrap_or(i64::MAX - 1);
        let mut rows =
            st[statement(filter.state, page.newest_first)].query(params![after, budget.saturating_add(1)])?;
        let mut found = Page::default();
        let (mut looked, mut last) = (0, page.after);
        while let Some(row) = rows.next()? {
            if looked == budget || found.records.len() >= page.limit {
                found.next = last;
                break;
            }
            looked += 1;
            last = Some(job_id(row.get(0)?));
            if !fits(row, filter, submitter, suffix, lanes)? {
                continue;
            }
            let record = rows::record(row, lanes, actors, grants)?;
            if has_label(&record, filter) {
                found.records.push(record);
            }
        }
        Ok(found)
    }
}

/// Whether a row meets all conditions but the one on labels, which are in its request. A cell that
/// cannot be read meets none.
fn fits(
    row: &Row<'_>,
    filter: &Filter,
    submitter: Option<i64>,
    suffix: Option<GuidSuffix>,
    lanes: &mut Lanes<'_>,
) -> rusqlite::Result<bool> {
    let Filter { state, unfinished, queue, label: _, submitted_by: _, delivery, guid_suffix: _, from, to } =
        filter;
    let run_at = || row.get::<_, i64>(9);
    Ok(state.is_none_or(|state| row.get(1) == Ok(state.code()))
        && (!unfinished
            || row.get(1).is_ok_and(|code| State::from_code(code).is_some_and(|state| !state.is_final())))
        && submitter.is_none_or(|submitter| row.get(11) == Ok(Some(submitter)))
        && suffix.is_none_or(|suffix| row.get(13).is_ok_and(|guid| suffix.is_of(&Guid::from_bytes(guid))))
        && delivery.is_none_or(|delivery| row.get(4) == Ok(delivery_code(delivery)))
        && from.is_none_or(|from| run_at().is_ok_and(|run_at| run_at >= from.as_micros()))
        && to.is_none_or(|to| run_at().is_ok_and(|run_at| run_at < to.as_micros()))
        && match queue {
            None => true,
            Some(queue) => lanes.get(row.get(2)?)?.is_some_and(|lane| *lane.queue == **queue),
        })
}

fn has_label(record: &JobRecord, filter: &Filter) -> bool {
    filter.label.as_ref().is_none_or(|(name, value)| record.labels.get(name) == Some(value))
}
