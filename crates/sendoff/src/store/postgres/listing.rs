//! Pages of records. What a filter asks for is decided by the database, but for labels, which are in
//! the request.

use tokio_postgres::types::Type;

use super::{
    ask::{Answer, Param},
    reader::{Reader, limited},
    rows::{self, delivery_code, job_id, row_id, state_code},
    sql::Sql,
    texts::Columns,
};
use crate::{
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
    /// The filter's suffix is known to be one.
    pub(super) async fn list(self, filter: &Filter, page: PageRequest) -> Answer<Page> {
        let submitter = match &filter.submitted_by {
            None => None,
            Some(name) => match self.interned.find_actor(self.ask, name).await? {
                None => return Ok(Page::default()),
                known => known,
            },
        };
        let end = if page.newest_first { i64::MAX } else { 0 };
        let after = page.after.map_or(end, row_id);
        // One more than is looked at says whether there is a next page.
        let budget = limited(page.row_budget.max(1)).min(i64::MAX - 2);
        let looked = budget + 1;
        // Those asked for, where the budget ends, and what comes after it. A label that does not fit
        // uses up none of those asked for.
        let wanted = if filter.label.is_some() { looked } else { limited(page.limit).saturating_add(2) };
        let params: [Param<'_>; 11] = [
            (&after, Type::INT8),
            (&looked, Type::INT8),
            (&wanted, Type::INT8),
            (&filter.state.map(state_code), Type::INT2),
            (&filter.unfinished, Type::BOOL),
            (&filter.queue, Type::TEXT),
            (&submitter, Type::INT4),
            (&filter.delivery.map(delivery_code), Type::INT2),
            (&filter.guid_suffix, Type::TEXT),
            (&filter.from.map(|from| from.as_micros()), Type::INT8),
            (&filter.to.map(|to| to.as_micros()), Type::INT8),
        ];
        let rows = self.ask.walk(statement(filter.state, page.newest_first), &params).await?;
        let known = self.interned.known(self.ask, &rows, Columns::Record).await?;
        let mut found = Page::default();
        let mut last = page.after;
        for row in &rows {
            let (fits, place): (bool, i64) = (row.try_get("fits")?, row.try_get("place")?);
            if place > budget || (fits && found.records.len() >= page.limit) {
                found.next = last;
                break;
            }
            last = Some(job_id(row.try_get(0)?));
            if fits {
                let record = rows::record(row, &known);
                if has_label(&record, filter) {
                    found.records.push(record);
                }
            }
        }
        Ok(found)
    }
}

fn has_label(record: &JobRecord, filter: &Filter) -> bool {
    filter.label.as_ref().is_none_or(|(name, value)| record.labels.get(name) == Some(value))
}
