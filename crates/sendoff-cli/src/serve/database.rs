//! The store that many daemons share.

use std::{sync::Arc, time::Duration};

use sendoff::{
    ports::Store,
    store::{PostgresOptions, PostgresStore},
    time::{Clock, SystemClock},
};

use crate::{
    config::{Config, DatabaseUrl},
    failure::Failure,
};

/// How long a database that cannot be reached is waited for at the start. Then it is the service
/// manager's turn, which shows that something is wrong and starts the daemon again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first pause before another attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Connects, and joins the fleet.
///
/// # Errors
/// Exit 2 for a URL that is none, exit 4 for a database that cannot be used or does not come back.
pub(super) async fn open(url: &DatabaseUrl, config: &Config) -> Result<Arc<dyn Store>, Failure> {
    // As for psql: so that the URL can stand where others may read it.
    let password = std::env::var("PGPASSWORD").ok();
    let whole = url.with_password(password.as_deref());
    let began = SystemClock.elapsed();
    let mut pause = PAUSE;
    loop {
        let err = match PostgresStore::connect(&whole, options(config)).await {
            Ok(store) => return Ok(Arc::new(store)),
            Err(err) if err.is_invalid() => return Err(Failure::usage(format!("store: {url}: {err}"))),
            Err(err) => err,
        };
        let waited = SystemClock.elapsed().saturating_sub(began);
        if !err.is_unavailable() || waited + pause > PATIENCE {
            return Err(Failure::store(format!("{url}: {err}")));
        }
        tracing::warn!("{url}: {err}; trying again, for {} s at most", PATIENCE.as_secs());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn options(config: &Config) -> PostgresOptions {
    let mut options = PostgresOptions::default();
    if let Some(interval) = config.poll_interval {
        options.poll_interval = interval.duration();
    }
    options.queues = Some(config.queues.clone()).filter(|queues| !queues.is_empty());
    options.hints = !config.poll_only;
    options.allow_async_failover = config.allow_async_failover;
    options
}
