//! What is measured, for Prometheus. Labels never come from payloads, and their number is bounded.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use super::standing::Standing;
use http::StatusCode;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Metric, Registry},
};
use sendoff::{
    ErrorClass, State,
    ports::{AttemptSeen, Counts, Observer},
};

/// Queues that have their own lines; the smaller ones are summed up as `_other`.
const QUEUES: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByStarter {
    starter: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    starter: Arc<str>,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByClass {
    starter: Arc<str>,
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCall {
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByQueue {
    queue: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// A histogram of seconds with two buckets for each power of ten, from 100 us to so many.
#[derive(Debug, Clone, Copy)]
struct Seconds(f64);

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        let steps = (-4..=4).flat_map(|power| [1.0, 2.5, 5.0].map(|step| step * 10_f64.powi(power)));
        Histogram::new(steps.filter(|step| *step < self.0).chain([self.0]))
    }
}

/// Collects what the engine and the API do; [`Api::new`](super::Api::new) shows it.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    starts: Family<ByResult, Counter>,
    failures: Family<ByClass, Counter>,
    wait: Family<ByStarter, Histogram, Seconds>,
    took: Family<ByStarter, Histogram, Seconds>,
    store: Family<ByCall, Histogram, Seconds>,
    store_errors: Family<ByCall, Counter>,
    requests: Family<ByRoute, Counter>,
    in_flight: Gauge,
}

/// One request that is being answered.
pub(crate) struct InFlight<'a>(&'a Metrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}

impl InFlight<'_> {
    pub(crate) fn answered(self, route: &'static str, status: StatusCode) {
        self.0.requests.get_or_create(&ByRoute { route, status: status.as_u16() }).inc();
    }
}

impl Metrics {
    pub(crate) fn new() -> Arc<Self> {
        let mut registry = Registry::with_prefix("sendoff");
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "This program", build);
        let hour = Seconds(3_600.0);
        let minute = Seconds(60.0);
        Arc::new(Self {
            starts: register(&mut registry, "starts", "Attempts, by what they led to", Family::default()),
            failures: register(
                &mut registry,
                "start_failures",
                "Attempts that did not start their job, by class",
                Family::default(),
            ),
            wait: register(
                &mut registry,
                "wait_seconds",
                "How long after it could have a first attempt began",
                Family::new_with_constructor(hour),
            ),
            took: register(
                &mut registry,
                "took_seconds",
                "How long the target of a start took",
                Family::new_with_constructor(minute),
            ),
            store: register(
                &mut registry,
                "store_seconds",
                "How long the store took to answer",
                Family::new_with_constructor(minute),
            ),
            store_errors: register(
                &mut registry,
                "store_errors",
                "Calls of the store that failed",
                Family::default(),
            ),
            requests: register(&mut registry, "http_requests", "Requests answered", Family::default()),
            in_flight: register(
                &mut registry,
                "http_requests_in_flight",
                "Requests being answered",
                Gauge::default(),
            ),
            registry,
        })
    }

    pub(crate) fn request_begins(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(self)
    }

    /// Everything as text, with what only the store knows: its jobs, and for how long the earliest has
    /// been due.
    pub(crate) fn write(
        &self,
        known: Option<&(Counts, f64)>,
        standing: &Standing,
        lease_held: Option<bool>,
        in_flight: usize,
    ) -> String {
        let mut store = Registry::with_prefix("sendoff");
        if let Some((counts, overdue)) = known {
            store.register("jobs", "Jobs, by queue and state, of all nodes", jobs(counts));
            let oldest = Gauge::<f64, AtomicU64>::default();
            oldest.set(*overdue);
            let about = "For how long the earliest pending job has been due";
            store.register("oldest_overdue_seconds", about, oldest);
        }
        let mut gauge = |name, about, value: Option<f64>| {
            let Some(value) = value else { return };
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(value);
            store.register(name, about, gauge);
        };
        let switch = |on| if on { 1.0 } else { 0.0 };
        gauge("starts_in_flight", "Starts under way on this node", Some(in_flight as f64));
        gauge("store_reachable", "Whether the store answers", Some(switch(standing.reachable())));
        if lease_held.is_some() {
            let about = "Whether this node's heartbeat is up to date, so that it may begin starts";
            gauge("lease_held", about, lease_held.map(switch));
            gauge(
                "nodes_alive",
                "Nodes that share the store and are alive",
                standing.alive().map(|n| n as f64),
            );
            let about = "How long ago this node's last heartbeat arrived";
            gauge("heartbeat_age_seconds", about, standing.heartbeat_age());
        }
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = text::encode_registry(&mut out, &self.registry);
        let _ = text::encode_registry(&mut out, &store);
        let _ = text::encode_eof(&mut out);
        out
    }
}

fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// The largest queues each by itself, the others together.
fn jobs(counts: &Counts) -> Family<ByQueue, Gauge> {
    let mut queues: Vec<_> = counts.queues.iter().collect();
    queues.sort_by_key(|(_, states)| std::cmp::Reverse(states.values().sum::<u64>()));
    let jobs = Family::<ByQueue, Gauge>::default();
    for (place, (queue, states)) in queues.into_iter().enumerate() {
        let queue = if place < QUEUES { queue.as_str() } else { "_other" };
        for (state, number) in states {
            let labels = ByQueue { queue: queue.to_owned(), state: state.as_str() };
            jobs.get_or_create(&labels).inc_by(i64::try_from(*number).unwrap_or(i64::MAX));
        }
    }
    jobs
}

impl Observer for Metrics {
    fn attempt_ended(&self, attempt: &AttemptSeen<'_>) {
        let starter = attempt.lane.starter.clone();
        if let Some(wait) = attempt.wait {
            self.wait.get_or_create(&ByStarter { starter: starter.clone() }).observe(wait.as_secs_f64());
        }
        if let Some(took) = attempt.took {
            self.took.get_or_create(&ByStarter { starter: starter.clone() }).observe(took.as_secs_f64());
        }
        if let Some(failure) = attempt.failure {
            self.failures.get_or_create(&ByClass { starter: starter.clone(), class: class(failure) }).inc();
        }
        let result = if attempt.state == State::Pending { "retry" } else { attempt.state.as_str() };
        self.starts.get_or_create(&ByResult { starter, result }).inc();
    }

    fn store_answered(&self, call: &'static str, took: Duration, ok: bool) {
        let call = ByCall { call };
        self.store.get_or_create(&call).observe(took.as_secs_f64());
        if !ok {
            self.store_errors.get_or_create(&call).inc();
        }
    }
}

const fn class(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Permanent => "permanent",
        ErrorClass::NotStarted => "not_started",
        ErrorClass::Ambiguous => "ambiguous",
        ErrorClass::Pressure => "pressure",
        ErrorClass::Crash => "crash",
        ErrorClass::Poison => "poison",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn many_queues_do_not_make_many_lines() {
        let queue = |n: u64| (format!("q{n}"), BTreeMap::from([(State::Pending, n + 1)]));
        let counts = Counts { queues: (0..1_000).map(queue).collect(), quarantined: 0 };
        let text = Metrics::new().write(Some(&(counts, 1.5)), &Standing::default(), Some(false), 3);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("sendoff_jobs{")).collect();
        assert_eq!(lines.len(), QUEUES + 1);
        let sum: u64 =
            lines.iter().map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
        assert_eq!(sum, (1..=1_000).sum::<u64>());
        assert!(text.contains("sendoff_oldest_overdue_seconds 1.5"), "{text}");
        assert!(text.contains("sendoff_starts_in_flight 3"), "{text}");
        assert!(
            text.contains("sendoff_lease_held 0") && text.contains("sendoff_store_reachable 0"),
            "{text}"
        );
        assert!(!text.contains("sendoff_nodes_alive"), "nobody knows: {text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
