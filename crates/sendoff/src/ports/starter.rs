//! What the engine asks of a starter.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use serde_json::value::RawValue;

use crate::{
    guid::Guid,
    job::{Delivery, Grant, Receipt},
    ports::Lease,
    state::{self, Begun},
    time::{Clock, Timestamp},
};

/// The answer of [`Starter::start`].
pub type StartFuture<'a> = BoxFuture<'a, Result<Receipt, StartError>>;

/// The answers of [`StartMany::start_many`] as they come: each with the place of its attempt.
pub type Answers<'a> = BoxStream<'a, Vec<(usize, Result<Receipt, StartError>)>>;

/// Starts things of one kind. Registered by name; the engine knows nothing else of it.
pub trait Starter: Send + Sync + 'static {
    /// The key under `start` in a job's JSON.
    fn name(&self) -> &str;

    /// What a job gets that does not say, and the limits of this kind of start.
    fn defaults(&self) -> StarterDefaults;

    /// Refuses at submit what could never start, or what `grant` does not allow, and says where the
    /// start goes. Must be cheap and must not block.
    ///
    /// # Errors
    /// [`Refusal`], naming the field of the payload.
    fn check(&self, payload: &RawValue, grant: Option<&Grant>) -> Result<Checked, Refusal>;

    /// Starts one job: resolves when the target has taken over, not when it has finished.
    ///
    /// Must call [`Attempt::begin`] right before the first byte or exec. If the future is dropped
    /// midway (timeout, shutdown), the attempt counts as not begun before that call and as
    /// ambiguous after it.
    fn start(&self, attempt: Attempt) -> StartFuture<'_>;

    /// How it starts many jobs at once, if it can do so for less than one by one. The engine then
    /// hands over together what may start at the same time; a single attempt goes to
    /// [`Starter::start`] still.
    fn many(&self) -> Option<&dyn StartMany> {
        None
    }
}

/// A starter that starts many jobs at once: what it does once for all of them, one by one it would
/// do for each.
pub trait StartMany: Starter {
    /// Starts these jobs; each as by [`Starter::start`], with its own [`Attempt::begin`], outcome and
    /// timeout. Answers come in any order, several together, each as soon as it is known: none should
    /// wait for another's.
    ///
    /// The engine ends an attempt whose time is over without asking: what is answered for it later
    /// does not count, and it can no longer begin. The stream is dropped midway once no answer is
    /// awaited any more, or at a shutdown. If it panics, or ends too early, the attempts that it has
    /// not answered are ambiguous; the others are not touched by that.
    fn start_many(&self, attempts: Vec<Attempt>) -> Answers<'_>;
}

/// What a starter says of its kind of start.
#[derive(Debug, Clone, Copy)]
pub struct StarterDefaults {
    /// For jobs that do not say.
    pub delivery: Delivery,
    /// For jobs that do not say.
    pub max_attempts: u32,
    /// Starts in flight to one destination; no limit for starts without a destination.
    pub max_per_destination: usize,
    /// Attempts of this kind under way at once, in all. A crash leaves so many in doubt, so it should
    /// be no more than keeps the starter busy.
    pub max_starting: usize,
    /// Started things alive at once: each holds its [`Running`] until it ends. No limit if `None`.
    pub max_running: Option<usize>,
    /// Whether the engine may drop a start midway, on timeout. If not, it waits for the answer
    /// however long that takes, so that the outcome stays known.
    pub abandonable: bool,
    /// Whether a start never holds up the thread that it runs on: it waits by awaiting alone, and
    /// computes little. The engine then makes many in one task, which costs less than a task for each;
    /// one that blocked there would hold up the others.
    pub nonblocking: bool,
}

impl Default for StarterDefaults {
    /// At least once, 5 attempts, no limits of its own, may be dropped midway, may block.
    fn default() -> Self {
        Self {
            delivery: Delivery::AtLeastOnce,
            max_attempts: 5,
            max_per_destination: usize::MAX,
            max_starting: usize::MAX,
            max_running: None,
            abandonable: true,
            nonblocking: false,
        }
    }
}

/// What [`Starter::check`] learned of a payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Where the start goes (for HTTP: host and port), for limits by destination.
    pub destination: Option<String>,
}

/// A payload that could never start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The field within the payload (`url`, `args[2]`), or empty for the payload as a whole.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refusal {
    /// This field is wrong, for this reason.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// Reads a payload, refusing what does not fit its type with the field's path. The refusal
    /// does not repeat a value of the wrong type, which may be a secret.
    ///
    /// # Errors
    /// [`Refusal`], naming the field.
    pub fn read<'a, T: serde::Deserialize<'a>>(payload: &'a RawValue) -> Result<T, Self> {
        // A derived reader would take an array for an object, field by field.
        if !payload.get().starts_with('{') {
            return Err(Self::new("", "expected an object"));
        }
        // Keeping track of the path costs more than reading, and only a refusal needs it.
        if let Ok(read) = serde_json::from_str(payload.get()) {
            return Ok(read);
        }
        let mut reader = serde_json::Deserializer::from_str(payload.get());
        serde_path_to_error::deserialize(&mut reader).map_err(|err| {
            let path = err.path().to_string();
            let text = err.into_inner().to_string();
            let words = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
            let words = match words.rsplit_once(", expected ") {
                Some((wrong, expected))
                    if wrong.starts_with("invalid ") || wrong.starts_with("unknown variant") =>
                {
                    format!("expected {expected}")
                }
                _ => words.to_owned(),
            };
            Self::new(if path == "." { "" } else { &path }, words)
        })
    }
}

/// One attempt to start a job: what the starter gets.
pub struct Attempt {
    /// The job's name.
    pub guid: Guid,
    /// Its queue.
    pub queue: Arc<str>,
    /// Which attempt this is, from 1.
    pub number: u32,
    /// When the start was asked for.
    pub due_at: Timestamp,
    /// What an ambiguous outcome leads to.
    pub delivery: Delivery,
    /// What to start.
    pub payload: Box<RawValue>,
    /// What the start may reach, if its submitter was bounded.
    pub grant: Option<Arc<Grant>>,
    /// How long the attempt may take; the engine enforces it on starters that are abandonable.
    pub timeout: Duration,
    /// Held as long as the started thing counts as running. Dropped with the attempt, unless the
    /// starter keeps it until the thing ends.
    pub running: Running,
    pub(crate) clock: Arc<AttemptClock>,
}

impl Attempt {
    /// To be called right before the first byte or exec, again if the first byte is sent again:
    /// stamps `starting_at`, and checks for the last time that the job may start.
    ///
    /// # Errors
    /// The deadline has passed, or sendoff is stopping: give this error back without starting.
    pub fn begin(&self) -> Result<(), StartError> {
        crash_point!(StartBeforeBegin);
        self.clock.begin()?;
        crash_point!(StartAfterBegin);
        Ok(())
    }

    /// A first attempt as a test makes it: due now in queue `default`, at_least_once, 30 s.
    #[cfg(any(test, feature = "testing"))]
    pub fn for_test(guid: Guid, payload: Box<RawValue>, running: Running) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(crate::time::SystemClock);
        let now = clock.now();
        Self {
            guid,
            queue: Arc::from("default"),
            number: 1,
            due_at: now,
            delivery: Delivery::AtLeastOnce,
            payload,
            grant: None,
            timeout: Duration::from_secs(30),
            running,
            clock: Arc::new(AttemptClock::new(clock, None, now, now, None)),
        }
    }
}

impl fmt::Debug for Attempt {
    /// Leaves the payload out: it may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("guid", &self.guid)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

/// A started thing's place among those alive at once; dropping it says that the thing has ended.
pub struct Running(Option<Box<dyn FnOnce() + Send>>);

impl Running {
    /// A place that is given back by calling `release`.
    pub fn new(release: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(release)))
    }

    /// A place among unlimited ones.
    pub const fn unlimited() -> Self {
        Self(None)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Running(limited)" } else { "Running(unlimited)" })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(release) = self.0.take() {
            release();
        }
    }
}

/// Why an attempt did not start its job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// Its class, which decides what happens next.
    pub class: StartErrorClass,
    /// In words; without payloads or secrets.
    pub message: String,
    /// The target asked not to be tried again before this long.
    pub retry_after: Option<Duration>,
}

/// What a failed attempt means for the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartErrorClass {
    /// No attempt can succeed: the job fails.
    Permanent,
    /// The target certainly did not start: try again, under both deliveries.
    NotStarted,
    /// The target may have started: try again under at_least_once, `unknown` under at_most_once.
    Ambiguous,
    /// This machine has no resources left; not begun. The attempt does not count, and starts of
    /// this kind become fewer at once.
    Pressure,
    /// The deadline passed before the attempt began.
    Expired,
    /// sendoff is stopping; not begun.
    Released,
}

impl StartError {
    /// An error of this class.
    pub fn new(class: StartErrorClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), retry_after: None }
    }

    /// No attempt can succeed.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self::new(StartErrorClass::Permanent, message)
    }

    /// The target certainly did not start.
    pub fn not_started(message: impl Into<String>) -> Self {
        Self::new(StartErrorClass::NotStarted, message)
    }

    /// The target may have started.
    pub fn ambiguous(message: impl Into<String>) -> Self {
        Self::new(StartErrorClass::Ambiguous, message)
    }

    /// This machine has no resources left.
    pub fn pressure(message: impl Into<String>) -> Self {
        Self::new(StartErrorClass::Pressure, message)
    }
}

/// The stamps of one attempt, shared by the starter that makes them and the engine that reads them.
pub(crate) struct AttemptClock {
    clock: Arc<dyn Clock>,
    /// The right to begin, of a node among others.
    lease: Option<Arc<Lease>>,
    queued_at: Timestamp,
    claimed_at: Timestamp,
    expires_at: Option<Timestamp>,
    begun: Mutex<Stamps>,
}

#[derive(Clone, Copy)]
enum Stamps {
    NotBegun,
    Stopping,
    Begun { begun: Begun, elapsed: Duration },
}

impl AttemptClock {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        lease: Option<Arc<Lease>>,
        queued_at: Timestamp,
        claimed_at: Timestamp,
        expires_at: Option<Timestamp>,
    ) -> Self {
        Self { clock, lease, queued_at, claimed_at, expires_at, begun: Mutex::new(Stamps::NotBegun) }
    }

    fn begin(&self) -> Result<(), StartError> {
        let mut stamps = self.stamps();
        if matches!(*stamps, Stamps::Stopping) && !mutated!(BeginIgnoresStop) {
            return Err(StartError::new(StartErrorClass::Released, "sendoff is stopping"));
        }
        // A second begin of one attempt is no new decision: the first byte may have gone out.
        if matches!(*stamps, Stamps::NotBegun) {
            if self.lease.as_ref().is_some_and(|lease| !self.holds(lease)) {
                return Err(StartError::new(StartErrorClass::Released, "this node's lease ran out"));
            }
            if self.expires_at.is_some_and(|at| self.latest() >= at) {
                return Err(StartError::new(StartErrorClass::Expired, "the deadline passed"));
            }
        }
        *stamps = self.stamp(self.clock.now());
        Ok(())
    }

    fn holds(&self, lease: &Lease) -> bool {
        if mutated!(BeginIgnoresLease) {
            return true;
        }
        if mutated!(LeaseByWallClock) {
            // As if the lease had been given when the job was claimed.
            return self.clock.now().saturating_since(self.claimed_at) < Duration::from_secs(20);
        }
        lease.holds(self.clock.elapsed())
    }

    fn latest(&self) -> Timestamp {
        if mutated!(BeginIgnoresDeadline) {
            return Timestamp::MIN;
        }
        if mutated!(DeadlineByTheEarlierClock) { self.clock.now() } else { self.clock.latest() }
    }

    /// Nothing was sent after all: whether it may begin is asked anew.
    #[cfg(feature = "http")]
    pub(crate) fn take_back(&self) {
        let mut stamps = self.stamps();
        if matches!(*stamps, Stamps::Begun { .. }) {
            *stamps = Stamps::NotBegun;
        }
    }

    fn stamp(&self, now: Timestamp) -> Stamps {
        let begun = state::begin(now, self.queued_at, self.claimed_at);
        Stamps::Begun { begun, elapsed: self.clock.elapsed() }
    }

    /// For a starter that said "started" without saying when it began: it began just now.
    pub(crate) fn must_have_begun(&self) {
        let mut stamps = self.stamps();
        if !matches!(*stamps, Stamps::Begun { .. }) {
            *stamps = self.stamp(self.clock.now());
        }
    }

    /// From here on the attempt cannot begin any more; whether it had not begun.
    pub(crate) fn stop(&self) -> bool {
        let mut stamps = self.stamps();
        match *stamps {
            Stamps::Begun { .. } => false,
            Stamps::NotBegun | Stamps::Stopping => {
                *stamps = Stamps::Stopping;
                true
            }
        }
    }

    /// When it began, if it did, and the instant that is now by the time elapsed since.
    pub(crate) fn read(&self) -> Option<(Begun, Timestamp)> {
        self.read_at(self.clock.elapsed())
    }

    /// What has elapsed by now, for [`AttemptClock::read_at`].
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// The same with a look at the clock that was made for several attempts.
    pub(crate) fn read_at(&self, now: Duration) -> Option<(Begun, Timestamp)> {
        match *self.stamps() {
            Stamps::NotBegun | Stamps::Stopping => None,
            Stamps::Begun { begun, elapsed } => {
                let took = now.saturating_sub(elapsed);
                Some((begun, begun.starting_at.saturating_add(took)))
            }
        }
    }

    fn stamps(&self) -> std::sync::MutexGuard<'_, Stamps> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
