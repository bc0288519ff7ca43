//! Jobs of all kinds, made by chance.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Chance, caller::Caller};

/// What a job is, for its judge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Simulated,
    SimulatedAtMostOnce,
    HttpAtLeastOnce,
    HttpAtMostOnce,
    Process,
    ProcessAtLeastOnce,
}

impl Kind {
    pub(super) const fn at_most_once(self) -> bool {
        matches!(self, Self::SimulatedAtMostOnce | Self::HttpAtMostOnce | Self::Process)
    }
}

/// What jobs are to be like.
pub(super) struct Recipe<'a> {
    pub(super) seed: u64,
    pub(super) endpoint: SocketAddr,
    /// None: no processes.
    pub(super) ledger: Option<&'a Path>,
    /// Also with keys, deadlines, priorities, cancels, and in the two limited queues.
    pub(super) rich: bool,
}

pub(super) struct Planned {
    pub(super) kind: Kind,
    /// None: it is known by its idempotency key.
    pub(super) guid: Option<Uuid>,
    pub(super) body: String,
    /// To be cancelled right after its submit.
    pub(super) cancelled: bool,
}

/// A queue with `max_in_flight`.
pub(super) const FEW: &str = "few";
pub(super) const AT_ONCE: usize = 4;
/// A queue with a `rate`.
pub(super) const SLOW: &str = "slow";
pub(super) const A_SECOND: i64 = 20;
pub(super) const BURST: i64 = 3;

/// Sets the limits of those queues.
pub(super) fn limit(caller: &mut Caller) {
    let rate = json!({"rate": {"starts": A_SECOND, "per": "1s", "burst": BURST}});
    for (queue, limits) in [(FEW, json!({"max_in_flight": AT_ONCE})), (SLOW, rate)] {
        let answer = caller.ask("PUT", &format!("/v1/queues/{queue}"), &limits.to_string()).unwrap();
        assert_eq!(answer.0, 200, "{answer:?}");
    }
}

impl Recipe<'_> {
    /// The job of this number: always the same.
    pub(super) fn job(&self, number: usize) -> Planned {
        let mut chance = Chance::nth(self.seed, number);
        let guid = chance.guid();
        let url = |held: u64| format!("http://{}/{held}", self.endpoint);
        // Some are held for a while, so that there is something in flight.
        let held = if chance.below(4) == 0 { 5 } else { 0 };
        let (kind, mut job) = match (chance.below(10), self.ledger) {
            (0..4, _) => {
                (Kind::HttpAtLeastOnce, json!({"start": {"http": {"url": url(held), "json": {"a": 1}}}}))
            }
            (4..6, _) => (
                Kind::HttpAtMostOnce,
                json!({"start": {"http": {"url": url(held)}}, "delivery": "at_most_once"}),
            ),
            (6, Some(ledger)) => {
                let script = r#"echo "$SENDOFF_GUID" >> "$0""#;
                let process = json!({"program": "/bin/sh", "args": ["-c", script, ledger]});
                (Kind::Process, json!({"start": {"process": process}}))
            }
            _ => (Kind::Simulated, json!({"start": {"simulated": {"delay": "1ms"}}})),
        };
        // A reclaimed attempt counts; a job must not fail only because it met several kills.
        job["retry"] = json!({"max_attempts": 20, "max_backoff": "100ms"});
        if chance.below(4) == 0 {
            job["delay"] = format!("{}ms", chance.below(300)).into();
        }
        let mut planned = Planned { kind, guid: Some(guid), body: String::new(), cancelled: false };
        if self.rich {
            enrich(&mut planned, &mut job, &mut chance);
            // In bursts, so that their limits are felt.
            if matches!(kind, Kind::HttpAtLeastOnce | Kind::HttpAtMostOnce) {
                match number % 5_000 {
                    0..100 => job["queue"] = SLOW.into(),
                    100..200 => {
                        job["queue"] = FEW.into();
                        job["start"]["http"]["url"] = url(50).into();
                    }
                    _ => {}
                }
            }
        }
        if let Some(guid) = planned.guid {
            job["guid"] = guid.to_string().into();
        }
        planned.body = job.to_string();
        planned
    }
}

fn enrich(planned: &mut Planned, job: &mut Value, chance: &mut Chance) {
    job["priority"] = chance.below(10).into();
    match chance.below(10) {
        0 => {
            job["idempotency_key"] = format!("key of {}", chance.guid()).into();
            planned.guid = None;
        }
        1 => planned.cancelled = true,
        2 => job["expires_in"] = format!("{}ms", 50 + chance.below(1_500)).into(),
        _ => {}
    }
}
