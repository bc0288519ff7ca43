//! What systemd is told.

use sd_notify::NotifyState;
use sendoff::{Guid, Scheduler};
use tokio::time::timeout;

/// Tells it, if there is one.
pub(super) fn tell(states: &[NotifyState<'_>]) {
    if let Err(err) = sd_notify::notify(states) {
        tracing::warn!("the service manager could not be told: {err}");
    }
}

/// Shows that the engine lives, as often as the unit's WatchdogSec asks for. An engine that does not
/// answer is left to the watchdog.
pub(super) async fn keep_alive(scheduler: Scheduler) {
    let Some(limit) = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero()) else {
        return std::future::pending().await;
    };
    let pause = limit / 2;
    loop {
        // Nobody has a job of this guid: the question goes through the engine's loop and its store.
        let nobody = Guid::from_bytes(uuid::Uuid::now_v7().into_bytes());
        match timeout(pause, scheduler.started(nobody)).await {
            Ok(_) => tell(&[NotifyState::Watchdog]),
            Err(_) => tracing::error!("the engine does not answer: no sign of life for the watchdog"),
        }
        tokio::time::sleep(pause).await;
    }
}
