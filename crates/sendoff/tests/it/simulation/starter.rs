//! Targets that start, do not, perhaps do, never answer, or take their node along.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use sendoff::{
    Delivery, Grant, Guid, Payload, Receipt,
    ports::{
        Answers, Attempt, Checked, Refusal, Running, StartError, StartErrorClass, StartFuture, StartMany,
        Starter, StarterDefaults,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::sleep;

use super::{ledger::Told, life::Life};

pub(super) const TO_ONE_DESTINATION: usize = 2;
/// Things alive at once of those that keep running.
const RUNNING: usize = 3;

/// Something to start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Call {
    pub(super) n: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
    /// It crashes its node now and then.
    #[serde(default)]
    pub(super) poison: bool,
}

impl Payload for Call {
    const STARTER: &'static str = "call";
}

/// The same as something that runs on once it has started, and whose start is not dropped midway.
pub(super) const PROGRAM: &str = "program";

/// How an attempt goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Starts,
    Says(StartErrorClass),
    PressureAtOnce,
    /// It answers nothing, until it is dropped.
    Hangs,
    HangsBefore,
    Panics,
    PanicsAtOnce,
    Crashes,
    CrashesBefore,
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    before: Duration,
    takes: Duration,
    way: Way,
    /// Whether the target starts, if it was begun.
    starts: bool,
}

#[derive(Clone)]
pub(super) struct Targets {
    life: Arc<Life>,
    name: &'static str,
}

impl Targets {
    pub(super) const fn new(life: Arc<Life>, name: &'static str) -> Self {
        Self { life, name }
    }

    fn abandonable(&self) -> bool {
        self.name == Call::STARTER
    }

    fn plan(&self, poison: bool) -> Plan {
        let world = &self.life.world;
        let random = &mut self.life.random.lock().unwrap();
        let mut chance = |percent: u32| random.u32(..100) < percent;
        let swarm = &world.swarm;
        let calm = world.is_calm();
        let way = if poison && !calm && chance(60) {
            if chance(50) { Way::Crashes } else { Way::CrashesBefore }
        } else if calm || !chance(swarm.unlucky) {
            Way::Starts
        } else {
            use StartErrorClass::{Ambiguous, NotStarted, Permanent, Pressure};
            let ways = [
                Way::Says(NotStarted),
                Way::Says(NotStarted),
                Way::Says(Ambiguous),
                Way::Says(Ambiguous),
                Way::Says(Permanent),
                Way::Says(Pressure),
                Way::PressureAtOnce,
                Way::PressureAtOnce,
                Way::Hangs,
                Way::HangsBefore,
                Way::Panics,
                Way::PanicsAtOnce,
                if swarm.crashes { Way::Crashes } else { Way::Starts },
            ];
            ways[random.usize(..ways.len())]
        };
        let perhaps = matches!(way, Way::Says(Ambiguous) | Way::Hangs | Way::Panics | Way::Crashes);
        use StartErrorClass::Ambiguous;
        let mut some = |often: u32, most: u64| {
            if calm || random.u32(..100) >= often { 0 } else { random.u64(..most) }
        };
        let before = some(30, 20) + some(swarm.slow, 40_000);
        let takes = some(60, 400) + some(swarm.slow, 30_000);
        Plan {
            before: Duration::from_millis(before),
            takes: Duration::from_millis(takes),
            way,
            starts: way == Way::Starts || perhaps && random.bool(),
        }
    }

    async fn attempt(self, attempt: Attempt, alone: bool) -> Result<Receipt, StartError> {
        let call: Call = Refusal::read(&attempt.payload).expect("it was checked");
        let plan = self.plan(call.poison);
        let Self { life, .. } = &self;
        let world = life.world.clone();
        let (guid, number) = (attempt.guid, attempt.number);
        world.trace(|| format!("{life} tries {} {number}: {plan:?}", short(guid)));
        world.count("attempts");
        let at = world.ledger().tried(life, guid, number, plan.starts);
        let mut open = Open { life: life.clone(), at, told: Told::Perhaps, guid };
        if self.abandonable() {
            world.ledger().times_out(at, world.wall.elapsed() + attempt.timeout);
        }
        let result = self.go(plan, attempt, at, alone).await;
        open.told = match &result {
            Ok(_) => Told::Started,
            Err(error) => match error.class {
                StartErrorClass::Ambiguous => Told::Perhaps,
                StartErrorClass::NotStarted | StartErrorClass::Permanent => Told::Not,
                _ => Told::Released,
            },
        };
        result
    }

    async fn go(&self, plan: Plan, attempt: Attempt, at: usize, alone: bool) -> Result<Receipt, StartError> {
        let Self { life, .. } = self;
        let says = |class| Err(StartError::new(class, "as planned"));
        if !plan.before.is_zero() {
            sleep(plan.before).await;
        }
        match plan.way {
            Way::PressureAtOnce => return says(StartErrorClass::Pressure),
            Way::PanicsAtOnce if alone => panic_quietly(),
            Way::HangsBefore if self.abandonable() => return std::future::pending().await,
            Way::CrashesBefore => life.kill("as it begins something"),
            _ => {}
        }
        if !life.phase.awake().await {
            return std::future::pending().await;
        }
        if let Err(error) = attempt.begin() {
            life.world.trace(|| format!("{life} may not begin {}: {error}", short(attempt.guid)));
            life.world.count("refused beginnings");
            return Err(error);
        }
        life.world.trace(|| format!("{life} begins {}", short(attempt.guid)));
        life.world.ledger().begun(life, at);
        if plan.way == Way::Crashes {
            life.kill("as it has begun something");
            return std::future::pending().await;
        }
        if !plan.takes.is_zero() {
            sleep(plan.takes).await;
        }
        if !life.phase.awake().await {
            return std::future::pending().await;
        }
        match plan.way {
            // What is shared with others is not shared with what goes on without them.
            Way::Hangs if self.abandonable() => std::future::pending().await,
            Way::Panics if alone => panic_quietly(),
            Way::Says(StartErrorClass::Pressure) => says(StartErrorClass::NotStarted),
            Way::Says(class) => says(class),
            Way::Starts => {
                if self.name == PROGRAM {
                    run_on(life, attempt.running);
                }
                Ok(Receipt::default())
            }
            _ => says(StartErrorClass::Ambiguous),
        }
    }
}

/// What was started runs on for a while.
fn run_on(life: &Life, running: Running) {
    // When the faults have stopped all that waits for a place has to come to its turn.
    let most = if life.world.is_calm() { 1 } else { 20_000 };
    let takes = Duration::from_millis(life.random.lock().unwrap().u64(..most));
    life.world.spawn(async move {
        sleep(takes).await;
        drop(running);
    });
}

/// A panic that is no news: it is not printed.
fn panic_quietly() -> ! {
    std::panic::resume_unwind(Box::new("as planned"))
}

/// An attempt until its end, whatever that is.
struct Open {
    life: Arc<Life>,
    at: usize,
    told: Told,
    guid: Guid,
}

impl Drop for Open {
    fn drop(&mut self) {
        let world = &self.life.world;
        world.trace(|| format!("{} told of {}: {:?}", self.life, short(self.guid), self.told));
        world.ledger().told(self.at, self.told, world.wall.elapsed());
    }
}

/// The end of a guid, for the trace.
pub(super) fn short(guid: Guid) -> String {
    let bytes = guid.as_bytes();
    format!("{:02x}{:02x}{:02x}", bytes[13], bytes[14], bytes[15])
}

impl Starter for Targets {
    fn name(&self) -> &str {
        self.name
    }

    fn defaults(&self) -> StarterDefaults {
        StarterDefaults {
            delivery: Delivery::AtLeastOnce,
            max_attempts: 3,
            max_per_destination: TO_ONE_DESTINATION,
            max_starting: usize::MAX,
            max_running: (!self.abandonable()).then_some(RUNNING),
            abandonable: self.abandonable(),
            nonblocking: self.life.world.swarm.side_by_side,
        }
    }

    fn check(&self, payload: &RawValue, _: Option<&Grant>) -> Result<Checked, Refusal> {
        let call: Call = Refusal::read(payload)?;
        Ok(Checked { destination: call.to })
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        self.clone().attempt(attempt, true).boxed()
    }

    fn many(&self) -> Option<&dyn StartMany> {
        (self.life.world.swarm.many && self.abandonable()).then_some(self)
    }
}

impl StartMany for Targets {
    fn start_many(&self, attempts: Vec<Attempt>) -> Answers<'_> {
        let one =
            |(place, attempt)| self.clone().attempt(attempt, false).map(move |result| vec![(place, result)]);
        attempts.into_iter().enumerate().map(one).collect::<FuturesUnordered<_>>().boxed()
    }
}
