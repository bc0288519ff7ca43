//! The submitter's handle.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{Accepted, Rereads, Scheduler, Shared, command::Stored};
use crate::{
    error::{Error, Result},
    guid::Guid,
    job::{Job, JobRecord},
    ports::CancelVerdict,
    state::State,
};

/// A submitted job. Awaiting it waits until the job is durable; [`Submission::started`] waits for
/// the start; dropping it forgets the job, which starts all the same.
#[derive(Debug)]
pub struct Submission {
    guid: Guid,
    job: Arc<Job>,
    scheduler: Scheduler,
    answer: oneshot::Receiver<Result<Stored>>,
    /// What it was, once it is known: awaiting a submission again gives it again.
    answered: Option<Result<Stored>>,
}

impl Submission {
    pub(super) fn new(
        job: Arc<Job>,
        scheduler: Scheduler,
        answer: oneshot::Receiver<Result<Stored>>,
    ) -> Self {
        Self { guid: job.guid, job, scheduler, answer, answered: None }
    }

    /// The job's name; after an answer that the same job was submitted before, the first one's.
    pub const fn guid(&self) -> Guid {
        self.guid
    }

    /// The record of a job that this submission made, as it was stored, without reading it back:
    /// pending, or starting if the job was due and had its permits in hand. None before the answer
    /// was awaited, and if the same job had been submitted before: then ask for it by its guid.
    pub fn record(&self) -> Option<JobRecord> {
        let Some(Ok(stored)) = &self.answered else { return None };
        let claim = stored.claimed.as_ref().map(|(node, at)| (node, *at));
        stored.accepted.created.then(|| JobRecord::created(&self.job, claim))
    }

    /// Waits until the job has started and gives its record.
    ///
    /// # Errors
    /// How it ended otherwise, or that it was not accepted.
    pub async fn started(mut self) -> Result<JobRecord, NotStarted> {
        let accepted = (&mut self).await.map_err(NotStarted::Error)?;
        started(&self.scheduler.handle.shared, accepted.guid).await
    }

    /// Cancels the job; see [`Scheduler::cancel`]. Ordered behind the submit, also if that has not
    /// been answered yet. (Of a job that was submitted before under another guid and the same key,
    /// the answer must be known first: until then [`Submission::guid`] is not the job's.)
    ///
    /// # Errors
    /// The store's.
    pub async fn cancel(&self) -> Result<CancelVerdict> {
        self.scheduler.cancel(self.guid).await
    }
}

impl Future for Submission {
    type Output = Result<Accepted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.answered.is_none() {
            let answer = match std::task::ready!(Pin::new(&mut self.answer).poll(cx)) {
                Ok(answer) => answer,
                Err(_) => Err(self.scheduler.handle.shared.unanswered_now()),
            };
            if let Ok(stored) = &answer {
                self.guid = stored.accepted.guid;
            }
            self.answered = Some(answer);
        }
        Poll::Ready(match &self.answered {
            Some(Ok(stored)) => Ok(stored.accepted),
            Some(Err(err)) => Err(err.again()),
            None => Err(self.scheduler.handle.shared.closed()),
        })
    }
}

/// How a job ended that did not start, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// It was cancelled in time.
    #[error("job {} was cancelled", .0.guid)]
    Cancelled(Box<JobRecord>),
    /// No attempt could start it; the record's `last_error` says why.
    #[error("job {} failed: {}", .0.guid, .0.last_error.as_ref().map_or("", |error| &error.message))]
    Failed(Box<JobRecord>),
    /// Its deadline passed.
    #[error("job {} expired", .0.guid)]
    Expired(Box<JobRecord>),
    /// It may have started, and must not start twice.
    #[error("it is unknown whether job {} started", .0.guid)]
    Unknown(Box<JobRecord>),
    /// The job was not accepted, its record is gone, or the scheduler stopped.
    #[error(transparent)]
    Error(Error),
}

pub(super) async fn started(shared: &Shared, guid: Guid) -> Result<JobRecord, NotStarted> {
    let mut rereads = Rereads::new(&shared.membership);
    loop {
        let mut waiter = shared.waiters.register(guid);
        if *shared.done.borrow() {
            return Err(NotStarted::Error(shared.closed()));
        }
        let record = shared.store.get(guid).await.map_err(NotStarted::Error)?;
        let Some(record) = record else {
            let gone = Error::new(crate::error::ErrorKind::NotFound, format!("there is no job {guid}"));
            return Err(NotStarted::Error(gone));
        };
        match record.state {
            State::Pending | State::Starting => {}
            State::Started => return Ok(record),
            State::Failed => return Err(NotStarted::Failed(record.into())),
            State::Cancelled => return Err(NotStarted::Cancelled(record.into())),
            State::Expired => return Err(NotStarted::Expired(record.into())),
            State::Unknown => return Err(NotStarted::Unknown(record.into())),
        }
        tokio::select! {
            biased;
            woken = &mut waiter.woken => if woken.is_err() {
                return Err(NotStarted::Error(shared.closing().await));
            },
            // It may be another node that starts it.
            () = rereads.next() => {}
        }
    }
}
