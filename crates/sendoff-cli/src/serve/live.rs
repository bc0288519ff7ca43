//! What is in force now, and may be replaced while the daemon runs.

use std::sync::{Arc, PoisonError, RwLock};

use sendoff::{Grant, starter::SharedPolicy};

use crate::config::{Config, Loaded};

/// The configuration in force, shared.
#[derive(Clone)]
pub(super) struct Live(Arc<RwLock<Arc<InForce>>>);

/// One state of it.
pub(super) struct InForce {
    pub(super) loaded: Loaded,
    /// What callers over TCP get for their jobs.
    pub(super) remote: Arc<Grant>,
    /// What callers on the unix socket get.
    pub(super) local: Arc<Grant>,
}

impl InForce {
    fn new(loaded: Loaded) -> Arc<Self> {
        let policy = loaded.config.policy();
        let (remote, local) = (Arc::new(policy.grant(false)), Arc::new(policy.grant(true)));
        Arc::new(Self { loaded, remote, local })
    }

    pub(super) fn config(&self) -> &Config {
        &self.loaded.config
    }
}

impl Live {
    pub(super) fn new(loaded: Loaded) -> Self {
        Self(Arc::new(RwLock::new(InForce::new(loaded))))
    }

    pub(super) fn current(&self) -> Arc<InForce> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts the live keys of `next` in force; names the other keys that differ.
    pub(super) fn replace(&self, next: Loaded, policy: &SharedPolicy) -> Vec<&'static str> {
        let held = self.current();
        let pairs = held.loaded.entries.iter().zip(&next.entries);
        let changed = pairs.filter(|(old, new)| old.value != new.value && !old.key.live);
        let fixed = changed.map(|(old, _)| old.key.name).collect();
        policy.set(next.config.policy());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = InForce::new(next);
        fixed
    }
}
