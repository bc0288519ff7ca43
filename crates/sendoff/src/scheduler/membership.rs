//! Who this node is: alone with its store, or one of a fleet.

use std::{sync::Arc, time::Duration};

use crate::{
    error::Result,
    ports::{Fleet, Lease, NodeRecord, NodeState, Store},
    time::Timestamp,
};

/// How often a record is read again while another node may be the one that changes it: at first,
/// and at most.
const REREAD: Duration = Duration::from_millis(250);
const REREAD_MAX: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Membership {
    fleet: Option<Arc<dyn Fleet>>,
    /// The name of a node without a fleet, and its right to do everything at any time.
    own: Arc<Lease>,
    since: Timestamp,
}

impl Membership {
    pub(super) fn new(store: &dyn Store, now: Timestamp) -> Self {
        // A fresh name for each process start: never taken for its predecessor.
        let name = uuid::Uuid::from_u128(fastrand::u128(..)).hyphenated().to_string();
        Self { fleet: store.fleet(), own: Arc::new(Lease::new(name.into(), Duration::MAX)), since: now }
    }

    pub(super) const fn fleet(&self) -> Option<&Arc<dyn Fleet>> {
        self.fleet.as_ref()
    }

    /// Under which name this node acts now.
    pub(super) fn lease(&self) -> Arc<Lease> {
        self.fleet.as_ref().map_or_else(|| self.own.clone(), |fleet| fleet.lease())
    }

    pub(super) async fn nodes(&self, now: Timestamp, in_flight: usize) -> Result<Vec<NodeRecord>> {
        if let Some(fleet) = &self.fleet {
            return fleet.nodes().await;
        }
        let system = rustix::system::uname();
        let host = system.nodename().to_string_lossy();
        Ok(vec![NodeRecord {
            node: self.own.node().to_string(),
            address: format!("{host}:{}", std::process::id()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            this: true,
            state: NodeState::Alive,
            started_at: self.since,
            heartbeat_at: now,
            behind_us: 0,
            in_flight: in_flight as u64,
            queues: None,
        }])
    }
}

/// When to read again what another node may have changed: at growing intervals; without a fleet
/// never, since every change is told here.
pub(super) struct Rereads {
    next: Option<Duration>,
}

impl Rereads {
    pub(super) fn new(membership: &Membership) -> Self {
        Self { next: membership.fleet().map(|_| REREAD) }
    }

    pub(super) async fn next(&mut self) {
        let Some(wait) = self.next else { return std::future::pending().await };
        tokio::time::sleep(wait).await;
        self.next = Some((wait * 2).min(REREAD_MAX));
    }
}
