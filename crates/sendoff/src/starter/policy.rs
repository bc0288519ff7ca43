//! What starts may reach, whoever asked for them.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crate::job::{Grant, Reach};

/// What starts may reach, in force from now on.
///
/// A start needs the consent of the half that is made for its job and, if the job has a grant, of
/// that grant. It is asked at submit, and again at each attempt, where it counts: a refusal there
/// ends the job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// For jobs from anywhere, and for those without a grant: what the host program itself submits
    /// in nobody's name is not taken for local.
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
pub struct SharedPolicy {
    current: Arc<RwLock<Arc<Policy>>>,
    hint: Arc<str>,
}

impl SharedPolicy {
    /// This policy, until it is replaced.
    pub fn new(policy: Policy) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(policy))), hint: Arc::default() }
    }

    /// Ends each refusal with these words, which say where the host program lets its user allow
    /// more: `--allow-network allows it`.
    #[must_use]
    pub fn hint(mut self, words: impl Into<Arc<str>>) -> Self {
        self.hint = words.into();
        self
    }

    /// Replaces it: what is checked or begins from now on is held to the new one.
    pub fn set(&self, policy: Policy) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// The policy in force.
    pub fn current(&self) -> Arc<Policy> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What binds a job with this grant now.
    pub(super) fn bounds<'a>(&self, grant: Option<&'a Grant>) -> Bounds<'a> {
        Bounds { policy: self.current(), grant, hint: self.hint.clone() }
    }
}

/// What binds one job: the policy in force when it was asked, and the job's grant.
pub(super) struct Bounds<'a> {
    policy: Arc<Policy>,
    grant: Option<&'a Grant>,
    hint: Arc<str>,
}

impl Bounds<'_> {
    /// Whether all that bind the job allow a need.
    pub(super) fn allow(&self, need: impl Fn(&Reach) -> bool) -> bool {
        let local = self.grant.is_some_and(|grant| grant.local);
        need(self.policy.half(local)) && self.grant.is_none_or(|grant| need(&grant.reach))
    }

    /// A refusal in words.
    pub(super) fn refuse(&self, why: impl fmt::Display) -> String {
        let hint = &*self.hint;
        if hint.is_empty() { why.to_string() } else { format!("{why}; {hint}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(variables: &[&str]) -> Reach {
        Reach { env: variables.iter().map(|&name| name.to_owned()).collect(), ..Reach::default() }
    }

    fn grant(local: bool, variables: &[&str]) -> Grant {
        Grant { local, reach: reach(variables) }
    }

    #[test]
    fn both_the_half_and_the_grant_have_to_allow() {
        let policy = SharedPolicy::new(Policy { everyone: reach(&["A", "B"]), local: reach(&["A", "C"]) });
        let allowed = |grant: Option<&Grant>| {
            let bounds = policy.bounds(grant);
            let allowed =
                |&name: &&str| bounds.allow(|reach| reach.env.iter().any(|allowed| allowed == name));
            ["A", "B", "C"].into_iter().filter(allowed).collect::<String>()
        };
        assert_eq!(allowed(None), "AB");
        assert_eq!(allowed(Some(&grant(false, &["A", "B", "C"]))), "AB");
        assert_eq!(allowed(Some(&grant(true, &["A", "B", "C"]))), "AC");
        assert_eq!(allowed(Some(&grant(true, &["C"]))), "C");
        assert_eq!(allowed(Some(&grant(false, &["C"]))), "");
        assert_eq!(allowed(Some(&grant(false, &[]))), "");
        policy.set(Policy { everyone: reach(&["B"]), local: reach(&[]) });
        assert_eq!(allowed(Some(&grant(false, &["A", "B", "C"]))), "B");
        assert_eq!(allowed(Some(&grant(true, &["A"]))), "");
    }

    #[test]
    fn a_hint_ends_the_words() {
        let policy = SharedPolicy::new(Policy::default());
        assert_eq!(policy.bounds(None).refuse("no"), "no");
        assert_eq!(policy.hint("ask").bounds(None).refuse("no"), "no; ask");
    }
}
