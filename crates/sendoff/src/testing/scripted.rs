//! A starter whose attempts end as a test says: by a script, or by hand.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    guid::Guid,
    job::{Delivery, Grant, Payload, Receipt},
    ports::{
        Attempt, Checked, Refusal, Running, StartError, StartErrorClass, StartFuture, Starter,
        StarterDefaults,
    },
};

/// A payload of the [`ScriptedStarter`]: `{"scripted": {"n": 7, "to": "host:1"}}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scripted {
    /// Whatever tells jobs apart in a test.
    pub n: u64,
    /// The destination, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Payload for Scripted {
    const STARTER: &'static str = "scripted";
}

/// One attempt, as the starter saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The job.
    pub guid: Guid,
    /// Its payload.
    pub job: Scripted,
    /// Its queue.
    pub queue: Arc<str>,
    /// Which attempt, from 1.
    pub number: u32,
    /// When it was let in by [`Attempt::begin`], on tokio's clock.
    pub begun: Option<Instant>,
}

/// How a scripted attempt goes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whether it calls [`Attempt::begin`], at first; a refusal of that is its end.
    pub begin: bool,
    /// How long it takes then.
    pub takes: Duration,
    /// How it ends.
    pub answer: Answer,
}

/// The end of an attempt.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The target has started.
    Started,
    /// It has not, or perhaps.
    Error(StartError),
    /// There is none.
    Hang,
    /// The starter panics in its future.
    Panic,
    /// The starter panics before there is a future; neither `begin` nor `takes` apply.
    PanicAtOnce,
}

impl Plan {
    /// Begins at once and is started at once.
    pub const STARTED: Self = Self { begin: true, takes: Duration::ZERO, answer: Answer::Started };

    /// Begins at once and ends with an error of this class.
    pub fn error(class: StartErrorClass) -> Self {
        Self { answer: Answer::Error(StartError::new(class, "as the script says")), ..Self::STARTED }
    }

    /// The same, taking this long.
    #[must_use]
    pub fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    /// The same without beginning.
    #[must_use]
    pub fn without_begin(self) -> Self {
        Self { begin: false, ..self }
    }
}

/// A panic that is no news: it is not printed.
fn scripted_panic() -> ! {
    std::panic::resume_unwind(Box::new("as the script says"))
}

type Script = Box<dyn Fn(&Seen) -> Plan + Send + Sync>;

enum Ends {
    ByScript(Script),
    ByHand(mpsc::UnboundedSender<HeldAttempt>),
}

/// A starter named `scripted`. Clones share their log: give one to the scheduler, keep one.
#[derive(Clone)]
pub struct ScriptedStarter {
    ends: Arc<Ends>,
    defaults: StarterDefaults,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    seen: Vec<Seen>,
    begun: BTreeMap<Guid, usize>,
    keeps_running: bool,
    running: Vec<Running>,
}

impl ScriptedStarter {
    /// Each attempt goes as `script` says.
    pub fn by_script(script: impl Fn(&Seen) -> Plan + Send + Sync + 'static) -> Self {
        Self::new(Ends::ByScript(Box::new(script)))
    }

    /// Each attempt waits until the test takes it from the list and says how it goes on.
    pub fn by_hand() -> (Self, HeldAttempts) {
        let (sender, attempts) = mpsc::unbounded_channel();
        (Self::new(Ends::ByHand(sender)), HeldAttempts(attempts))
    }

    fn new(ends: Ends) -> Self {
        let defaults = StarterDefaults {
            delivery: Delivery::AtLeastOnce,
            max_attempts: 3,
            max_per_destination: 2,
            max_starting: usize::MAX,
            max_running: None,
            abandonable: true,
            nonblocking: false,
        };
        Self { ends: Arc::new(ends), defaults, log: Arc::default() }
    }

    /// With these defaults and limits; otherwise at_least_once, 3 attempts, 2 starts to one
    /// destination, no limit of what runs, abandonable, each in a task of its own.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut StarterDefaults)) -> Self {
        change(&mut self.defaults);
        self
    }

    /// What is started runs on until [`ScriptedStarter::end_running`], at most so many at once.
    #[must_use]
    pub fn max_running(self, max: usize) -> Self {
        self.log().keeps_running = true;
        self.with(|defaults| defaults.max_running = Some(max))
    }

    /// Ends so many of the started things, the oldest first; how many there were.
    pub fn end_running(&self, most: usize) -> usize {
        let mut log = self.log();
        let most = most.min(log.running.len());
        let ended: Vec<_> = log.running.drain(..most).collect();
        drop(log);
        ended.len()
    }

    /// All attempts so far, in the order in which they came here.
    pub fn seen(&self) -> Vec<Seen> {
        self.log().seen.clone()
    }

    /// The payloads' numbers of the attempts that began, in the order of their beginning.
    pub fn order(&self) -> Vec<u64> {
        let mut begun: Vec<_> = self.seen().into_iter().filter(|seen| seen.begun.is_some()).collect();
        begun.sort_by_key(|seen| seen.begun);
        begun.into_iter().map(|seen| seen.job.n).collect()
    }

    /// How many attempts of this job began.
    pub fn begun(&self, guid: Guid) -> usize {
        self.log().begun.get(&guid).copied().unwrap_or(0)
    }

    /// How many attempts began of how many jobs.
    pub fn begun_in_all(&self) -> (usize, usize) {
        let log = self.log();
        (log.begun.values().sum(), log.begun.len())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, attempt: &Attempt, place: usize) -> Result<(), StartError> {
        attempt.begin()?;
        let mut log = self.log();
        if log.seen[place].begun.replace(Instant::now()).is_none() {
            *log.begun.entry(attempt.guid).or_default() += 1;
        }
        Ok(())
    }

    fn started(&self, attempt: Attempt) -> Result<Receipt, StartError> {
        let mut log = self.log();
        if log.keeps_running {
            log.running.push(attempt.running);
        }
        Ok(Receipt::default())
    }

    async fn by_plan(&self, plan: Plan, attempt: Attempt, place: usize) -> Result<Receipt, StartError> {
        if plan.begin {
            self.begin(&attempt, place)?;
        }
        if !plan.takes.is_zero() {
            tokio::time::sleep(plan.takes).await;
        }
        match plan.answer {
            Answer::Started => self.started(attempt),
            Answer::Error(error) => Err(error),
            Answer::Hang => std::future::pending().await,
            Answer::Panic | Answer::PanicAtOnce => scripted_panic(),
        }
    }
}

impl fmt::Debug for ScriptedStarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedStarter").field("attempts", &self.log().seen.len()).finish_non_exhaustive()
    }
}

impl Starter for ScriptedStarter {
    fn name(&self) -> &str {
        Scripted::STARTER
    }

    fn defaults(&self) -> StarterDefaults {
        self.defaults
    }

    fn check(&self, payload: &RawValue, _grant: Option<&Grant>) -> Result<Checked, Refusal> {
        let payload: Scripted = Refusal::read(payload)?;
        Ok(Checked { destination: payload.to })
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        let job: Scripted = Refusal::read(&attempt.payload).expect("it was checked");
        let Attempt { guid, number, ref queue, .. } = attempt;
        let seen = Seen { guid, job, queue: queue.clone(), number, begun: None };
        let place = {
            let mut log = self.log();
            log.seen.push(seen.clone());
            log.seen.len() - 1
        };
        match &*self.ends {
            Ends::ByScript(script) => {
                let plan = script(&seen);
                if matches!(plan.answer, Answer::PanicAtOnce) {
                    scripted_panic();
                }
                Box::pin(self.by_plan(plan, attempt, place))
            }
            Ends::ByHand(attempts) => {
                let (answer, told) = oneshot::channel();
                let held = HeldAttempt { seen, attempt, place, starter: self.clone(), answer };
                // A test that has let go of the list lets attempts hang.
                let _ = attempts.send(held);
                Box::pin(async move {
                    match told.await {
                        Ok(answer) => answer,
                        Err(_) => std::future::pending().await,
                    }
                })
            }
        }
    }
}

/// The attempts of a starter by hand.
#[derive(Debug)]
pub struct HeldAttempts(mpsc::UnboundedReceiver<HeldAttempt>);

impl HeldAttempts {
    /// The next attempt.
    ///
    /// # Panics
    /// If the starter is gone.
    pub async fn next(&mut self) -> HeldAttempt {
        self.0.recv().await.expect("a starter")
    }

    /// The next attempt, if there is one already.
    pub fn try_next(&mut self) -> Option<HeldAttempt> {
        self.0.try_recv().ok()
    }
}

/// An attempt that waits for the test; if it is dropped, it hangs.
#[derive(Debug)]
pub struct HeldAttempt {
    /// What it is.
    pub seen: Seen,
    attempt: Attempt,
    place: usize,
    starter: ScriptedStarter,
    answer: oneshot::Sender<Result<Receipt, StartError>>,
}

impl HeldAttempt {
    /// As [`Attempt::begin`].
    ///
    /// # Errors
    /// Its.
    pub fn begin(&self) -> Result<(), StartError> {
        self.starter.begin(&self.attempt, self.place)
    }

    /// The target has started.
    pub fn started(self) {
        let Self { attempt, starter, answer, .. } = self;
        // The attempt may have been given up.
        let _ = answer.send(starter.started(attempt));
    }

    /// It has not.
    pub fn error(self, error: StartError) {
        let Self { answer, .. } = self;
        let _ = answer.send(Err(error));
    }
}
