//! Nodes, and what a node says of its part in a fleet.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sendoff::{
    JobId,
    ports::{Claim, ClaimVerdict, Fleet, Lease, NodeRecord, StoreFuture, Wake, Wanted},
    store::MemoryStore,
    time::{Clock, SystemClock},
};
use serde_json::json;

use super::Place;

/// A node whose lease and whose rules the test decides.
struct Part {
    lease: Arc<Lease>,
    at_most_once: bool,
}

impl Part {
    fn node(lease: Duration, at_most_once: bool) -> Option<Arc<dyn Fleet>> {
        let lease = Arc::new(Lease::new("n1".into(), SystemClock.elapsed() + lease));
        Some(Arc::new(Self { lease, at_most_once }))
    }
}

impl Fleet for Part {
    fn lease(&self) -> Arc<Lease> {
        self.lease.clone()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    fn queues(&self) -> Option<Arc<[Arc<str>]>> {
        None
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn woken(&self) -> BoxFuture<'static, Wake> {
        Box::pin(std::future::pending())
    }

    fn hint(&self) {}

    fn report(&self, _: usize) {}

    fn claim(&self, _: Vec<Wanted>, _: Claim) -> StoreFuture<Vec<ClaimVerdict>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn mine(&self) -> StoreFuture<Vec<(JobId, u32)>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn accepts_at_most_once(&self) -> bool {
        self.at_most_once
    }

    fn nodes(&self) -> StoreFuture<Vec<NodeRecord>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[tokio::test]
async fn a_store_that_is_not_shared_has_one_node() {
    let place = Place::new().await;
    let answer = place.get("/v1/nodes").await.ok();
    let [node] = answer["nodes"].as_array().unwrap().as_slice() else { panic!("{answer}") };
    assert_eq!((&node["this"], &node["state"]), (&json!(true), &json!("alive")));
    assert_eq!((&node["queues"], &node["in_flight"]), (&json!(null), &json!(0)));
    let health = place.get("/healthz").await.ok();
    assert_eq!((&health["fleet"], &health["degraded"]), (&json!(null), &json!([])));
}

#[tokio::test]
async fn health_says_how_a_node_stands_in_its_fleet() {
    let hour = Duration::from_secs(3_600);
    let place = Place::on(Arc::new(MemoryStore::new()), Part::node(hour, true)).await;
    let ready = place.get("/readyz").await.ok();
    assert_eq!((&ready["degraded"], &ready["fleet"]["node"]), (&json!([]), &json!("n1")));
    assert_eq!((&ready["fleet"]["lease"], &ready["fleet"]["nodes_alive"]), (&json!(true), &json!(1)));
    let text = place.get("/metrics").await.text;
    for line in ["sendoff_lease_held 1", "sendoff_nodes_alive 1", "sendoff_store_reachable 1"] {
        assert!(text.contains(&format!("\n{line}")), "{text}");
    }
}

#[tokio::test]
async fn a_node_that_can_do_less_says_so_and_takes_jobs() {
    let place = Place::on(Arc::new(MemoryStore::new()), Part::node(Duration::ZERO, false)).await;
    let ready = place.get("/readyz").await.ok();
    assert_eq!((&ready["ready"], &ready["fleet"]["lease"]), (&json!(true), &json!(false)));
    let words = ready["degraded"].to_string();
    assert!(words.contains("heartbeat is late") && words.contains("allow_async_failover"), "{words}");
}
