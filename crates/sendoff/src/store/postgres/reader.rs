//! What is read, but for listings: on any connection, each call by itself.

use std::{collections::BTreeMap, sync::Arc};

use tokio_postgres::{Row, types::Type};

use super::{
    ask::{Answer, Ask},
    rows::{self, job_id, row_id, uuid_of},
    sql::Sql,
    texts::{Columns, Interned},
};
use crate::{
    guid::Guid,
    job::{Header, JobId, JobRecord, Lane, QueueLimits},
    ports::Counts,
    state::State,
    time::Timestamp,
};

/// A connection to read from, and what is known of the texts that rows name.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) ask: Ask<'a>,
    pub(super) interned: &'a Interned,
}

/// Headers in the order asked for.
#[derive(Debug, Default)]
pub(super) struct Headers {
    pub(super) found: Vec<Header>,
    /// Rows that cannot be decoded; they were left out, and are to be quarantined.
    pub(super) suspects: Vec<JobId>,
}

pub(super) fn limited(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl<'a> Reader<'a> {
    pub(super) async fn get(self, guid: Guid) -> Answer<Option<JobRecord>> {
        let rows = self.ask.rows(Sql::Record, &[(&uuid_of(&guid), Type::UUID)]).await?;
        let known = self.interned.known(self.ask, &rows, Columns::Record).await?;
        Ok(rows.first().map(|row| rows::record(row, &known)))
    }

    pub(super) async fn due(
        self,
        after: Option<(Timestamp, JobId)>,
        until: Timestamp,
        limit: usize,
    ) -> Answer<Headers> {
        let mut headers = Headers::default();
        let mut after = after.map_or((i64::MIN, 0), |(at, id)| (at.as_micros(), row_id(id)));
        loop {
            let left = limited(limit - headers.found.len());
            let params: [super::ask::Param<'_>; 4] = [
                (&after.0, Type::INT8),
                (&after.1, Type::INT8),
                (&until.as_micros(), Type::INT8),
                (&left, Type::INT8),
            ];
            let rows = self.ask.walk(Sql::Due, &params).await?;
            let whole = self.take(&rows, &mut headers).await?;
            match rows.last() {
                // Where some were left out there may be more.
                Some(last) if !whole && limited(rows.len()) == left => {
                    after = (last.try_get(3)?, last.try_get(0)?)
                }
                _ => return Ok(headers),
            }
        }
    }

    /// Fewer than there are if some were left out: those are pending no longer once they are
    /// quarantined.
    pub(super) async fn ready(self, lane: &Arc<Lane>, now: Timestamp, limit: usize) -> Answer<Headers> {
        let mut headers = Headers::default();
        let Some(id) = self.interned.find_lane(self.ask, lane).await? else { return Ok(headers) };
        let params: [super::ask::Param<'_>; 3] =
            [(&id, Type::INT4), (&now.as_micros(), Type::INT8), (&limited(limit), Type::INT8)];
        let rows = self.ask.walk(Sql::Ready, &params).await?;
        self.take(&rows, &mut headers).await?;
        Ok(headers)
    }

    /// In the order of their numbers, which is that in which they were met first. After one that has
    /// no number: from the beginning.
    pub(super) async fn lanes(self, after: Option<&Arc<Lane>>, limit: usize) -> Answer<Vec<Arc<Lane>>> {
        let after = match after {
            Some(lane) => self.interned.find_lane(self.ask, lane).await?.unwrap_or(0),
            None => 0,
        };
        let params: [super::ask::Param<'_>; 2] = [(&after, Type::INT4), (&limited(limit), Type::INT8)];
        let rows = self.ask.walk(Sql::BusyLanes, &params).await?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Answer<Vec<i32>>>()?;
        let known = self.interned.lanes(self.ask, &ids).await?;
        Ok(ids.iter().filter_map(|id| known.lane(*id).cloned()).collect())
    }

    pub(super) async fn counts(self) -> Answer<Counts> {
        let quarantined = self.ask.walk(Sql::Quarantined, &[]).await?;
        let quarantined: i64 = quarantined.first().map_or(Ok(0), |row| row.try_get(0))?;
        let mut counts = Counts { quarantined: u64::try_from(quarantined).unwrap_or(0), ..Counts::default() };
        for row in self.ask.rows(Sql::Counts, &[]).await? {
            let state = u8::try_from(row.try_get::<_, i16>(1)?).ok().and_then(State::from_code);
            let n = u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0);
            if let (Some(state), 1..) = (state, n) {
                counts.queues.entry(row.try_get(0)?).or_default().insert(state, n);
            }
        }
        Ok(counts)
    }

    pub(super) async fn bookmark(self, name: &str) -> Answer<Option<Vec<u8>>> {
        let rows = self.ask.rows(Sql::Bookmark, &[(&name, Type::TEXT)]).await?;
        rows.first().map(|row| row.try_get(0)).transpose()
    }

    pub(super) async fn queues(self) -> Answer<BTreeMap<Arc<str>, QueueLimits>> {
        let rows = self.ask.rows(Sql::QueueLimits, &[]).await?;
        let read = |row: &Row| {
            let (queue, text): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            let limits = serde_json::from_str(text).unwrap_or_else(|_| {
                // Whatever they were, nothing starts beyond them.
                tracing::error!(%queue, "the limits of a queue cannot be read, so it is paused; set them again");
                QueueLimits { paused: true, ..QueueLimits::default() }
            });
            Ok((queue.into(), limits))
        };
        rows.iter().map(read).collect()
    }

    /// Whether all could be decoded.
    async fn take(self, rows: &[Row], headers: &mut Headers) -> Answer<bool> {
        let known = self.interned.known(self.ask, rows, Columns::Header).await?;
        let before = headers.suspects.len();
        for row in rows {
            match rows::header(row, &known) {
                Some(header) => headers.found.push(header),
                None => headers.suspects.push(job_id(row.try_get(0)?)),
            }
        }
        Ok(headers.suspects.len() == before)
    }
}

/// Replaces all rows of the tally by their sums. Exact whatever others append meanwhile; does
/// nothing while another node does the same.
pub(super) async fn fold(ask: Ask<'_>) -> Answer<()> {
    ask.rows(Sql::Fold, &[]).await.map(drop)
}
