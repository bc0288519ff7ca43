//! T10: taking back what dead nodes left `starting`.

use std::{sync::Arc, time::Duration};

use tokio::time;
use tokio_postgres::types::Type;

use super::Shared;
use crate::{
    crash::{Deed, Deeds},
    error::Result,
    job::ErrorClass,
    ports::Wake,
    state::{self, POISON_CRASHES},
    store::postgres::{
        ask::{Answer, Ask, BY_INDEX},
        failure::Failure,
        link::Link,
        rows::class_code,
        sql::Sql,
    },
    time::Timestamp,
};

/// At most so many rows in one transaction.
const ROUND: usize = 1000;
/// Between two rounds, for others to write.
const BREATH: Duration = Duration::from_millis(50);

/// T10 for at most `limit` rows whose owner is dead; how many. Rows that somebody holds, as a late
/// outcome does, are left for later. To be called within a transaction that goes [`BY_INDEX`].
pub(in super::super) async fn reclaim(ask: Ask<'_>, limit: usize, now: Timestamp) -> Answer<usize> {
    let rows = ask
        .rows(
            Sql::Reclaim,
            &[
                (&i64::try_from(limit).unwrap_or(i64::MAX), Type::INT8),
                (&now.as_micros(), Type::INT8),
                (&i32::try_from(POISON_CRASHES).unwrap_or(i32::MAX), Type::INT4),
                (&class_code(ErrorClass::Poison), Type::INT2),
                (&state::POISONED, Type::TEXT),
                (&class_code(ErrorClass::Crash), Type::INT2),
                (&state::CRASHED, Type::TEXT),
            ],
        )
        .await?;
    let reclaimed: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
    Ok(usize::try_from(reclaimed).unwrap_or(0))
}

/// Takes back what dead nodes left, whenever some are known, until dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        shared.dead.notified().await;
        if !shared.habits.reclaims {
            continue;
        }
        let link = Link::new(shared.target.clone(), Arc::default());
        if let Err(err) = take_back(&shared, &link).await {
            // The next heartbeat finds those nodes again.
            tracing::debug!(error = %err, "what dead nodes left could not be taken back for now");
        }
        link.close();
    }
}

async fn take_back(shared: &Shared, link: &Link) -> Result<()> {
    let client = link.client().await?;
    let ask = Ask::new(&client, &shared.texts);
    let mut total = 0;
    loop {
        let reclaimed = round(ask, shared.now()).await.map_err(|err| Failure::of(&err).error(&err))?;
        if reclaimed == 0 {
            break;
        }
        total += reclaimed;
        shared.wakes.wake(Wake::Hint);
        shared.hint.notify_one();
        time::sleep(BREATH).await;
    }
    if total > 0 {
        tracing::warn!(jobs = total, "took back what dead nodes were starting");
    }
    forget(ask).await.map_err(|err| Failure::of(&err).error(&err))
}

/// One transaction, sent as a whole before the first answer is waited for.
async fn round(ask: Ask<'_>, now: Timestamp) -> Answer<usize> {
    let begin = format!("BEGIN; {BY_INDEX}");
    let mut deeds = Deeds::default();
    deeds.add(Deed::Reclaim);
    let (begun, reclaimed, (), ended) = tokio::join!(
        biased;
        ask.client.batch_execute(&begin),
        reclaim(ask, ROUND, now),
        async { deeds.before_commit() },
        ask.client.batch_execute("COMMIT"),
    );
    begun?;
    let reclaimed = reclaimed?;
    ended?;
    deeds.after_commit();
    Ok(reclaimed)
}

/// Deletes dead nodes that have nothing left `starting`.
///
/// A claim that saw its node alive holds the node's row until it has committed. So a row that can
/// be locked after it was marked as dead gets no more jobs while it stays locked, and what is counted
/// meanwhile is all. It must stay so until the row is deleted: a claim whose statement began before
/// the mark still sees the node alive, and could lock the row between the two statements.
///
/// After an error the connection is in that transaction still, and of no more use.
pub(super) async fn forget(ask: Ask<'_>) -> Answer<()> {
    let begin = format!("{}; {BY_INDEX}", ask.texts.text(Sql::Begin));
    let (begun, dead) = tokio::join!(biased; ask.client.batch_execute(&begin), ask.rows(Sql::DeadNodes, &[]));
    begun?;
    let unclaimed: Vec<i64> = dead?.iter().map(|row| row.try_get(0)).collect::<Answer<_>>()?;
    if !unclaimed.is_empty() {
        ask.rows(Sql::ForgetNodes, &[(&unclaimed, Type::INT8_ARRAY)]).await?;
        crash_point!(ForgetBefore);
    }
    ask.client.batch_execute(ask.texts.text(Sql::Commit)).await?;
    crash_point!(ForgetAfter);
    Ok(())
}
