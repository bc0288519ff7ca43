//! Who calls, and what they may do.

mod command;
mod keyring;
mod tokens;

use std::sync::Arc;

use sendoff::{Caller, Grant};
use serde::{Deserialize, Serialize};

pub(crate) use command::command;
pub(crate) use keyring::Keyring;

/// What a token is good for. None includes another, but `Admin` includes all.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// See jobs, queues, statistics, events and metrics.
    Read,
    /// Submit jobs.
    Submit,
    /// Cancel, reschedule and start pending jobs now.
    Cancel,
    /// Everything: also resolve unknown jobs, set, pause and purge queues, cancel in bulk.
    Admin,
}

impl Scope {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Read, Self::Submit, Self::Cancel, Self::Admin];

    /// As the command line takes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Cancel => "cancel",
            Self::Admin => "admin",
        }
    }
}

/// A caller that has shown who it is: a token over TCP, the peer's uid on the unix socket.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// As records and audit lines name it: `token:NAME` or `uid:1000`.
    pub(crate) name: Arc<str>,
    scopes: Arc<[Scope]>,
    /// What the starts of its jobs may reach.
    pub(crate) grant: Arc<Grant>,
}

impl Identity {
    pub(crate) fn new(name: impl Into<Arc<str>>, scopes: impl Into<Arc<[Scope]>>, grant: Arc<Grant>) -> Self {
        Self { name: name.into(), scopes: scopes.into(), grant }
    }

    pub(crate) fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// In whose name the scheduler takes jobs.
    pub(crate) fn caller(&self) -> Caller {
        Caller { name: Some(self.name.clone()), grant: Some(self.grant.clone()) }
    }
}
