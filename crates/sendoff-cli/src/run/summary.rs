//! What became of a run: one pass over its records, in constant memory.

use std::{collections::BTreeMap, io, sync::Arc};

use hdrhistogram::Histogram;
use sendoff::{
    JobRecord, State,
    ports::{Filter, PageRequest, Store},
    time::Timestamp,
};
use serde::Serialize;

use super::records::Records;

/// Jobs that are named in a summary, of each state that deserves it.
pub(crate) const NAMED: usize = 20;

/// Counts and times of a run's jobs.
pub(crate) struct Summary {
    /// By the starter's name.
    pub(crate) starters: BTreeMap<Arc<str>, Facts>,
    /// All of them.
    pub(crate) all: Facts,
    /// The first that failed.
    pub(crate) failed: Vec<Named>,
    /// The first of which nobody knows whether they started.
    pub(crate) unknown: Vec<Named>,
    /// The first accepted, and the last started.
    span: Option<(Timestamp, Timestamp)>,
    /// Starts within that span.
    sitting: u64,
    /// Records whose job may have started twice.
    pub(crate) possible_duplicates: u64,
}

/// Counts and times of some jobs.
pub(crate) struct Facts {
    pub(crate) states: BTreeMap<State, u64>,
    /// Microseconds, ours.
    pub(crate) wait: Times,
    /// Microseconds, the targets'.
    pub(crate) took: Times,
}

/// A job that a summary names.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Named {
    pub(crate) guid: String,
    pub(crate) starter: Arc<str>,
    pub(crate) target: Option<Arc<str>>,
    pub(crate) error: Option<String>,
}

/// A distribution of times in microseconds.
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(3).expect("three digits are allowed"))
    }
}

impl Times {
    fn note(&mut self, micros: i64) {
        // It grows as needed; a time of more than 35 years counts as that.
        const MOST: u64 = 1 << 50;
        let grown = self.0.record(u64::try_from(micros).unwrap_or(0).min(MOST));
        debug_assert!(grown.is_ok());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn quantile(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile).min(self.0.max())
    }

    pub(crate) fn max(&self) -> u64 {
        self.0.max()
    }

    /// How many lie within `low..high`.
    pub(crate) fn between(&self, low: u64, high: u64) -> u64 {
        self.0
            .iter_recorded()
            .filter(|at| (low..high).contains(&at.value_iterated_to()))
            .map(|at| at.count_at_value())
            .sum()
    }

    pub(crate) fn min(&self) -> u64 {
        self.0.min()
    }
}

impl Facts {
    fn new() -> Self {
        Self { states: BTreeMap::new(), wait: Times::default(), took: Times::default() }
    }

    pub(crate) fn count(&self, state: State) -> u64 {
        self.states.get(&state).copied().unwrap_or(0)
    }

    /// Jobs in all.
    pub(crate) fn jobs(&self) -> u64 {
        self.states.values().sum()
    }

    /// Jobs that are not final.
    pub(crate) fn unfinished(&self) -> u64 {
        self.count(State::Pending) + self.count(State::Starting)
    }

    fn note(&mut self, record: &JobRecord) {
        *self.states.entry(record.state).or_default() += 1;
        if let Some(wait) = record.wait_us {
            self.wait.note(wait);
        }
        if let Some(took) = record.took_us {
            self.took.note(took);
        }
    }
}

impl Named {
    fn of(record: &JobRecord) -> Self {
        Self {
            guid: record.guid.to_string(),
            starter: record.starter.clone(),
            target: record.target.clone(),
            error: record.last_error.as_ref().map(|error| error.message.clone()),
        }
    }
}

impl Summary {
    /// Reads all records of a run; starts from `since` on make up the rate. Writes each record to
    /// `records`, if given; the second answer says whether that went well.
    pub(crate) async fn of(
        store: &Arc<dyn Store>,
        key: &str,
        since: Option<Timestamp>,
        mut records: Option<&mut Records>,
    ) -> sendoff::Result<(Self, io::Result<()>)> {
        let mut summary = Self {
            starters: BTreeMap::new(),
            all: Facts::new(),
            failed: Vec::new(),
            unknown: Vec::new(),
            span: None,
            sitting: 0,
            possible_duplicates: 0,
        };
        let mut written = Ok(());
        let filter = Filter { submitted_by: Some(key.to_owned()), ..Filter::default() };
        let mut page = PageRequest { limit: 1_000, row_budget: 100_000, ..PageRequest::default() };
        loop {
            let found = store.list(filter.clone(), page).await?;
            for record in &found.records {
                summary.note(record, since);
                if let (Some(records), Ok(())) = (&mut records, &written) {
                    written = records.write(record);
                }
            }
            match found.next {
                Some(next) => page.after = Some(next),
                None => return Ok((summary, written)),
            }
        }
    }

    fn note(&mut self, record: &JobRecord, since: Option<Timestamp>) {
        self.all.note(record);
        match self.starters.get_mut(&record.starter) {
            Some(facts) => facts.note(record),
            None => self.starters.entry(record.starter.clone()).or_insert_with(Facts::new).note(record),
        }
        let named = match record.state {
            State::Failed => Some(&mut self.failed),
            State::Unknown => Some(&mut self.unknown),
            _ => None,
        };
        if let Some(named) = named.filter(|named| named.len() < NAMED) {
            named.push(Named::of(record));
        }
        // An unknown one is not started again; it has a list of its own.
        self.possible_duplicates += u64::from(record.possible_duplicate && record.state == State::Started);
        let Some(started) = record.started_at else { return };
        if since.is_none_or(|since| started >= since) {
            let queued = since.map_or(record.queued_at, |since| since.max(record.queued_at));
            self.span = Some(match self.span {
                Some((first, last)) => (first.min(queued), last.max(started)),
                None => (queued, started),
            });
            self.sitting += 1;
        }
    }

    /// Starts of this sitting, the seconds from the first acceptance to the last start, and so
    /// the starts per second.
    pub(crate) fn rate(&self) -> Option<Rate> {
        let (first, last) = self.span?;
        let seconds = last.saturating_since(first).as_secs_f64();
        Some(Rate { starts: self.sitting, seconds, per_second: self.sitting as f64 / seconds.max(1e-6) })
    }
}

/// How fast it went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) starts: u64,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
}
