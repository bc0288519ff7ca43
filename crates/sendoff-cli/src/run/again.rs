//! Starting a run over: what there is of it goes, whatever its state.

use std::sync::Arc;

use sendoff::{
    Guid, State,
    ports::{Filter, InsertBatch, PageRequest, Prune, Store},
    time::{Clock, SystemClock, Timestamp},
};

use super::position::Position;

/// Rows in one transaction.
const ROWS: usize = 1_000;

/// Stores that the run is being started over, then cancels what is pending of it and deletes all
/// its records. Nothing of it may be running. After a crash midway, the position says so.
pub(crate) async fn clear(store: &Arc<dyn Store>, key: &str, position: &Position) -> sendoff::Result<()> {
    let now = SystemClock.now();
    let bookmark = Some((key.to_owned(), position.write()));
    store.insert(InsertBatch { jobs: Vec::new(), atomic: false, bookmark, now }).await?;
    // What a crash left starting becomes pending or unknown.
    while store.reclaim(ROWS, now).await? == ROWS {}
    cancel_pending(store, key).await?;
    let prune =
        Prune { before: Timestamp::MAX, submitted_by: Some(key.to_owned()), unknown_too: true, limit: ROWS };
    while store.prune(prune.clone()).await? > 0 {}
    Ok(())
}

/// Cancels what is pending of a run; how many.
pub(crate) async fn cancel_pending(store: &Arc<dyn Store>, key: &str) -> sendoff::Result<usize> {
    let filter =
        Filter { state: Some(State::Pending), submitted_by: Some(key.to_owned()), ..Filter::default() };
    let mut page = PageRequest { limit: ROWS, row_budget: 100_000, ..PageRequest::default() };
    let mut cancelled = 0;
    loop {
        let found = store.list(filter.clone(), page).await?;
        let guids: Vec<Guid> = found.records.iter().map(|record| record.guid).collect();
        cancelled += guids.len();
        if !guids.is_empty() {
            store.cancel(guids, SystemClock.now()).await?;
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(cancelled),
        }
    }
}
