//! Who calls, and what they may do.

mod command;
mod keyring;
mod tokens;

use std::{fmt, sync::Arc};

use sendoff::{Caller, Grant};
use serde::{Deserialize, Serialize};

pub(crate) use command::command;
pub(crate) use keyring::{Keyring, Known};
#[cfg(test)]
pub(crate) use tokens::{Token, Tokens};

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
#[derive(Clone)]
pub(crate) struct Identity {
    /// As records and audit lines name it: `token:NAME` or `uid:1000`.
    pub(crate) name: Arc<str>,
    scopes: Arc<[Scope]>,
    /// What the starts of its jobs may reach.
    pub(crate) grant: Arc<Grant>,
    /// The token that it showed, and where to see whether that is still good.
    token: Option<(Arc<Keyring>, Known)>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identity {
    pub(crate) fn new(name: impl Into<Arc<str>>, scopes: impl Into<Arc<[Scope]>>, grant: Arc<Grant>) -> Self {
        Self { name: name.into(), scopes: scopes.into(), grant, token: None }
    }

    /// Whoever showed this token.
    pub(crate) fn of_token(known: Known, keyring: Arc<Keyring>, grant: Arc<Grant>) -> Self {
        let (name, scopes) = (known.name.clone(), known.scopes.clone());
        Self { name, scopes, grant, token: Some((keyring, known)) }
    }

    /// Whether it is still good. What goes on for long asks again and again, or a token that was
    /// revoked or has expired would be good for as long as its bearer likes.
    pub(crate) fn holds(&self) -> bool {
        self.token.as_ref().is_none_or(|(keyring, known)| keyring.holds(known))
    }

    pub(crate) fn allows(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope) || self.scopes.contains(&Scope::Admin)
    }

    /// In whose name the scheduler takes jobs.
    pub(crate) fn caller(&self) -> Caller {
        Caller { name: Some(self.name.clone()), grant: Some(self.grant.clone()) }
    }
}
