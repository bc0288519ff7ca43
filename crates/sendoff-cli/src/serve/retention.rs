//! Records do not stay for ever. They go a few at a time, from the first second on.

use std::time::Duration;

use sendoff::{
    Result, Scheduler, State, Timestamp,
    ports::Prune,
    time::{Clock, SystemClock},
};

use super::live::Live;
use crate::config::Retention;

/// Records deleted in one step.
const STEP: usize = 1_000;
/// While there is work, the pause after a step is so many times as long as the step was, so that
/// everything else goes on.
const BREATHS: u32 = 3;
/// Until there may be work again.
const PAUSE: Duration = Duration::from_secs(60);

/// Deletes what is old enough, as long as the scheduler runs.
pub(super) async fn keep(scheduler: Scheduler, live: Live) {
    loop {
        let retention = live.current().config().retention.clone();
        let began = SystemClock.elapsed();
        let pause = match step(&scheduler, &retention, SystemClock.now()).await {
            Ok(0) => PAUSE,
            Ok(_) => SystemClock.elapsed().saturating_sub(began) * BREATHS,
            Err(err) if err.is_closed() => return,
            Err(err) if err.is_unavailable() => {
                tracing::warn!("old records stay until the store can be reached again: {err}");
                PAUSE
            }
            Err(err) => {
                tracing::error!("old records could not be deleted, which is tried again: {err}");
                PAUSE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// At most [`STEP`] records; how many.
async fn step(scheduler: &Scheduler, retention: &Retention, now: Timestamp) -> Result<usize> {
    let prune = |before, unknown_too, limit| Prune { before, submitted_by: None, unknown_too, limit };
    let pruned = scheduler.prune(prune(ago(now, retention.ended.duration()), false, STEP)).await?;
    if pruned > 0 {
        return Ok(pruned);
    }
    // Unknown ones wait for an operator at least as long as the others are kept.
    let longest = retention.unknown.max(retention.ended).duration();
    let pruned = scheduler.prune(prune(ago(now, longest), true, STEP)).await?;
    if pruned > 0 {
        return Ok(pruned);
    }
    let Some(most) = retention.max_final_rows else { return Ok(0) };
    let counts = scheduler.counts().await?;
    let ended = [State::Started, State::Failed, State::Cancelled, State::Expired];
    let ended: u64 = ended.into_iter().map(|state| counts.total(state)).sum();
    let excess = usize::try_from(ended.saturating_sub(most)).unwrap_or(usize::MAX);
    if excess == 0 {
        return Ok(0);
    }
    // The oldest go first, and none is kept because the clock was ahead when it ended.
    scheduler.prune(prune(Timestamp::MAX, false, excess.min(STEP))).await
}

fn ago(now: Timestamp, span: Duration) -> Timestamp {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.as_micros().saturating_sub(micros)).unwrap_or(Timestamp::MIN)
}
