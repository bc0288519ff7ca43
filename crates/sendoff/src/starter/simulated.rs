//! Starts that only take time: for tests, demonstrations and load.

use std::{collections::VecDeque, time::Duration};

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    job::{Payload, Receipt},
    ports::{
        Answers, Attempt, Checked, Refusal, StartError, StartFuture, StartMany, Starter, StarterDefaults,
    },
    time::Span,
};

/// A start with an intrinsic delay: `{"simulated": {"delay": "1ms"}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Simulated {
    /// How long the start takes, at most 24 h.
    pub delay: Span,
}

impl Simulated {
    /// The longest delay of a simulated start: what tokio's timers can hold is longer.
    pub const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

    /// A start that takes `delay`.
    pub fn new(delay: Duration) -> Self {
        Self { delay: delay.into() }
    }
}

impl Payload for Simulated {
    const STARTER: &'static str = "simulated";
}

/// Starts [`Simulated`] payloads: waits for the delay, then says started.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimulatedStarter;

impl Starter for SimulatedStarter {
    fn name(&self) -> &str {
        Simulated::STARTER
    }

    fn defaults(&self) -> StarterDefaults {
        StarterDefaults { nonblocking: true, ..StarterDefaults::default() }
    }

    fn check(&self, payload: &RawValue, _grant: Option<&crate::job::Grant>) -> Result<Checked, Refusal> {
        let payload: Simulated = Refusal::read(payload)?;
        if payload.delay.duration() > Simulated::MAX_DELAY {
            return Err(Refusal::new(
                "delay",
                "a simulated start takes at most 24h; use the job's own delay to wait",
            ));
        }
        Ok(Checked::default())
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        Box::pin(async move {
            let delay = begin(&attempt)?;
            if !delay.is_zero() {
                sleep(delay).await;
            }
            Ok(Receipt::default())
        })
    }

    fn many(&self) -> Option<&dyn StartMany> {
        Some(self)
    }
}

/// Begins an attempt and says how long it takes.
fn begin(attempt: &Attempt) -> Result<Duration, StartError> {
    let payload: Simulated =
        Refusal::read(&attempt.payload).map_err(|refusal| StartError::permanent(refusal.message))?;
    attempt.begin()?;
    Ok(payload.delay.duration())
}

impl StartMany for SimulatedStarter {
    /// One timer for all of them, set to the next end.
    fn start_many(&self, attempts: Vec<Attempt>) -> Answers<'_> {
        let mut answers = Vec::new();
        let mut waiting = Vec::with_capacity(attempts.len());
        for (place, attempt) in attempts.into_iter().enumerate() {
            match begin(&attempt) {
                Ok(Duration::ZERO) => answers.push((place, Ok(Receipt::default()))),
                Ok(delay) => waiting.push((delay, place, attempt)),
                Err(error) => answers.push((place, Err(error))),
            }
        }
        waiting.sort_by_key(|(delay, ..)| *delay);
        // All of them have begun by now, so that none ends too early.
        let begin = Instant::now();
        stream::unfold((answers, VecDeque::from(waiting)), move |(answers, mut waiting)| async move {
            if !answers.is_empty() {
                return Some((answers, (Vec::new(), waiting)));
            }
            sleep_until(begin + waiting.front()?.0).await;
            let elapsed = begin.elapsed();
            let over = waiting.partition_point(|(delay, ..)| *delay <= elapsed);
            let answers =
                waiting.drain(..over).map(|(_, place, _)| (place, Ok(Receipt::default()))).collect();
            Some((answers, (Vec::new(), waiting)))
        })
        .boxed()
    }
}
