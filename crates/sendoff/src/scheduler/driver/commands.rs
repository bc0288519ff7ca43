//! What callers ask for goes to the store, in the order in which it was asked.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::{
    super::command::{Command, NewBatch, Reply, Stored},
    Driver,
    answers::{Answer, Replies, Submitted},
};
use crate::{
    dispatcher::Event,
    error::Error,
    guid::Guid,
    job::{Job, QueueLimits},
    ports::{CancelVerdict, InsertBatch, NewJob},
};

/// Jobs cancelled in one call of the store.
pub(in crate::scheduler) const CANCELS: usize = 1_000;

/// Submits, or cancels, that follow each other and go to the store together.
#[derive(Default)]
struct Gathered {
    jobs: Vec<Arc<Job>>,
    submitters: Vec<Reply<Stored>>,
    /// The places in the inbox of all of them.
    room: Option<OwnedSemaphorePermit>,
    guids: Vec<Guid>,
    cancellers: Cancellers,
}

/// Those who wait for cancels, each with the number of its jobs.
pub(super) type Cancellers = Vec<(usize, Reply<Vec<CancelVerdict>>)>;

/// A change of a queue's limits that is on its way to the store, or waits for the one before.
pub(super) struct QueueChange {
    pub(super) queue: Arc<str>,
    pub(super) limits: Option<QueueLimits>,
    pub(super) reply: Reply<()>,
}

impl Driver {
    pub(super) fn take_commands(&mut self, commands: impl Iterator<Item = Command>) {
        let mut gathered = Gathered::default();
        for command in commands {
            // What came before a command of another kind goes to the store before it.
            let overtakes = mutated!(CancelOvertakesSubmit) && matches!(command, Command::Cancel { .. });
            if !matches!(command, Command::Submit { .. }) && !overtakes {
                self.submit_gathered(&mut gathered);
            }
            if !matches!(command, Command::Cancel { .. }) {
                self.cancel_gathered(&mut gathered);
            }
            self.take_command(command, &mut gathered);
        }
        if mutated!(CancelOvertakesSubmit) {
            self.cancel_gathered(&mut gathered);
        }
        self.submit_gathered(&mut gathered);
        self.cancel_gathered(&mut gathered);
    }

    fn take_command(&mut self, command: Command, gathered: &mut Gathered) {
        match command {
            command @ (Command::Submit { .. } | Command::Batch { .. }) if self.stopping.is_some() => {
                refuse(command, &Error::closed());
            }
            Command::Submit { job, reply, room } => {
                gathered.jobs.push(job);
                gathered.submitters.push(reply);
                match &mut gathered.room {
                    Some(rooms) => rooms.merge(room),
                    none => *none = Some(room),
                }
            }
            Command::Batch { batch, reply, room } => {
                self.submit(batch, Replies::Batch { reply, _room: room });
            }
            Command::Cancel { guids, reply } => {
                if gathered.guids.len() + guids.len() > CANCELS {
                    self.cancel_gathered(gathered);
                }
                gathered.cancellers.push((guids.len(), reply));
                gathered.guids.extend(guids);
            }
            Command::Reschedule { guid, run_at, reply } => {
                let now = self.shared.clock.now();
                self.call(
                    "reschedule",
                    |store| store.reschedule(guid, run_at, now),
                    |result| Answer::Changed { reply, result: result.into(), moved: false },
                );
            }
            Command::Resolve { guid, to, reply } => {
                let now = self.shared.clock.now();
                self.call(
                    "resolve",
                    |store| store.resolve(guid, to, now),
                    |result| Answer::Changed { reply, result: result.into(), moved: true },
                );
            }
            Command::Barrier(reply) => {
                let now = self.shared.clock.now();
                self.call(
                    "settle",
                    // Writes take effect, and are answered, in the order of their calls.
                    |store| store.settle(Vec::new(), now),
                    |result| Answer::Reached(reply, result.map(drop)),
                );
            }
            Command::QueueLimits { queue, limits, reply } => {
                self.queue_changes.push_back(QueueChange { queue, limits, reply });
                if self.queue_changes.len() == 1 {
                    self.change_next_queue();
                }
            }
            Command::MaxInFlight(starts) => self.feed(Event::MaxInFlight(starts)),
            Command::Shutdown { grace, reply } => self.stop(grace, reply),
        }
    }

    /// One change at a time: so the store and the dispatcher take them in the same order, whatever
    /// the order of the answers.
    pub(super) fn change_next_queue(&mut self) {
        let Some(QueueChange { queue, limits, .. }) = self.queue_changes.front() else { return };
        let (queue, limits) = (queue.clone(), *limits);
        if let Some(among) = &mut self.among {
            among.limits_change();
        }
        self.call("set_queue", |store| store.set_queue(queue, limits), Answer::QueueChanged);
    }

    fn submit_gathered(&mut self, gathered: &mut Gathered) {
        if !gathered.jobs.is_empty() {
            let jobs = std::mem::take(&mut gathered.jobs);
            let replies = std::mem::take(&mut gathered.submitters);
            let replies = Replies::Single { replies, room: gathered.room.take() };
            self.submit(NewBatch { jobs, atomic: false, bookmark: None }, replies);
        }
    }

    fn cancel_gathered(&mut self, gathered: &mut Gathered) {
        if !gathered.cancellers.is_empty() {
            let guids = std::mem::take(&mut gathered.guids);
            let cancellers = std::mem::take(&mut gathered.cancellers);
            self.cancel(guids, cancellers);
        }
    }

    fn submit(&mut self, batch: NewBatch, replies: Replies) {
        let now = self.now();
        #[cfg(feature = "testing")]
        let replies =
            if mutated!(AckBeforeCommit) { acknowledge(&batch, replies, &self.shared) } else { replies };
        let lease = self.shared.membership.lease();
        let may_claim = self.among.is_none() || lease.holds(now.elapsed);
        let mut jobs = Vec::with_capacity(batch.jobs.len());
        let mut new_jobs = Vec::with_capacity(batch.jobs.len());
        for job in batch.jobs {
            let admitted = may_claim && self.dispatcher.admit(now, &job.lane, job.run_at, job.expires_at);
            new_jobs.push(NewJob { job: job.clone(), claim: admitted.then(|| lease.node().clone()) });
            jobs.push((job, admitted));
        }
        let insert =
            InsertBatch { jobs: new_jobs, atomic: batch.atomic, bookmark: batch.bookmark, now: now.wall };
        let claims = jobs.iter().any(|(_, admitted)| *admitted);
        let under = self.among.as_mut().filter(|_| claims).map(|among| among.begin_call());
        let batch = Submitted { jobs, lease, under, replies };
        self.call(
            "insert",
            |store| store.insert(insert),
            move |result| Answer::Submitted { batch, result, now: now.wall },
        );
    }

    fn cancel(&mut self, guids: Vec<Guid>, cancellers: Cancellers) {
        let now = self.shared.clock.now();
        self.call("cancel", |store| store.cancel(guids, now), |result| Answer::Cancelled(cancellers, result));
    }
}

/// The mistake [`Mutant::AckBeforeCommit`](crate::mutant::Mutant).
#[cfg(feature = "testing")]
fn acknowledge(batch: &NewBatch, replies: Replies, shared: &super::Shared) -> Replies {
    let Replies::Single { replies, room } = replies else { return replies };
    let unheard = replies.into_iter().zip(&batch.jobs).map(|(reply, job)| {
        let durability = shared.store.durability();
        let accepted = super::super::command::Accepted { guid: job.guid, created: true, durability };
        drop(reply.send(Ok(Stored { accepted, claimed: None })));
        tokio::sync::oneshot::channel().0
    });
    Replies::Single { replies: unheard.collect(), room }
}

pub(super) fn refuse(command: Command, error: &Error) {
    match command {
        Command::Submit { reply, .. } => drop(reply.send(Err(error.again()))),
        Command::Batch { reply, .. } => drop(reply.send(Err(error.again()))),
        Command::Cancel { reply, .. } => drop(reply.send(Err(error.again()))),
        Command::Reschedule { reply, .. } | Command::Resolve { reply, .. } => {
            drop(reply.send(Err(error.again())));
        }
        Command::Barrier(reply) | Command::QueueLimits { reply, .. } => drop(reply.send(Err(error.again()))),
        Command::MaxInFlight(_) | Command::Shutdown { .. } => {}
    }
}
