//! Which calls of a group go into one statement: those that do not care which of them is first.

use std::collections::HashSet;

use super::call::Work;
use crate::{guid::Guid, job::JobId};

/// A settlement: its call, and its place there.
pub(super) type Item = (usize, usize);

/// What one or few statements do. Numbers are places of calls in the group.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Insert(Vec<usize>),
    /// No two of one job.
    Settle(Vec<Item>),
    /// No job is claimed by two calls.
    Claim(Vec<usize>),
    /// No guid comes twice.
    Cancel(Vec<Item>),
    Alone(usize),
}

/// Inserts, settlements and claims commute, as long as each job comes once.
#[derive(Default)]
struct Segment {
    inserts: Vec<usize>,
    settlements: Vec<Item>,
    claims: Vec<usize>,
    ids: HashSet<JobId>,
}

impl Segment {
    fn close(&mut self, steps: &mut Vec<Step>) {
        let Self { inserts, settlements, claims, .. } = std::mem::take(self);
        if !inserts.is_empty() {
            steps.push(Step::Insert(inserts));
        }
        if !settlements.is_empty() {
            steps.push(Step::Settle(settlements));
        }
        if !claims.is_empty() {
            steps.push(Step::Claim(claims));
        }
    }

    fn claim(&mut self, call: usize, ids: impl Iterator<Item = JobId> + Clone, steps: &mut Vec<Step>) {
        if ids.clone().any(|id| self.ids.contains(&id)) {
            self.close(steps);
        }
        self.ids.extend(ids);
        self.claims.push(call);
    }
}

pub(super) fn plan(group: &[Work]) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut open = Segment::default();
    for (call, work) in group.iter().enumerate() {
        match work {
            Work::Insert(_) => open.inserts.push(call),
            Work::Settle(settle) => {
                for (item, settlement) in settle.input.0.iter().enumerate() {
                    if !open.ids.insert(settlement.id) {
                        open.close(&mut steps);
                        open.ids.insert(settlement.id);
                    }
                    open.settlements.push((call, item));
                }
            }
            Work::Claim(claim) => open.claim(call, claim.input.0.iter().copied(), &mut steps),
            Work::ClaimWithin(claim) => {
                open.claim(call, claim.input.0.iter().map(|wanted| wanted.id), &mut steps);
            }
            Work::Cancel(cancel) => {
                open.close(&mut steps);
                cancels(call, &cancel.input.0, &mut steps, group);
            }
            _ => {
                open.close(&mut steps);
                steps.push(Step::Alone(call));
            }
        }
    }
    open.close(&mut steps);
    steps
}

fn cancels(call: usize, guids: &[Guid], steps: &mut Vec<Step>, group: &[Work]) {
    let guid = |&(call, item): &Item| match &group[call] {
        Work::Cancel(cancel) => cancel.input.0.get(item).copied(),
        _ => None,
    };
    let mut seen: HashSet<Guid> = match steps.last() {
        Some(Step::Cancel(items)) => items.iter().filter_map(guid).collect(),
        _ => HashSet::new(),
    };
    for (item, guid) in guids.iter().enumerate() {
        if !seen.insert(*guid) {
            seen = HashSet::from([*guid]);
            steps.push(Step::Cancel(Vec::new()));
        }
        match steps.last_mut() {
            Some(Step::Cancel(items)) => items.push((call, item)),
            _ => steps.push(Step::Cancel(vec![(call, item)])),
        }
    }
}
