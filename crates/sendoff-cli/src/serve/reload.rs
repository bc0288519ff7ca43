//! SIGHUP: the configuration, the tokens and the certificate are read again.

use std::sync::Arc;

use sendoff::{Scheduler, starter::SharedPolicy};

use super::{live::Live, tls::Tls};
use crate::{
    access::Keyring,
    config::{self, Settings},
    failure::Failure,
    log::SetFilter,
};

/// What can be put in force anew.
pub(super) struct Reload {
    pub(super) settings: Settings,
    pub(super) live: Live,
    pub(super) policy: SharedPolicy,
    pub(super) keyring: Arc<Keyring>,
    pub(super) tls: Option<Tls>,
    pub(super) set_filter: SetFilter,
}

impl Reload {
    /// Puts it in force; if anything is wrong everything stays as it was.
    pub(super) fn run(&self, scheduler: &Scheduler) {
        match self.read(scheduler) {
            Ok(fixed) if fixed.is_empty() => tracing::info!("the configuration was read again"),
            Ok(fixed) => tracing::warn!(
                "the configuration was read again, but these keys need a restart: {}",
                fixed.join(", ")
            ),
            Err(failure) => tracing::error!("the configuration stays as it was: {failure}"),
        }
    }

    fn read(&self, scheduler: &Scheduler) -> Result<Vec<&'static str>, Failure> {
        let next = config::load(&self.settings)?;
        if let Some(tls) = &self.tls {
            // The files that are in use: others need a restart.
            tls.reload(self.live.current().config())?;
        }
        (self.set_filter)(&next.config.log)?;
        let starts = next.config.limits.max_in_flight;
        scheduler.set_max_in_flight(starts).map_err(|err| Failure::store(err.to_string()))?;
        self.keyring.look_again();
        Ok(self.live.replace(next, &self.policy))
    }
}
