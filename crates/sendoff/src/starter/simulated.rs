//! Starts that only take time: for tests, demonstrations and load.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    job::{Payload, Receipt},
    ports::{Attempt, Checked, Refusal, StartError, StartFuture, Starter, StarterDefaults},
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
        StarterDefaults::default()
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
            let payload: Simulated =
                Refusal::read(&attempt.payload).map_err(|refusal| StartError::permanent(refusal.message))?;
            attempt.begin()?;
            let delay = payload.delay.duration();
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            Ok(Receipt::default())
        })
    }
}
