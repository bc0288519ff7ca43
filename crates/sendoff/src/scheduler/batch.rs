//! Many jobs in one call.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{Scheduler, command::NewBatch, resolve};
use crate::{
    error::{Error, Result},
    guid::Guid,
    job::{Job, JobSpec},
    ports::Inserted,
};

/// Jobs that go to the store at once in an itemised batch; also the unit of its progress.
const CHUNK: usize = 1_000;
/// Such parts that are made ready while one is stored.
const AHEAD: usize = 2;
/// Jobs made ready at once, before the store's answer is looked for again.
const SLICE: usize = 64;

/// Jobs to submit in one call.
#[derive(Debug, Clone)]
pub struct Batch {
    specs: Vec<JobSpec>,
    atomic: bool,
    bookmark: Option<(String, Vec<u8>)>,
    /// What the jobs are called; empty: 1, 2 and so on.
    numbers: Vec<u64>,
}

impl Batch {
    /// The most jobs of an atomic batch.
    pub const MAX_ATOMIC: usize = 10_000;
    /// The most bytes of JSON in an atomic batch.
    pub const MAX_ATOMIC_BYTES: usize = 16 * 1024 * 1024;

    fn new(specs: Vec<JobSpec>, atomic: bool) -> Self {
        Self { specs, atomic, bookmark: None, numbers: Vec::new() }
    }

    /// All of these jobs or none of them.
    pub fn atomic(specs: Vec<JobSpec>) -> Self {
        Self::new(specs, true)
    }

    /// Each of these jobs by itself, as many as you like. Stored in parts; if the process crashes
    /// midway, a first part is stored.
    pub fn itemised(specs: Vec<JobSpec>) -> Self {
        Self::new(specs, false)
    }

    /// What to call these jobs where the words of a conflict name another one of the batch, one
    /// number for each: for parts of something longer. Default 1, 2 and so on.
    #[must_use]
    pub fn numbered(mut self, numbers: Vec<u64>) -> Self {
        self.numbers = numbers;
        self
    }

    fn number(numbers: &[u64], item: usize) -> u64 {
        numbers.get(item).copied().unwrap_or(item as u64 + 1)
    }

    /// Keeps `value` under `name` in the same transaction as the last of these jobs (with up to
    /// 1,000 jobs: as all of them), so that a source can be read on from where it was accepted, to
    /// the job; see [`Scheduler::bookmark`].
    #[must_use]
    pub fn bookmark(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.bookmark = Some((name.into(), value.into()));
        self
    }
}

/// What became of one job of a batch.
#[derive(Debug)]
pub enum Verdict {
    /// It is stored.
    Created(Guid),
    /// It was submitted before under the same guid or key; the first one's guid.
    Existing(Guid),
    /// Its guid or key names another job: [`Error::is_conflict`].
    Conflict(Error),
    /// It can never start: [`Error::is_invalid`].
    Invalid(Error),
}

impl Verdict {
    /// The job's name, if it is stored.
    pub fn guid(&self) -> Option<Guid> {
        match self {
            Self::Created(guid) | Self::Existing(guid) => Some(*guid),
            Self::Conflict(_) | Self::Invalid(_) => None,
        }
    }
}

pub(super) async fn submit(scheduler: &Scheduler, batch: Batch) -> Result<Vec<Verdict>> {
    if batch.atomic { atomic(scheduler, batch).await } else { itemised(scheduler, batch).await }
}

async fn atomic(scheduler: &Scheduler, batch: Batch) -> Result<Vec<Verdict>> {
    let count = batch.specs.len();
    if count > Batch::MAX_ATOMIC {
        let why = format!(
            "an atomic batch has at most {} jobs, not {count}; submit it itemised",
            Batch::MAX_ATOMIC
        );
        return Err(Error::invalid(why));
    }
    let mut jobs = Vec::with_capacity(count);
    let mut bytes = 0;
    let now = scheduler.handle.shared.clock.now();
    for (item, spec) in batch.specs.into_iter().enumerate() {
        let job = scheduler.resolve_at(now, spec).map_err(|err| err.of_item(item))?;
        bytes += job.request.len();
        jobs.push(Arc::new(job));
    }
    if bytes > Batch::MAX_ATOMIC_BYTES {
        let why = format!("an atomic batch has at most {} bytes, not {bytes}", Batch::MAX_ATOMIC_BYTES);
        return Err(Error::invalid(why));
    }
    let guids: Vec<_> = jobs.iter().map(|job| job.guid).collect();
    let room = scheduler.room(u32::try_from(count).unwrap_or(u32::MAX)).await?;
    let new = NewBatch { jobs, atomic: true, bookmark: batch.bookmark };
    let inserted = scheduler.store_batch(new, room).await?;
    let conflict = inserted.iter().enumerate().find_map(|(item, verdict)| match verdict {
        Inserted::Conflict(conflict) => Some((item, conflict)),
        _ => None,
    });
    if let Some((item, conflict)) = conflict {
        let number = conflict.with_item.map(|with| Batch::number(&batch.numbers, with));
        return Err(resolve::conflict(guids[item], conflict, number).of_item(item));
    }
    Ok(inserted.into_iter().zip(guids).map(|(verdict, guid)| told(verdict, guid, &[])).collect())
}

async fn itemised(scheduler: &Scheduler, batch: Batch) -> Result<Vec<Verdict>> {
    let Batch { specs, numbers, mut bookmark, .. } = batch;
    let mut verdicts = Vec::with_capacity(specs.len());
    let (ready, mut parts) = mpsc::channel(AHEAD);
    let make_ready = async {
        let ready = ready;
        let mut specs = specs.into_iter().enumerate();
        loop {
            let part = Part::next(scheduler, &mut specs, &numbers).await;
            let last = part.last;
            if ready.send(part).await.is_err() || last {
                return Ok(());
            }
        }
    };
    // A part goes to the store when the one before has gone well; meanwhile the next are made ready.
    let store = async {
        while let Some(mut part) = parts.recv().await {
            let jobs = std::mem::take(&mut part.jobs);
            let bookmark = if part.last { bookmark.take() } else { None };
            let mut inserted = Vec::new();
            if !jobs.is_empty() || bookmark.is_some() {
                let room = scheduler.room(u32::try_from(jobs.len().max(1)).unwrap_or(u32::MAX)).await?;
                inserted = scheduler.store_batch(NewBatch { jobs, atomic: false, bookmark }, room).await?;
            }
            part.tell(inserted, &mut verdicts);
        }
        Ok::<_, Error>(())
    };
    tokio::try_join!(make_ready, store)?;
    Ok(verdicts)
}

/// What goes to the store at once of an itemised batch.
struct Part {
    /// All of its items: guids, or why they can never start.
    items: Vec<Result<Guid>>,
    /// The valid ones.
    jobs: Vec<Arc<Job>>,
    /// What those are called.
    numbers: Vec<u64>,
    /// No other follows.
    last: bool,
}

impl Part {
    async fn next(
        scheduler: &Scheduler,
        specs: &mut impl ExactSizeIterator<Item = (usize, JobSpec)>,
        numbers: &[u64],
    ) -> Self {
        let count = CHUNK.min(specs.len());
        let last = count == specs.len();
        let mut part = Self {
            items: Vec::with_capacity(count),
            jobs: Vec::with_capacity(count),
            numbers: Vec::with_capacity(count),
            last,
        };
        let now = scheduler.handle.shared.clock.now();
        for (nth, (item, spec)) in specs.take(CHUNK).enumerate() {
            if nth % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
            }
            let resolved = scheduler.resolve_at(now, spec).map(|job| {
                let guid = job.guid;
                part.jobs.push(Arc::new(job));
                part.numbers.push(Batch::number(numbers, item));
                guid
            });
            part.items.push(resolved);
        }
        part
    }

    /// What became of each item; `inserted` is the store's answer on the valid ones.
    fn tell(self, inserted: Vec<Inserted>, verdicts: &mut Vec<Verdict>) {
        let mut inserted = inserted.into_iter();
        verdicts.extend(self.items.into_iter().map(|item| match item {
            Err(err) => Verdict::Invalid(err),
            Ok(guid) => match inserted.next() {
                Some(verdict) => told(verdict, guid, &self.numbers),
                None => Verdict::Invalid(Error::invalid("the store gave no verdict on it")),
            },
        }));
    }
}

/// The verdict as the caller gets it; `numbers` are those of the stored part's jobs.
fn told(verdict: Inserted, guid: Guid, numbers: &[u64]) -> Verdict {
    match verdict {
        Inserted::Created(_) => Verdict::Created(guid),
        Inserted::Existing(first) => Verdict::Existing(first),
        Inserted::Conflict(conflict) => {
            let number = conflict.with_item.and_then(|item| numbers.get(item).copied());
            Verdict::Conflict(resolve::conflict(guid, &conflict, number))
        }
        Inserted::Skipped => Verdict::Conflict(Error::invalid("another job of the batch conflicts")),
    }
}
