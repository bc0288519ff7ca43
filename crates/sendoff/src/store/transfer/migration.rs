//! The move of a SQLite store's jobs to PostgreSQL: it can be stopped at any point and repeated.
//!
//! The target notes that the move has begun, then the source is marked, then rows follow in the
//! order of insertion, a chunk in a transaction together with how far that is. What is marked is
//! changed by nobody, so a repeat goes on where the note says. At the end both are read and compared.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{Compared, Digest, Moved, StoredJob, Unreadable};
use crate::{
    error::{Error, ErrorKind, Result},
    guid::{Guid, GuidSource},
    job::{JobId, QueueLimits},
    ports::Store,
    state::State,
    store::{
        PostgresImport, SqliteStore,
        postgres::{Held, Mark},
    },
    time::{Clock, SystemClock},
};

/// Rows that are moved or compared at once.
const CHUNK: usize = 2_000;
/// So many differences and rows left behind are named, the rest counted.
const NAMED: usize = 20;

/// A move.
#[derive(Debug, Clone, Copy)]
pub struct Migration<'a> {
    source: &'a SqliteStore,
    target: Option<&'a PostgresImport>,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rows are written to the target.
    Moving,
    /// Both are read and compared.
    Checking,
}

/// How far a step has come.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Which.
    pub step: Step,
    /// Rows done by this call.
    pub done: u64,
    /// Rows of the source.
    pub total: u64,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The job, if it is about one.
    pub guid: Option<Guid>,
    /// What.
    pub what: String,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Rows that this call wrote.
    pub moved: u64,
    /// Rows that this call found in the target where it was about to write them.
    pub skipped: u64,
    /// Rows that the target holds with every field as it was.
    pub same: u64,
    /// Rows whose jobs have gone on in the target since.
    pub went_on: u64,
    /// Rows that are not there; only without a move, else they are differences.
    pub absent: u64,
    /// The source's jobs by queue and state, as read.
    pub counts: BTreeMap<Arc<str>, BTreeMap<State, u64>>,
    /// Over what was read of the source.
    pub source: Digest,
    /// Over the same jobs in the target.
    pub target: Digest,
    /// How many differences there are.
    pub differing: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// How many rows cannot be moved: they stay behind in the source.
    pub left_behind: u64,
    /// The first of them.
    pub unreadable: Vec<Unreadable>,
    /// Rows that were starting when the source was opened, and were reclaimed as at every opening.
    pub reclaimed: usize,
    /// How long the moving took.
    pub moving: Duration,
    /// How long the checking took.
    pub checking: Duration,
}

impl Report {
    /// Everything is in the target, as it was or gone on from there.
    pub fn is_whole(&self) -> bool {
        self.differing == 0 && self.left_behind == 0
    }

    /// Jobs of the source in this state.
    pub fn total(&self, state: State) -> u64 {
        self.counts.values().filter_map(|states| states.get(&state)).sum()
    }

    fn differs(&mut self, guid: Option<Guid>, what: impl Into<String>) {
        self.differing += 1;
        if self.differences.len() < NAMED {
            self.differences.push(Difference { guid, what: what.into() });
        }
    }

    fn leave(&mut self, row: Unreadable) {
        self.left_behind += 1;
        if self.unreadable.len() < NAMED {
            self.unreadable.push(row);
        }
    }
}

/// Told of each chunk.
type Tell<'t> = &'t mut (dyn FnMut(Progress) + Send);

impl<'a> Migration<'a> {
    /// From `source`, opened with
    /// [`moved_too`](crate::store::SqliteOptions::moved_too), to `target`. Without a target it can
    /// only be [checked](Migration::check).
    pub fn new(source: &'a SqliteStore, target: Option<&'a PostgresImport>) -> Self {
        Self { source, target }
    }

    /// Moves what has not been moved yet, with the limits of queues and the bookmarks, then checks.
    /// Dropped or killed at any point it can be called again, and goes on.
    ///
    /// # Errors
    /// [`Error::is_invalid`] without a target; [`Error::is_unusable`] if the jobs were moved
    /// elsewhere before; whatever the two stores answer. What was moved stays.
    pub async fn run(self, tell: Tell<'_>) -> Result<Report> {
        let Some(target) = self.target else { return Err(Error::invalid("a move needs a target")) };
        let mut report = Report::default();
        let started = SystemClock.elapsed();
        let total = self.total().await?;
        let (id, mark) = self.claim_source(target, &mut report).await?;
        let after = match mark {
            Mark::Begun => {
                self.settings(target, id, &mut report).await?;
                JobId(0)
            }
            Mark::Until(row) => row,
        };
        let mut done = 0;
        let mut next = self.source.export(Some(after), CHUNK);
        loop {
            let rows = next.await?;
            let Some(last) = rows.last().map(id_of) else { break };
            // Read while these are written.
            next = self.source.export(Some(last), CHUNK);
            let read = rows.len() as u64;
            let rows: Vec<_> = rows.into_iter().flatten().collect();
            let fitting = rows.iter().filter(|row| PostgresImport::fits(row).is_ok()).count() as u64;
            let moved = target.import(id, &rows, last).await?;
            report.moved += moved;
            report.skipped += fitting.saturating_sub(moved);
            done += read;
            tell(Progress { step: Step::Moving, done: done.min(total), total });
        }
        report.moving = SystemClock.elapsed().saturating_sub(started);
        self.compare(&mut report, true, tell).await?;
        for (queue, state, told, found) in target.miscounted().await? {
            report.differs(
                None,
                format!("the target counts {told} jobs of queue {queue} as {state}, and has {found}"),
            );
        }
        Ok(report)
    }

    /// Reads the source, and what the target holds of it, and changes neither.
    ///
    /// # Errors
    /// Whatever the two stores answer.
    pub async fn check(self, tell: Tell<'_>) -> Result<Report> {
        let mut report = Report::default();
        self.compare(&mut report, false, tell).await?;
        Ok(report)
    }

    async fn total(&self) -> Result<u64> {
        Ok(self.source.counts().await?.queues.values().flat_map(BTreeMap::values).sum())
    }

    /// Sees to it that nobody starts the source's jobs any more; the move's name and how far it is.
    async fn claim_source(&self, target: &PostgresImport, report: &mut Report) -> Result<(Guid, Mark)> {
        if let Some(moved) = self.source.moved() {
            return match target.mark(moved.id).await? {
                Some(mark) => Ok((moved.id, mark)),
                // That database was made anew, or lost what it had acknowledged.
                None if moved.to == target.place() => {
                    target.begin(moved.id).await?;
                    Ok((moved.id, Mark::Begun))
                }
                None => Err(Error::new(
                    ErrorKind::Unusable,
                    format!(
                        "its jobs were moved to {} on {}, and {} knows nothing of that; name that database",
                        moved.to,
                        moved.at,
                        target.place()
                    ),
                )),
            };
        }
        let now = SystemClock.now();
        loop {
            let reclaimed = self.source.reclaim(CHUNK, now).await?;
            report.reclaimed += reclaimed;
            if reclaimed == 0 {
                break;
            }
        }
        let id = GuidSource::new().next(now);
        // The target first: a source that is marked is always known there.
        target.begin(id).await?;
        let moved = Moved { id, to: target.place().to_owned(), at: now };
        self.source.set_moved(moved).await?;
        Ok((id, Mark::Begun))
    }

    /// Before the first job, so that a paused queue's jobs do not start.
    async fn settings(&self, target: &PostgresImport, id: Guid, report: &mut Report) -> Result<()> {
        let limits: BTreeMap<Arc<str>, QueueLimits> = self.source.queues().await?;
        let bookmarks = self.source.bookmarks().await?;
        if let Some(name) = bookmarks.keys().find(|name| name.contains('\0')) {
            return Err(Error::invalid(format!("bookmark {name:?}: PostgreSQL cannot hold its NUL")));
        }
        target.settings(id, &limits, &bookmarks).await?;
        let there = target.limits().await?;
        for (queue, limits) in &limits {
            if there.get(queue) != Some(limits) {
                report.differs(
                    None,
                    format!("queue {queue} has other limits in the target already; they stay"),
                );
            }
        }
        for (name, value) in &bookmarks {
            if target.bookmark(name).await?.as_ref() != Some(value) {
                report.differs(
                    None,
                    format!("bookmark {name:?} has another value in the target already; it stays"),
                );
            }
        }
        Ok(())
    }

    /// Walks over the source and looks each job up in the target.
    async fn compare(&self, report: &mut Report, moved: bool, tell: Tell<'_>) -> Result<()> {
        let started = SystemClock.elapsed();
        let counts = self.source.counts().await?;
        let total = self.total().await?;
        let mut done = 0;
        let mut next = self.source.export(None, CHUNK);
        loop {
            let rows = next.await?;
            let Some(last) = rows.last().map(id_of) else { break };
            next = self.source.export(Some(last), CHUNK);
            done += rows.len() as u64;
            let mut jobs = Vec::with_capacity(rows.len());
            for row in rows {
                match row {
                    Ok(job) => jobs.push(job),
                    Err(unreadable) => report.leave(unreadable),
                }
            }
            let held = match self.target {
                Some(target) => target.held(&jobs).await?,
                None => Held::default(),
            };
            jobs.iter().for_each(|job| judge(job, &held, moved, report));
            tell(Progress { step: Step::Checking, done: done.min(total), total });
        }
        // What cannot be read is in no queue here.
        if report.left_behind == 0 {
            for (queue, states) in counts.queues {
                for (state, told) in states {
                    let read = report.counts.get(&*queue).and_then(|states| states.get(&state));
                    let read = read.copied().unwrap_or(0);
                    if read != told {
                        let what = format!(
                            "the source counts {told} jobs of queue {queue} as {state}, and has {read}"
                        );
                        report.differs(None, what);
                    }
                }
            }
        }
        report.checking = SystemClock.elapsed().saturating_sub(started);
        Ok(())
    }
}

fn id_of(row: &Result<StoredJob, Unreadable>) -> JobId {
    match row {
        Ok(job) => job.id,
        Err(row) => row.id,
    }
}

fn judge(job: &StoredJob, held: &Held, moved: bool, report: &mut Report) {
    let guid = job.job.guid;
    *report.counts.entry(job.job.lane.queue.clone()).or_default().entry(job.life.state).or_default() += 1;
    report.source.add(job);
    if let Err(row) = PostgresImport::fits(job) {
        return report.leave(row);
    }
    match held.jobs.get(&guid) {
        Some(Some(now)) => {
            report.target.add(now);
            match job.compare(now) {
                Compared::Same => report.same += 1,
                Compared::WentOn => report.went_on += 1,
                Compared::Differs(fields) => {
                    report
                        .differs(Some(guid), format!("it is otherwise in the target: {}", fields.join(", ")));
                }
            }
        }
        Some(None) => report.differs(Some(guid), "its row cannot be read in the target"),
        None => match job.job.idempotency_key.as_deref().and_then(|key| held.keys.get(key)) {
            Some(other) => {
                report.differs(Some(guid), format!("its idempotency key names job {other} in the target"));
            }
            None if moved => {
                report.differs(Some(guid), "it is not in the target: it was deleted there, or lost")
            }
            None => report.absent += 1,
        },
    }
}
