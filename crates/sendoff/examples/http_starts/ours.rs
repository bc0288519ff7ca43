//! sendoff: the starter alone, and the whole engine.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicUsize},
};

use sendoff::{
    Batch, Guid, JobSpec, QueueLimits, Scheduler, State,
    ports::{Attempt, Running, Starter, Store},
    starter::{Http, HttpStarter},
    store::{MemoryStore, SqliteOptions, SqliteStore},
};
use tokio::task::JoinSet;

use crate::{BODY, raw::take};

const BATCH: usize = 1_000;
const PAUSED: QueueLimits = QueueLimits { max_in_flight: None, rate: None, paused: true };

fn payload(address: SocketAddr) -> Http {
    Http::post(format!("http://{address}/hook")).body("x".repeat(BODY))
}

/// Attempts, one after the other for each connection.
pub(crate) async fn through_starter(address: SocketAddr, starts: usize, connections: usize) {
    let payload = serde_json::value::to_raw_value(&payload(address)).expect("a payload serialises");
    let starter = HttpStarter::builder().max_per_destination(connections).build().expect("a starter");
    let (starter, left) = (Arc::new(starter), Arc::new(AtomicUsize::new(starts)));
    let mut lanes = JoinSet::new();
    for lane in 0..connections {
        let (payload, starter, left) = (payload.clone(), Arc::clone(&starter), Arc::clone(&left));
        lanes.spawn(async move {
            let guid = Guid::from_bytes((lane as u128).to_be_bytes());
            while take(&left) {
                let attempt = Attempt::for_test(guid, payload.clone(), Running::unlimited());
                starter.start(attempt).await.expect("the server answers 204");
            }
        });
    }
    lanes.join_all().await;
}

/// A scheduler whose queue is paused and full.
pub(crate) struct Engine {
    scheduler: Scheduler,
    /// Where SQLite's file is.
    _directory: tempfile::TempDir,
}

impl Engine {
    pub(crate) async fn new(
        store: &str,
        address: SocketAddr,
        starts: usize,
        connections: usize,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let store: Arc<dyn Store> = match store {
            "sqlite" => {
                let path = directory.path().join("jobs.db");
                Arc::new(SqliteStore::open(&path, SqliteOptions::default())?)
            }
            _ => Arc::new(MemoryStore::new()),
        };
        let starter = HttpStarter::builder().max_per_destination(connections).build()?;
        let scheduler = Scheduler::builder().store(store).starter(starter).start().await?;
        scheduler.set_queue_limits("default", Some(PAUSED)).await?;
        let spec = JobSpec::new(&payload(address));
        for first in (0..starts).step_by(BATCH) {
            let specs = vec![spec.clone(); BATCH.min(starts - first)];
            scheduler.submit_batch(Batch::itemised(specs)).await?;
        }
        Ok(Self { scheduler, _directory: directory })
    }

    /// Opens the queue and waits for the last outcome.
    pub(crate) async fn go(&self) {
        self.scheduler.set_queue_limits("default", None).await.expect("a queue without limits");
        self.scheduler.idle().await.expect("all started");
    }

    /// # Errors
    /// A store's.
    ///
    /// # Panics
    /// If not all have started.
    pub(crate) async fn check(&self, starts: usize) -> Result<(), sendoff::Error> {
        assert_eq!(self.scheduler.counts().await?.total(State::Started), starts as u64);
        self.scheduler.shutdown(std::time::Duration::from_secs(1)).await?;
        Ok(())
    }
}
