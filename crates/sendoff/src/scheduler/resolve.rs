//! From what a caller submits to what the engine keeps: checks, defaults, absolute times.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    dispatcher::{Backoff, StarterLimits},
    error::{Error, Result},
    guid::{Guid, GuidSource},
    job::{Caller, Job, JobSpec, Lane, QueueLimits},
    ports::{Starter, StarterDefaults},
    time::{Span, Timestamp},
};

/// The queue of jobs that do not say.
const DEFAULT_QUEUE: &str = "default";
/// How long an attempt may take if its job does not say.
pub(crate) const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_START_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const MAX_ATTEMPTS: u32 = 1_000;
const MAX_NAME: usize = 100;
const MAX_KEY: usize = 255;
const MAX_LABELS: usize = 64;
const MAX_LABEL: usize = 1_024;
/// Lanes remembered so that the jobs of a lane share it; forgotten all at once when there are more.
const LANES_REMEMBERED: usize = 16_384;

/// Checks jobs against the registered starters and fills in what they leave open.
pub(crate) struct Resolver {
    kinds: BTreeMap<Arc<str>, Kind>,
    lanes: Mutex<Lanes>,
    guids: GuidSource,
}

/// A kind of start, and what its starter said of it when it was registered.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) starter: Arc<dyn Starter>,
    pub(crate) defaults: StarterDefaults,
    /// Whether it starts many at once.
    pub(crate) many: bool,
}

/// Lanes that were asked for, each of them once.
#[derive(Default)]
struct Lanes {
    known: HashMap<Lane, Arc<Lane>>,
    /// The one asked for last: jobs of one lane come in rows.
    last: Option<Arc<Lane>>,
    /// The request made last: so do jobs that ask for the same.
    last_request: Option<Arc<str>>,
}

impl Resolver {
    pub(crate) fn new(starters: Vec<Arc<dyn Starter>>) -> Result<Self> {
        let mut by_name = BTreeMap::new();
        for starter in starters {
            let name: Arc<str> = starter.name().into();
            let (defaults, many) = (starter.defaults(), starter.many().is_some());
            if by_name.insert(name.clone(), Kind { starter, defaults, many }).is_some() {
                return Err(Error::invalid(format!("two starters are named {name:?}")));
            }
        }
        Ok(Self { kinds: by_name, lanes: Mutex::default(), guids: GuidSource::new() })
    }

    pub(crate) fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.get(name)
    }

    pub(crate) fn starter_limits(&self) -> Vec<StarterLimits> {
        self.kinds
            .iter()
            .map(|(name, Kind { defaults, .. })| StarterLimits {
                name: name.clone(),
                max_per_destination: defaults.max_per_destination,
                max_starting: defaults.max_starting.max(1),
                max_running: defaults.max_running,
            })
            .collect()
    }

    /// Everything that submit would refuse, refused now.
    pub(crate) fn check(&self, spec: &JobSpec, caller: &Caller) -> Result<()> {
        self.resolve(spec.clone(), Timestamp::MIN, caller).map(|_| ())
    }

    /// The job as it will be kept, accepted at `now`.
    pub(crate) fn resolve(&self, mut spec: JobSpec, now: Timestamp, caller: &Caller) -> Result<Job> {
        let field = |field: &str, why: &str| Error::invalid(format!("{field}: {why}"));
        let name = &spec.start.starter;
        let Some((starter_name, Kind { starter, defaults, .. })) = self.kinds.get_key_value(name.as_str())
        else {
            let known: Vec<_> = self.kinds.keys().map(|name| &**name).collect();
            let why = format!("there is no starter {name:?}; there are: {}", known.join(", "));
            return Err(field("start", &why));
        };
        let checked = starter.check(&spec.start.payload, caller.grant.as_deref()).map_err(|refusal| {
            let path = [name.as_str(), &refusal.field];
            let path = path.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".");
            field(&format!("start.{path}"), &refusal.message)
        })?;

        let queue = spec.queue.as_deref().unwrap_or(DEFAULT_QUEUE);
        if spec.queue.is_some() {
            check_name("queue", queue)?;
        }
        let priority = spec.priority.unwrap_or(0);
        if priority > 9 {
            return Err(field("priority", &format!("{priority} is not between 0 and 9")));
        }
        let (run_at, expires_at) = times(&spec, now)?;
        let max_attempts = spec.retry.max_attempts.unwrap_or(defaults.max_attempts);
        if !(1..=MAX_ATTEMPTS).contains(&max_attempts) {
            return Err(field(
                "retry.max_attempts",
                &format!("{max_attempts} is not between 1 and {MAX_ATTEMPTS}"),
            ));
        }
        let backoff = backoff(&spec.retry);
        if backoff.min > backoff.max {
            return Err(field("retry.min_backoff", "it is longer than max_backoff"));
        }
        let timeout = spec.start_timeout.map_or(DEFAULT_START_TIMEOUT, Span::duration);
        if timeout.is_zero() || timeout > MAX_START_TIMEOUT {
            return Err(field("start_timeout", "it must be longer than 0s and at most 24h"));
        }
        check_labels(&spec.labels)?;
        let idempotency_key = spec.idempotency_key.take();
        if let Some(key) = &idempotency_key
            && (key.is_empty() || key.chars().count() > MAX_KEY || key.chars().any(char::is_control))
        {
            let why = format!("it must have 1 to {MAX_KEY} characters, none of them a control character");
            return Err(field("idempotency_key", &why));
        }

        let own_guid = spec.guid.is_none();
        let guid = spec.guid.take().unwrap_or_else(|| self.guids.next(now));
        let delivery = spec.delivery.unwrap_or(defaults.delivery);
        // Guid and key are gone from it by now.
        let request =
            spec.to_request().map_err(|err| Error::invalid(format!("the job has no JSON form: {err}")))?;
        if request.len() > JobSpec::MAX_BYTES {
            let why =
                format!("{} bytes of JSON are more than the {} allowed", request.len(), JobSpec::MAX_BYTES);
            return Err(field("start", &why));
        }
        let (lane, request) = self.shared(queue, starter_name, checked.destination.as_deref(), &request);
        Ok(Job {
            guid,
            own_guid,
            idempotency_key: idempotency_key.map(Into::into),
            lane,
            priority,
            delivery,
            max_attempts,
            queued_at: now,
            run_at,
            expires_at,
            request,
            submitted_by: caller.name.clone(),
            grant: caller.grant.clone(),
        })
    }

    /// This lane and this request, shared with other jobs where they are the same.
    fn shared(
        &self,
        queue: &str,
        starter: &Arc<str>,
        destination: Option<&str>,
        request: &str,
    ) -> (Arc<Lane>, Arc<str>) {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        (lanes.lane(queue, starter, destination), lanes.request(request))
    }
}

impl Lanes {
    fn lane(&mut self, queue: &str, starter: &Arc<str>, destination: Option<&str>) -> Arc<Lane> {
        if let Some(last) = &self.last
            && *last.queue == *queue
            && last.starter == *starter
            && last.destination.as_deref() == destination
        {
            return last.clone();
        }
        let lane =
            Lane { queue: queue.into(), starter: starter.clone(), destination: destination.map(Into::into) };
        let shared = match self.known.get(&lane) {
            Some(known) => known.clone(),
            None => {
                if self.known.len() >= LANES_REMEMBERED {
                    self.known.clear();
                }
                let shared = Arc::new(lane.clone());
                self.known.insert(lane, shared.clone());
                shared
            }
        };
        self.last = Some(shared.clone());
        shared
    }

    fn request(&mut self, request: &str) -> Arc<str> {
        match &self.last_request {
            Some(last) if **last == *request => last.clone(),
            _ => self.last_request.insert(request.into()).clone(),
        }
    }
}

/// The waits between attempts that a request asks for.
pub(crate) fn backoff(retry: &crate::job::Retry) -> Backoff {
    let default = Backoff::default();
    let min = retry.min_backoff.map(Span::duration);
    let max = retry.max_backoff.map(Span::duration);
    // One bound alone moves the other's default out of its way.
    Backoff {
        min: min.unwrap_or_else(|| default.min.min(max.unwrap_or(default.min))),
        max: max.unwrap_or_else(|| default.max.max(min.unwrap_or(default.max))),
    }
}

fn times(spec: &JobSpec, now: Timestamp) -> Result<(Timestamp, Option<Timestamp>)> {
    let run_at = match (spec.run_at, spec.delay) {
        (Some(_), Some(_)) => return Err(Error::invalid("delay: give either delay or run_at, not both")),
        (Some(run_at), None) => run_at,
        (None, Some(delay)) => now
            .checked_add(delay.duration())
            .ok_or_else(|| Error::invalid(format!("delay: {delay} from now is past the year 9999")))?,
        (None, None) => now,
    };
    let expires_at = match (spec.expires_at, spec.expires_in) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid("expires_in: give either expires_in or expires_at, not both"));
        }
        (Some(at), None) => {
            // A job without run_at is asked for now, and `now` is not known when a file is checked.
            if (spec.run_at.is_some() || spec.delay.is_some()) && at <= run_at {
                return Err(Error::invalid(
                    "expires_at: the deadline is not after the time asked for (run_at)",
                ));
            }
            Some(at)
        }
        (None, Some(span)) => {
            if span.duration().is_zero() {
                return Err(Error::invalid("expires_in: it must be longer than 0s"));
            }
            let at = run_at.max(now).checked_add(span.duration());
            Some(at.ok_or_else(|| Error::invalid("expires_in: the deadline is past the year 9999"))?)
        }
        (None, None) => None,
    };
    Ok((run_at, expires_at))
}

fn check_name(field: &str, name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fine) || name.starts_with('.') {
        return Err(Error::invalid(format!(
            "{field}: {name:?} is no name; use 1 to {MAX_NAME} letters, digits, `_`, `-`, `:` or `.`, not beginning with `.`"
        )));
    }
    Ok(())
}

/// Refuses what can be no queue's name, and limits that would never let anything start.
pub(super) fn check_queue(name: &str, limits: Option<&QueueLimits>) -> Result<()> {
    check_name("queue", name)?;
    limits.map_or(Ok(()), QueueLimits::check)
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<()> {
    if labels.len() > MAX_LABELS {
        return Err(Error::invalid(format!(
            "labels: {} are more than the {MAX_LABELS} allowed",
            labels.len()
        )));
    }
    for (name, value) in labels {
        check_name("labels", name)?;
        if value.chars().count() > MAX_LABEL {
            return Err(Error::invalid(format!(
                "labels.{name}: the value is longer than {MAX_LABEL} characters"
            )));
        }
    }
    Ok(())
}

/// The refusal of a job whose guid or key names another one: job `number` of the same batch, if it
/// has one.
pub(crate) fn conflict(guid: Guid, conflict: &crate::ports::Conflict, number: Option<u64>) -> Error {
    let with = match number {
        Some(number) => format!("job {number} of the same batch"),
        None => format!("job {}", conflict.with),
    };
    Error::new(
        crate::error::ErrorKind::Conflict,
        format!(
            "{}: it names {with} already, which has another content (this one would be {guid})",
            conflict.field
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::starter::SimulatedStarter;

    fn resolve(rest: &str) -> Result<Job> {
        let resolver = Resolver::new(vec![Arc::new(SimulatedStarter)]).unwrap();
        let json = format!(r#"{{"start":{{"simulated":{{"delay":"1ms"}}}}{rest}}}"#);
        let now = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
        resolver.resolve(JobSpec::from_json(json.as_bytes())?, now, &Caller::default())
    }

    #[test]
    fn fills_in_defaults() {
        let job = resolve(r#","delay":"90s","expires_in":"10s""#).unwrap();
        assert_eq!(&*job.lane.queue, "default");
        assert_eq!((job.priority, job.max_attempts, job.own_guid), (0, 5, true));
        assert_eq!(job.run_at.micros_since(job.queued_at), 90_000_000);
        assert_eq!(job.expires_at.unwrap().micros_since(job.run_at), 10_000_000);
    }

    #[test]
    fn refusals_name_the_field() {
        for (rest, words) in [
            (r#","priority":10"#, "priority: 10 is not between 0 and 9"),
            (r#","queue":"../etc""#, "queue: \"../etc\" is no name"),
            (r#","queue":"""#, "queue: "),
            (r#","delay":"1s","run_at":"2030-01-01T00:00:00Z""#, "delay: give either"),
            (r#","delay":"3000000d""#, "delay: "),
            (
                r#","run_at":"2030-01-01T00:00:00Z","expires_at":"2029-01-01T00:00:00Z""#,
                "expires_at: the deadline is not after",
            ),
            (r#","expires_in":"0s""#, "expires_in: "),
            (r#","retry":{"max_attempts":0}"#, "retry.max_attempts: 0"),
            (r#","retry":{"min_backoff":"2s","max_backoff":"1s"}"#, "retry.min_backoff: "),
            (r#","start_timeout":"0s""#, "start_timeout: "),
            (r#","idempotency_key":"""#, "idempotency_key: "),
            (r#","labels":{"a b":"x"}"#, "labels: \"a b\""),
        ] {
            let message = resolve(rest).unwrap_err().to_string();
            assert!(message.contains(words), "{rest}\n  {message}");
        }
    }

    #[test]
    fn refusals_of_the_payload_name_its_field() {
        let resolver = Resolver::new(vec![Arc::new(SimulatedStarter)]).unwrap();
        for (json, words) in [
            (r#"{"start":{"simulated":{"delay":"48h"}}}"#, "start.simulated.delay: "),
            (r#"{"start":{"simulated":{"dealy":"1s"}}}"#, "start.simulated.dealy: unknown field `dealy`"),
            (r#"{"start":{"magic":{}}}"#, "start: there is no starter \"magic\"; there are: simulated"),
        ] {
            let message = resolver
                .check(&JobSpec::from_json(json.as_bytes()).unwrap(), &Caller::default())
                .unwrap_err()
                .to_string();
            assert!(message.contains(words), "{json}\n  {message}");
        }
    }

    #[test]
    fn the_request_leaves_out_guid_and_key() {
        let job = resolve(
            r#","guid":"00000000-0000-4000-8000-000000000001","idempotency_key":"k","labels":{"a":"b"}"#,
        );
        let job = job.unwrap();
        assert_eq!(&*job.request, r#"{"start":{"simulated":{"delay":"1ms"}},"labels":{"a":"b"}}"#);
        assert_eq!((job.own_guid, job.idempotency_key.as_deref()), (false, Some("k")));
    }
}
