//! The limits of queues, as JSON.

use std::{collections::BTreeMap, sync::Arc};

use rusqlite::params;

use super::{reader::Reader, sql::Sql, writer::Writer};
use crate::{
    error::{Error, Result},
    job::QueueLimits,
};

pub(super) fn set(
    writer: &mut Writer<'_>,
    (queue, limits): &(Arc<str>, Option<QueueLimits>),
) -> rusqlite::Result<Result<()>> {
    let Some(limits) = limits else {
        writer.st[Sql::ForgetQueueLimits].execute([queue])?;
        return Ok(Ok(()));
    };
    let text = serde_json::to_string(limits).unwrap_or_default();
    if read(&text) != Some(*limits) {
        return Ok(Err(Error::invalid(format!("the limits of queue {queue} cannot be stored: {text}"))));
    }
    writer.st[Sql::SetQueueLimits].execute(params![queue, text])?;
    Ok(Ok(()))
}

fn read(text: &str) -> Option<QueueLimits> {
    serde_json::from_str(text).ok()
}

impl Reader<'_> {
    pub(super) fn queues(&mut self) -> rusqlite::Result<BTreeMap<Arc<str>, QueueLimits>> {
        let mut rows = self.st[Sql::QueueLimits].query([])?;
        let mut queues = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let (queue, text): (Arc<str>, Box<str>) = (row.get(0)?, row.get(1)?);
            let limits = read(&text).unwrap_or_else(|| {
                // Whatever they were, nothing starts beyond them.
                tracing::error!(%queue, "the limits of a queue cannot be read, so it is paused; set them again");
                QueueLimits { paused: true, ..QueueLimits::default() }
            });
            queues.insert(queue, limits);
        }
        Ok(queues)
    }
}
