//! Holds the records against what is known of them: the invariants of the contract.

use std::{collections::BTreeMap, time::Duration};

use sendoff::{Delivery, ErrorClass, Guid, JobRecord, State};

use super::{ledger::Ledger, world::World};

impl World {
    /// What holds at any time.
    pub(super) fn judge(&self) {
        self.check_nodes();
        let records = self.records();
        let now = self.wall.elapsed();
        let ledger = &mut *self.ledger();
        let found = wrong(ledger, &records, now);
        if let Some(found) = found {
            ledger.wrong(found);
        }
        for record in records.values().filter(|record| record.state.is_final()) {
            ledger.finals.insert(record.guid, record.state);
        }
    }

    /// What is not at its end although it is due; only what is due later may be pending.
    pub(super) fn unfinished(&self) -> Option<String> {
        let now = self.wall.now();
        let records = self.records();
        let left = records.into_values().find(|record| match record.state {
            State::Starting => true,
            State::Pending => record.next_at <= now || record.expires_at.is_some_and(|at| at <= now),
            _ => false,
        });
        left.map(|record| {
            let JobRecord { guid, state, next_at, node, .. } = record;
            format!("I13: {guid} is {state} still, since {next_at} (now {now}, node {node:?})")
        })
    }
}

fn wrong(ledger: &Ledger, records: &BTreeMap<Guid, JobRecord>, now: Duration) -> Option<String> {
    if let Some(guid) = ledger.acknowledged.keys().find(|guid| !records.contains_key(guid)) {
        return Some(format!("I1: {guid} was acknowledged and is gone"));
    }
    for batch in &ledger.batches {
        let there = batch.iter().filter(|guid| records.contains_key(guid)).count();
        if there != 0 && there != batch.len() {
            return Some(format!("I14: {there} of {batch:?} are there"));
        }
    }
    for (guid, was) in &ledger.finals {
        let is = records.get(guid).map(|record| record.state);
        let late = *was == State::Unknown && is == Some(State::Started);
        if is != Some(*was) && !late {
            return Some(format!("I9: {guid} was {was} and is {is:?}"));
        }
    }
    records.values().find_map(|record| {
        let wrong = wrong_record(ledger, record, now)?;
        Some(format!("{}: {wrong}; {record:?}", record.guid))
    })
}

fn wrong_record(ledger: &Ledger, record: &JobRecord, now: Duration) -> Option<&'static str> {
    let JobRecord { guid, state, possible_duplicate, .. } = *record;
    let starts = ledger.starts(guid);
    let resolved = ledger.resolved.get(&guid).copied().unwrap_or(0) as usize;
    let doubts = ledger.has_doubts(guid, now);
    if record.delivery == Delivery::AtMostOnce && starts > 1 + resolved {
        return Some("I3: it started more than once");
    }
    if starts > 1 && !possible_duplicate && state != State::Starting {
        return Some("I12: it started more than once, and its record does not say so");
    }
    let sound = match state {
        State::Started => starts > 0 || resolved > 0,
        State::Unknown => doubts,
        State::Expired => starts == 0,
        State::Cancelled => starts == 0 || possible_duplicate,
        _ => true,
    };
    if !sound {
        return Some("I2, I17: nothing that happened explains its state");
    }
    if let (State::Failed, Some(error)) = (state, &record.last_error)
        && matches!(error.class, ErrorClass::NotStarted | ErrorClass::Ambiguous)
        && record.expires_at.is_none()
        && resolved == 0
        && ledger.spent(guid, now) < record.max_attempts as usize
    {
        return Some("it failed with attempts left");
    }
    if let Some(starting_at) = record.starting_at {
        let before = record.started_at.is_some_and(|started_at| started_at < starting_at);
        if starting_at <= record.queued_at || before {
            return Some("I7: its stamps are out of order");
        }
        if record.expires_at.is_some_and(|at| starting_at >= at) {
            return Some("I8: its stamp is past its deadline");
        }
        if state == State::Started && !possible_duplicate && starting_at < record.run_at {
            return Some("I7: it started before its time");
        }
    }
    None
}
