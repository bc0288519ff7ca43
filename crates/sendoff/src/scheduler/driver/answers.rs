//! What the store answered, and what follows from it.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    super::{
        command::{Accepted, Reply, Stored},
        resolve,
    },
    Driver, Live,
    commands::Cancellers,
    fleet::CallKey,
};
use crate::{
    dispatcher::{Event, Verdict},
    error::{Error, Result},
    job::{Header, Job, JobId, JobRecord, Lane, QueueLimits},
    notice::Notice,
    ports::{AttemptSeen, CancelVerdict, Changed, Claimed, Expired, Inserted, Lease, Settled, Settlement},
    state::{Outcome, State},
    time::Timestamp,
};

/// What the store answered.
pub(super) enum Answer {
    Submitted {
        batch: Submitted,
        result: Result<Vec<Inserted>>,
        now: Timestamp,
    },
    Claimed {
        ids: Vec<JobId>,
        /// In a fleet: the lease under which they were claimed.
        under: Option<(CallKey, Arc<Lease>)>,
        result: Result<Vec<Verdict>>,
    },
    Settled(Vec<Settlement>, Result<Vec<Settled>>),
    Cancelled(Cancellers, Result<Vec<CancelVerdict>>),
    /// `moved`: to another state, if it was applied.
    Changed {
        reply: Reply<Option<Changed>>,
        result: Box<Result<Option<Changed>>>,
        moved: bool,
    },
    QueueChanged(Result<()>),
    Reached(Reply<()>, Result<()>),
    Due(Result<Vec<Header>>),
    Lanes(Result<Vec<Arc<Lane>>>),
    Ready(Arc<Lane>, usize, Result<Vec<Header>>),
    Expired(Result<Expired>),
    /// The limits of queues, and how often they had been changed here when they were asked for.
    Queues(Result<BTreeMap<Arc<str>, QueueLimits>>, u64),
    /// What is starting in this node's name.
    Mine(Result<Vec<(JobId, u32)>>),
    /// Claims were given back of which the engine knew nothing.
    StraysReleased(Result<Vec<Settled>>),
}

/// Jobs on their way to the store, with those who wait for the answer.
pub(super) struct Submitted {
    pub(super) jobs: Vec<(Arc<Job>, bool)>,
    /// Under which those of them are claimed that may start at once.
    pub(super) lease: Arc<Lease>,
    /// In a fleet, if there are such.
    pub(super) under: Option<CallKey>,
    pub(super) replies: Replies,
}

pub(super) enum Replies {
    Single { replies: Vec<Reply<Stored>>, room: Option<OwnedSemaphorePermit> },
    Batch { reply: Reply<Vec<Inserted>>, _room: OwnedSemaphorePermit },
}

impl Driver {
    /// # Errors
    /// When the store is poisoned.
    pub(super) fn take_answer(&mut self, answer: Answer) -> Result<()> {
        match answer {
            Answer::Submitted { batch, result, now } => self.submitted(batch, result, now)?,
            Answer::Claimed { ids, under, result } => {
                let lost = matches!(&result, Err(err) if err.is_commit_unknown());
                let event = match passable(result)? {
                    Ok(verdicts) => {
                        if let (Some(among), Some((_, lease))) = (&mut self.among, &under) {
                            among.keep_leases(lease, &verdicts);
                        }
                        Event::Claimed { ids, verdicts }
                    }
                    Err(_) => Event::ClaimFailed(ids),
                };
                self.feed(event);
                self.end_call(under.map(|(call, _)| call), lost);
                // What was cancelled before it was claimed is finished only now.
                self.tell_if_idle();
            }
            Answer::Settled(settlements, result) => {
                let event = match passable(result)? {
                    Ok(verdicts) => {
                        if let Some(among) = &mut self.among {
                            among.forget_leases(&settlements);
                        }
                        self.announce_settled(&settlements, &verdicts);
                        Event::Settled { settlements, verdicts }
                    }
                    Err(_) => Event::SettleFailed(settlements),
                };
                self.feed(event);
                self.tell_if_idle();
            }
            Answer::Cancelled(replies, result) => self.cancelled(replies, result)?,
            Answer::Changed { reply, result, moved } => {
                let result = passable(*result)?;
                if let Ok(Some(changed)) = &result {
                    self.changed(changed, moved);
                }
                let _ = reply.send(result);
            }
            Answer::QueueChanged(result) => self.queue_changed(passable(result)?),
            Answer::Reached(reply, result) => drop(reply.send(passable(result)?)),
            Answer::Due(result) => {
                self.feed(Event::Due(passable(result)?.ok()));
                self.tell_if_idle();
            }
            Answer::Lanes(result) => self.feed(Event::Lanes(passable(result)?.ok())),
            Answer::Ready(lane, limit, result) => {
                self.feed(Event::Ready { lane, limit, headers: passable(result)?.ok() });
                self.tell_if_idle();
            }
            Answer::Expired(result) => {
                let result = passable(result)?.map_err(drop);
                if let Ok(expired) = &result {
                    let at = self.shared.clock.now();
                    for (_, guid, lane, state) in &expired.ended {
                        self.shared.notify(Notice {
                            guid: *guid,
                            queue: lane.queue.clone(),
                            state: *state,
                            attempt: 0,
                            at,
                        });
                        self.shared.ended(*guid);
                    }
                }
                self.feed(Event::Expired(result.map(|expired| expired.next)));
                self.tell_if_idle();
            }
            Answer::Queues(result, changes) => self.queues_read(passable(result)?, changes),
            Answer::Mine(result) => self.strays_found(passable(result)?.ok()),
            Answer::StraysReleased(result) => self.strays_released(passable(result)?.ok()),
        }
        Ok(())
    }

    /// A job was rescheduled or resolved.
    fn changed(&mut self, changed: &Changed, moved: bool) {
        if !changed.applied {
            return;
        }
        if moved {
            self.tell(&changed.record, self.shared.clock.now());
        }
        match changed.header.clone() {
            Some(_) if mutated!(RescheduleNotTold) => {}
            Some(header) => self.feed(Event::Rescheduled { header, deadline: changed.record.expires_at }),
            None => self.shared.ended(changed.record.guid),
        }
    }

    /// The store has taken the first of the changes, or has not.
    fn queue_changed(&mut self, result: Result<()>) {
        let Some(change) = self.queue_changes.pop_front() else { return };
        if let Some(among) = &mut self.among {
            among.limits_change();
        }
        if result.is_ok() && !mutated!(LimitsNotTold) {
            let built = || self.shared.built_queues.get(&change.queue).copied();
            let limits = change.limits.or_else(built).unwrap_or_default();
            self.feed(Event::QueueLimits(change.queue, limits));
            // The others need not wait for their next look.
            self.among.iter().for_each(|among| among.fleet.hint());
        }
        let _ = change.reply.send(result);
        self.change_next_queue();
    }

    fn submitted(&mut self, batch: Submitted, result: Result<Vec<Inserted>>, now: Timestamp) -> Result<()> {
        let call = batch.under;
        let verdicts = match result {
            Ok(verdicts) => verdicts,
            Err(err) => {
                let lanes = batch.jobs.into_iter().filter(|(_, admitted)| *admitted);
                self.feed(Event::Withdrawn(lanes.map(|(job, _)| job.lane.clone()).collect()));
                let fatal = err.is_fatal().then(|| err.again());
                self.end_call(call, err.is_commit_unknown());
                match batch.replies {
                    Replies::Single { replies, room } => {
                        drop(room);
                        for reply in replies {
                            let _ = reply.send(Err(err.again()));
                        }
                    }
                    Replies::Batch { reply, .. } => drop(reply.send(Err(err))),
                }
                return fatal.map_or(Ok(()), Err);
            }
        };
        let mut pending = Vec::new();
        let mut claimed = Vec::new();
        let mut withdrawn = Vec::new();
        let mut deadline: Option<Timestamp> = None;
        let listened_to = self.shared.has_listeners();
        for ((job, admitted), verdict) in batch.jobs.iter().zip(&verdicts) {
            match verdict {
                Inserted::Created(id) => {
                    if listened_to {
                        self.notify(job, State::Pending, 0, job.queued_at);
                    }
                    if *admitted {
                        let claim = first_claim(*id, job, now);
                        if let Some(among) = &mut self.among {
                            among.keep_lease(&claim, &batch.lease);
                        }
                        claimed.push(Arc::new(claim));
                    } else {
                        deadline = deadline.into_iter().chain(job.expires_at).min();
                        pending.push(Header {
                            id: *id,
                            lane: job.lane.clone(),
                            priority: job.priority,
                            next_at: job.run_at,
                            alone: false,
                        });
                    }
                }
                _ if *admitted => withdrawn.push(job.lane.clone()),
                _ => {}
            }
        }
        // The submitters are told before their jobs start: the answer is on its way already.
        let durability = self.shared.store.durability();
        match batch.replies {
            Replies::Batch { reply, .. } => drop(reply.send(Ok(verdicts))),
            Replies::Single { replies, room } => {
                // Who has the answer may submit the next at once.
                drop(room);
                let answers = replies.into_iter().zip(&verdicts).zip(&batch.jobs);
                for ((reply, verdict), (job, admitted)) in answers {
                    let stored = |guid, created| Accepted { guid, created, durability };
                    let answer = match verdict {
                        Inserted::Created(_) => Ok(Stored {
                            accepted: stored(job.guid, true),
                            claimed: admitted.then(|| (batch.lease.node().clone(), now)),
                        }),
                        Inserted::Existing(guid) => {
                            Ok(Stored { accepted: stored(*guid, false), claimed: None })
                        }
                        // Its caller knows of no batch.
                        Inserted::Conflict(conflict) => Err(resolve::conflict(job.guid, conflict, None)),
                        Inserted::Skipped => Err(Error::invalid("another job of the batch conflicts")),
                    };
                    // A submitter that forgot its job is the ordinary case.
                    let _ = reply.send(answer);
                }
            }
        }
        if !withdrawn.is_empty() {
            self.feed(Event::Withdrawn(withdrawn));
        }
        if !claimed.is_empty() {
            self.feed(Event::InsertedClaimed(claimed));
        }
        if !pending.is_empty() {
            self.feed(Event::Inserted { pending, deadline });
        }
        self.end_call(call, false);
        Ok(())
    }

    fn announce_settled(&mut self, settlements: &[Settlement], verdicts: &[Settled]) {
        let now = self.shared.clock.now();
        let listened_to = self.shared.has_listeners();
        for (settlement, verdict) in settlements.iter().zip(verdicts) {
            let Some(live) = self.live.remove(&settlement.id) else { continue };
            let claimed = &live.claimed;
            if verdict.applied {
                if listened_to {
                    self.notify(&claimed.job, verdict.state, claimed.attempt, now);
                }
                self.observe(&live, settlement, verdict.state);
            } else if self.among.is_some() {
                // Taken back by another node meanwhile, or stored by a write whose answer was lost.
                tracing::info!(guid = %claimed.job.guid, fence = claimed.fence, state = %verdict.state,
                    "an outcome was not stored: the job's row had moved on");
            } else {
                tracing::warn!(guid = %claimed.job.guid, fence = claimed.fence, state = %verdict.state,
                    "an outcome came too late and was not stored");
            }
            if verdict.state.is_final() {
                self.shared.ended(claimed.job.guid);
            }
        }
    }

    fn observe(&self, live: &Live, settlement: &Settlement, state: State) {
        let Some(observer) = &self.shared.observer else { return };
        let (claimed, begun) = (&live.claimed, settlement.begun);
        let ready_at = claimed.run_at.max(claimed.job.queued_at);
        let started_at = match settlement.outcome {
            Outcome::Started { started_at, .. } => Some(started_at),
            _ => None,
        };
        observer.attempt_ended(&AttemptSeen {
            lane: &claimed.job.lane,
            state,
            failure: settlement.outcome.error().map(|error| error.class),
            wait: begun
                .filter(|_| claimed.attempt == 1)
                .map(|begun| begun.starting_at.saturating_since(ready_at)),
            took: started_at
                .zip(begun)
                .map(|(started_at, begun)| started_at.saturating_since(begun.starting_at)),
        });
    }

    fn cancelled(&mut self, cancellers: Cancellers, result: Result<Vec<CancelVerdict>>) -> Result<()> {
        match passable(result)? {
            Err(err) => {
                for (_, reply) in cancellers {
                    let _ = reply.send(Err(err.again()));
                }
            }
            Ok(verdicts) => {
                for verdict in &verdicts {
                    if let CancelVerdict::Cancelled { id: Some(_), record } = verdict {
                        self.tell(record, record.ended_at.unwrap_or(record.queued_at));
                        self.shared.ended(record.guid);
                    }
                }
                let mut verdicts = verdicts.into_iter();
                for (count, reply) in cancellers {
                    let _ = reply.send(Ok(verdicts.by_ref().take(count).collect()));
                }
                self.tell_if_idle();
            }
        }
        Ok(())
    }

    /// Tells listeners where this job stands since `at`.
    fn tell(&self, record: &JobRecord, at: Timestamp) {
        if self.shared.has_listeners() {
            self.shared.notify(Notice::of(record, at));
        }
    }
}

/// Lets errors pass that the engine can live with.
fn passable<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(err) if err.is_fatal() => Err(err),
        Err(err) => {
            tracing::warn!(error = %err, "the store failed; trying again");
            Ok(Err(err))
        }
        ok => Ok(ok),
    }
}

fn first_claim(id: JobId, job: &Arc<Job>, now: Timestamp) -> Claimed {
    Claimed { id, job: job.clone(), fence: 1, attempt: 1, claimed_at: now, run_at: job.run_at, crashes: 0 }
}
