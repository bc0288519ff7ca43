//! What starts may reach, whoever asked for them.

use std::sync::{Arc, PoisonError, RwLock};

use crate::job::{Grant, Reach};

/// What starts may reach, in force from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// For jobs from anywhere.
    pub everyone: Reach,
    /// For jobs that a program of this machine and user submitted ([`Grant::local`]).
    pub local: Reach,
}

impl Policy {
    /// The half that counts for a job with this grant.
    pub fn half(&self, local: bool) -> &Reach {
        if local { &self.local } else { &self.everyone }
    }

    /// The grant that a caller gets now.
    pub fn grant(&self, local: bool) -> Grant {
        Grant { local, reach: self.half(local).clone() }
    }
}

/// A policy that starters share with their host, which may replace it at any time. A starter without
/// one refuses nothing.
#[derive(Debug, Clone, Default)]
pub struct SharedPolicy(Arc<RwLock<Arc<Policy>>>);

impl SharedPolicy {
    /// This policy, until it is replaced.
    pub fn new(policy: Policy) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(policy))))
    }

    /// Replaces it: what is checked or begins from now on is held to the new one.
    pub fn set(&self, policy: Policy) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// The policy in force.
    pub fn current(&self) -> Arc<Policy> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
