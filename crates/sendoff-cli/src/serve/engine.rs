//! The daemon's store, starters and scheduler.

use std::{os::unix::fs::DirBuilderExt, sync::Arc};

use sendoff::{
    Builder, Scheduler,
    ports::Store,
    starter::{HttpStarter, ProcessOptions, ProcessStarter, SharedPolicy, SimulatedStarter},
    store::{MemoryStore, SqliteOptions, SqliteStore},
};

use super::database;
use crate::{
    api::Metrics,
    config::Config,
    failure::Failure,
    run::{self, Place, store_failure},
};

/// Opens the store: whoever holds it is the daemon, but where many share it.
pub(super) async fn open(config: &Config) -> Result<Arc<dyn Store>, Failure> {
    let path = match &config.store {
        Place::Postgres(url) => return database::open(url, config).await,
        Place::Memory => {
            tracing::warn!("the store is in memory: nothing that is acknowledged survives this process");
            return Ok(Arc::new(MemoryStore::new()));
        }
        Place::File(path) => path,
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // What is wrong with it is said by the store.
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    }
    let mut options = SqliteOptions::default();
    if let Some(mebibytes) = config.keep_free {
        options.keep_free_bytes = mebibytes << 20;
        options.keep_free_percent = 100;
    }
    Ok(Arc::new(SqliteStore::open(path, options).map_err(|err| store_failure(path, &err))?))
}

/// Starts the scheduler, and with it what is due in the store.
pub(super) async fn start(
    config: &Config,
    store: Arc<dyn Store>,
    policy: SharedPolicy,
    metrics: Arc<Metrics>,
) -> Result<Scheduler, Failure> {
    let builder = starters(config, policy).map_err(|err| Failure::usage(err.to_string()))?;
    let builder = builder.store(store).max_in_flight(config.limits.max_in_flight).observer(metrics);
    let started = builder.start().await;
    started.map_err(|err| run::failure(&config.store, &err))
}

fn starters(config: &Config, policy: SharedPolicy) -> sendoff::Result<Builder> {
    let process = ProcessOptions::new().max_running(config.limits.max_running).policy(policy.clone());
    let http = HttpStarter::builder().max_per_destination(config.limits.max_per_destination).policy(policy);
    Ok(Scheduler::builder()
        .starter(SimulatedStarter)
        .starter(ProcessStarter::with_options(process)?)
        .starter(http.build()?))
}
