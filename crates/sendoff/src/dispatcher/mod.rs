//! Layer 3: decides what is claimed and started when. Pure: no I/O, no clock, no tasks; the same
//! events at the same instants give the same actions. It names no starter and no store.

mod board;
mod event;
mod fleet;
mod gate;
mod limits;
mod outcome;
#[cfg(test)]
mod tests;
mod window;
#[cfg(test)]
mod world;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

#[cfg(any(test, feature = "testing"))]
pub(crate) use limits::RateState;

pub(crate) use board::StarterLimits;
pub(crate) use event::{Action, AttemptEnd, Event, Now, Verdict};
pub(crate) use fleet::Sharing;
pub(crate) use limits::Limits;
pub(crate) use outcome::Backoff;

use crate::{
    job::{ById, Header, JobId, Lane},
    ports::{Claimed, Settled, Settlement, StartError, StartErrorClass, Wanted},
    state::{Outcome, POISON_CRASHES, State},
    time::Timestamp,
};
use board::{Board, LaneKey, Load};
use fleet::Others;
use window::{Ask, Window};

/// The wait after a store failed to do what was asked, doubled each time in a row.
const STORE_PAUSE: Duration = Duration::from_millis(50);
const STORE_PAUSE_MAX: Duration = Duration::from_secs(5);
/// A queue whose limits in the fleet are used up rests at least so long.
const HELD_MIN: Duration = Duration::from_millis(2);
/// Pending jobs past their deadline that are ended at once.
const EXPIRE_ROWS: usize = 1_000;

#[derive(Debug)]
struct InFlight {
    lane: LaneKey,
    claimed: Arc<Claimed>,
    /// It is with its starter, or was; else it is held until there is a place for it.
    handed_over: bool,
    /// The attempt has ended and its outcome is on its way to the store.
    ended: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    board: Board,
    window: Window,
    /// What is being claimed, to be put back if that fails.
    claiming: ById<(LaneKey, Header)>,
    /// Of those claiming or in flight, the ones that were found due once more meanwhile: perhaps
    /// rescheduled before the claim. If that was why the claim was lost, this is all that is known.
    again: BTreeMap<JobId, Header>,
    in_flight: ById<InFlight>,
    /// Due jobs that must be started with nothing else in flight.
    alone: BTreeMap<JobId, Header>,
    alone_in_flight: Option<JobId>,
    /// The other nodes, in a fleet.
    others: Option<Others>,
    /// Outcomes that the store did not take yet.
    unsettled: Vec<Settlement>,
    store_failures: u32,
    store_retry_at: Option<Duration>,
    /// The earliest deadline of a pending job, as far as known.
    next_deadline: Option<Timestamp>,
    expiring: bool,
    stopping: bool,
    /// The latest that the wall clock was seen to be; it may have stepped back since.
    latest: Timestamp,
    random: fastrand::Rng,
}

impl Dispatcher {
    pub(crate) fn new(limits: Limits, starters: &[StarterLimits], seed: u64) -> Self {
        Self {
            board: Board::new(limits, starters),
            window: Window::new(),
            claiming: ById::default(),
            again: BTreeMap::new(),
            in_flight: ById::default(),
            alone: BTreeMap::new(),
            alone_in_flight: None,
            others: None,
            unsettled: Vec::new(),
            store_failures: 0,
            store_retry_at: None,
            // Deadlines may have passed while nobody looked.
            next_deadline: Some(Timestamp::MIN),
            expiring: false,
            stopping: false,
            latest: Timestamp::MIN,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes the permits for a job that is about to be submitted, if it may start at once: it is
    /// due and nothing waits before it. Answered by [`Event::InsertedClaimed`] or
    /// [`Event::Withdrawn`].
    pub(crate) fn admit(
        &mut self,
        now: Now,
        lane: &Arc<Lane>,
        run_at: Timestamp,
        deadline: Option<Timestamp>,
    ) -> bool {
        let due = run_at <= now.wall && deadline.is_none_or(|deadline| now.wall < deadline);
        let free = !self.stopping && self.alone.is_empty() && self.alone_in_flight.is_none();
        let known = !self.window.is_listing() && self.store_retry_at.is_none();
        due && free && known && self.may_admit(&lane.queue) && self.board.admit(lane, now.elapsed)
    }

    /// Takes note of an event and says what to do.
    pub(crate) fn handle(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.latest = self.latest.max(now.wall);
        self.take_note(now, event, &mut actions);
        self.board.tick(now.elapsed);
        self.take_held(now, &mut actions);
        if self.stopping {
            self.retry_settle(now, &mut actions);
            self.hint(&mut actions);
            return actions;
        }
        while let Some(header) = self.window.pop_due(now.wall) {
            self.due(now, header);
        }
        self.retry_settle(now, &mut actions);
        if self.store_retry_at.is_none_or(|at| at <= now.elapsed) {
            self.store_retry_at = None;
            self.claim(now, &mut actions);
            self.ask(now, &mut actions);
        }
        self.hint(&mut actions);
        actions
    }

    /// When to come back with [`Event::Tick`] if nothing else happens.
    pub(crate) fn next_wake(&self, now: Now) -> Option<Timestamp> {
        // Rounded up: an alarm that rings a little too early would ring again at once.
        let round = Duration::from_nanos(if mutated!(AlarmTooEarly) { 0 } else { 999 });
        let later = |at: Duration| now.wall.saturating_add(at.saturating_sub(now.elapsed) + round);
        if self.stopping {
            // Nothing but outcomes goes to the store any more.
            return self.store_retry_at.filter(|_| !self.unsettled.is_empty()).map(later);
        }
        if let Some(at) = self.store_retry_at {
            // Whatever else is due needs the store.
            return Some(later(at));
        }
        let deadline = self.next_deadline.filter(|_| !self.expiring);
        let due = self.window.next_due().into_iter().chain(deadline);
        let look = self.others.as_ref().map(|others| later(others.next_look()));
        due.chain(self.board.next_wake().map(later)).chain(look).min()
    }

    /// Claims under way and attempts whose outcome is not stored yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.board.in_flight()
    }

    /// Whether nothing is known to be pending or in flight, and all that is stored was looked at.
    pub(crate) fn is_blank(&self) -> bool {
        self.is_drained() && self.alone.is_empty() && self.window.is_blank() && self.board.is_blank()
    }

    /// Whether no attempt is under way and every outcome is stored.
    pub(crate) fn is_drained(&self) -> bool {
        self.claiming.is_empty() && self.in_flight.is_empty()
    }

    fn take_note(&mut self, now: Now, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Inserted { pending, deadline } => {
                self.note_deadline(deadline);
                for header in pending {
                    self.offer(now, &header);
                    if let Some(header) = self.window.add_or_pass(header, now.wall) {
                        self.due(now, header);
                    }
                }
            }
            Event::InsertedClaimed(claims) => {
                actions.reserve(claims.len());
                for claimed in claims {
                    let lane = self.board.lane_key(&claimed.job.lane);
                    self.start(now, lane, claimed, actions);
                }
            }
            Event::Withdrawn(_) if mutated!(WithdrawnKeepsPermits) => {}
            Event::Withdrawn(lanes) => {
                for lane in lanes {
                    let key = self.board.lane_key(&lane);
                    self.board.withdrawn(key, false, now.elapsed);
                }
            }
            Event::Claimed { ids, verdicts } => {
                self.store_failures = 0;
                actions.reserve(ids.len());
                for (id, verdict) in ids.into_iter().zip(verdicts) {
                    self.claimed(now, id, verdict, actions);
                }
            }
            Event::ClaimFailed(ids) => {
                self.store_failed(now);
                for id in ids {
                    let Some((lane, header)) = self.claiming.remove(&id) else { continue };
                    self.board.answered(lane, id, now.elapsed);
                    self.board.withdrawn(lane, true, now.elapsed);
                    self.alone_in_flight.take_if(|alone| *alone == id);
                    if mutated!(FailedClaimForgotten) {
                        continue;
                    }
                    self.due(now, header);
                    if let Some(header) = self.again.remove(&id) {
                        self.due(now, header);
                    }
                }
            }
            Event::Ended(ends) => self.ended(now, ends, actions),
            Event::Settled { settlements, verdicts } => {
                self.store_failures = 0;
                for (settlement, verdict) in settlements.iter().zip(verdicts) {
                    self.settled(now, settlement, verdict, actions);
                }
            }
            Event::SettleFailed(settlements) => {
                self.store_failed(now);
                if mutated!(OutcomeNotRetried) {
                    return;
                }
                self.unsettled.extend(settlements);
            }
            Event::Rescheduled { header, deadline } => {
                self.note_deadline(deadline);
                self.offer(now, &header);
                self.window.add(header);
            }
            Event::Due(headers) => match headers {
                Some(headers) => self.window.scanned(headers, now.wall),
                None => {
                    self.window.scan_failed();
                    self.store_failed(now);
                }
            },
            Event::Lanes(lanes) => match lanes {
                Some(lanes) => {
                    for lane in &lanes {
                        if self.board.knows(lane) {
                            self.board.mark_truncated(lane);
                        }
                    }
                    self.window.listed(&lanes);
                }
                None => {
                    self.window.list_failed();
                    self.store_failed(now);
                }
            },
            Event::Ready { lane, limit, headers } => match headers {
                Some(headers) => self.refilled(now, &lane, limit, headers),
                None => {
                    self.board.refill_failed(&lane);
                    self.store_failed(now);
                }
            },
            Event::Expired(answer) => {
                self.expiring = false;
                match answer {
                    Ok(next) => self.note_deadline(next),
                    Err(()) => {
                        self.note_deadline(Some(now.wall));
                        self.store_failed(now);
                    }
                }
            }
            Event::RunEnded(_) if mutated!(RunEndForgotten) => {}
            Event::RunEnded(starter) => self.board.run_ended(&starter, true, now.elapsed),
            Event::QueueLimits(queue, limits) => {
                self.board.set_queue_limits(&queue, limits, now.elapsed);
            }
            Event::Woken { reconnected } => {
                if reconnected {
                    self.store_failures = 0;
                    self.store_retry_at = None;
                }
                self.look_at_once(now);
            }
            Event::QueuesRead(read) => {
                self.queues_read();
                if !read {
                    self.store_failed(now);
                }
            }
            Event::MaxInFlight(starts) => self.board.set_max_in_flight(starts),
            Event::Tick => {}
            Event::Stop => {
                self.stopping = true;
                self.board.stop_holding();
            }
        }
    }

    fn note_deadline(&mut self, deadline: Option<Timestamp>) {
        self.next_deadline = self.next_deadline.into_iter().chain(deadline).min();
    }

    fn due(&mut self, now: Now, header: Header) {
        if !self.board.knows(&header.lane) {
            // This program lacks the starter; the job waits for one that has it.
        } else if header.next_at > now.wall {
            // The wall clock stepped back.
            if mutated!(StepBackForgets) {
                return;
            }
            self.window.add(header);
        } else if header.alone && !mutated!(PoisonNotAlone) {
            self.alone.insert(header.id, header);
        } else {
            self.board.push(&header);
        }
    }

    fn refilled(&mut self, now: Now, lane: &Arc<Lane>, limit: usize, headers: Vec<Header>) {
        let complete = headers.len() < limit;
        let mut ranks = Vec::with_capacity(headers.len());
        for header in headers {
            if header.next_at > now.wall {
                // It was due before the wall clock stepped back; no scan would find it.
                self.window.add(header);
            } else if self.is_taken(header.id) {
                self.found_again(header);
            } else if header.alone {
                self.alone.insert(header.id, header);
            } else {
                ranks.push(board::rank(&header));
            }
        }
        self.board.refilled(lane, ranks, complete);
    }

    /// Found due while it is claiming or in flight. Of several times the earliest is kept: after the
    /// wall clock stepped back a later one may not have come yet.
    fn found_again(&mut self, header: Header) {
        match self.again.get_mut(&header.id) {
            Some(known) if known.next_at <= header.next_at => {}
            Some(known) => *known = header,
            None => drop(self.again.insert(header.id, header)),
        }
    }

    fn is_taken(&self, id: JobId) -> bool {
        self.claiming.contains_key(&id) || self.in_flight.contains_key(&id)
    }

    fn claimed(&mut self, now: Now, id: JobId, verdict: Verdict, actions: &mut Vec<Action>) {
        let Some((lane, header)) = self.claiming.remove(&id) else { return };
        self.board.answered(lane, id, now.elapsed);
        let got = match verdict {
            Verdict::Claimed(claimed) => {
                let got = claimed.id;
                self.board.claimed(lane);
                self.start(now, lane, claimed, actions);
                Some(got)
            }
            // Cancelled, expired, rescheduled or taken meanwhile.
            Verdict::Lost if mutated!(LostClaimKeepsPermits) => None,
            Verdict::Lost => {
                self.board.withdrawn(lane, true, now.elapsed);
                None
            }
            Verdict::Held(retry) => {
                self.board.hold(&header.lane.queue, now.elapsed + retry.max(HELD_MIN));
                self.board.withdrawn(lane, true, now.elapsed);
                self.due(now, header);
                None
            }
        };
        if got != Some(id) {
            self.alone_in_flight.take_if(|alone| *alone == id);
            if let Some(header) = self.again.remove(&id) {
                self.due(now, header);
            }
        }
    }

    fn start(&mut self, now: Now, lane: LaneKey, claimed: Arc<Claimed>, actions: &mut Vec<Action>) {
        let Some((lane, claimed)) = self.defer(now, lane, claimed) else { return };
        let id = claimed.id;
        let alone = self.must_be_alone(&claimed);
        let handed_over = !alone && self.board.hand_over_or_hold(lane, id, now.elapsed);
        if handed_over {
            actions.push(Action::Start(claimed.clone()));
        }
        self.in_flight.insert(id, InFlight { lane, claimed, handed_over, ended: false });
        if alone {
            self.give_back(now, id, "it must start with nothing else in flight", actions);
        }
    }

    /// Goes on with claimed jobs that were held.
    fn take_held(&mut self, now: Now, actions: &mut Vec<Action>) {
        for id in self.board.take_overdue(now.elapsed) {
            self.give_back(now, id, "no place became free for it", actions);
        }
        for id in self.board.take_handed_over() {
            let Some(attempt) = self.in_flight.get_mut(&id) else { continue };
            attempt.handed_over = true;
            actions.push(Action::Start(attempt.claimed.clone()));
        }
    }

    /// Ends an attempt that was not handed over.
    fn give_back(&mut self, now: Now, id: JobId, why: &str, actions: &mut Vec<Action>) {
        let Some(attempt) = self.in_flight.get(&id) else { return };
        let starter = attempt.claimed.job.lane.starter.clone();
        let error = StartError::new(StartErrorClass::Released, why);
        let end = AttemptEnd { id, begun: None, result: Err(error), backoff: Backoff::default() };
        self.ended(now, vec![end], actions);
        self.board.run_ended(&starter, false, now.elapsed);
    }

    fn ended(&mut self, now: Now, ends: Vec<AttemptEnd>, actions: &mut Vec<Action>) {
        let mut settlements = Vec::with_capacity(ends.len());
        for AttemptEnd { id, begun, result, backoff } in ends {
            let Some(attempt) = self.in_flight.get_mut(&id).filter(|attempt| !attempt.ended) else {
                continue;
            };
            attempt.ended = true;
            let pressure = matches!(&result, Err(error) if error.class == StartErrorClass::Pressure);
            let load = match (attempt.handed_over, pressure) {
                (false, _) => Load::None,
                (true, true) => Load::Pressure,
                (true, false) => Load::Normal,
            };
            let ended_at = begun.map_or(now.wall, |(_, ended_at)| ended_at);
            let outcome =
                outcome::decide(&attempt.claimed, result, ended_at, backoff, now.wall, &mut self.random);
            let begun = begun.map(|(begun, _)| begun);
            settlements.push(Settlement { id, fence: attempt.claimed.fence, begun, outcome });
            let lane = attempt.lane;
            self.board.attempt_over(lane, load, now.elapsed);
        }
        if !settlements.is_empty() {
            actions.push(Action::Settle(settlements));
        }
    }

    fn settled(&mut self, now: Now, settlement: &Settlement, verdict: Settled, actions: &mut Vec<Action>) {
        let Some(attempt) = self.in_flight.remove(&settlement.id) else { return };
        self.board.settled();
        self.board.unhold(&attempt.claimed.job.lane.queue);
        if let Some((lane, claimed)) = self.take_deferred(settlement.id) {
            return self.start(now, lane, claimed, actions);
        }
        self.alone_in_flight.take_if(|alone| *alone == settlement.id);
        let again = self.again.remove(&settlement.id);
        let claimed = &attempt.claimed;
        let next_at = match &settlement.outcome {
            Outcome::Retry { next_at, .. } | Outcome::Released { next_at, .. } => *next_at,
            _ => return,
        };
        // Also if it was settled before, by a write whose answer was lost.
        if verdict.state == State::Pending {
            again.into_iter().for_each(|header| self.window.add(header));
            self.note_deadline(claimed.job.expires_at);
            let header = Header {
                id: settlement.id,
                lane: claimed.job.lane.clone(),
                priority: claimed.job.priority,
                next_at,
                alone: claimed.crashes >= POISON_CRASHES
                    && matches!(settlement.outcome, Outcome::Released { .. }),
            };
            self.offer(now, &header);
            self.window.add(header);
        }
    }

    fn store_failed(&mut self, now: Now) {
        let pause = STORE_PAUSE * 2_u32.saturating_pow(self.store_failures.min(16));
        self.store_failures = self.store_failures.saturating_add(1);
        self.store_retry_at = Some(now.elapsed + pause.min(STORE_PAUSE_MAX));
    }

    fn retry_settle(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.unsettled.is_empty() && self.store_retry_at.is_none_or(|at| at <= now.elapsed) {
            self.store_retry_at = None;
            actions.push(Action::Settle(std::mem::take(&mut self.unsettled)));
        }
    }

    fn claim(&mut self, now: Now, actions: &mut Vec<Action>) {
        let mut wanted = Vec::new();
        let Self { alone, window, .. } = self;
        alone.retain(|_, header| {
            // The wall clock stepped back: it is not due yet after all.
            let due = header.next_at <= now.wall;
            if !due {
                window.add(header.clone());
            }
            due
        });
        if self.alone_in_flight.is_none() {
            if let Some(header) = self.next_alone(now) {
                // It waits until nothing else is in flight; meanwhile nothing else is claimed.
                if self.board.in_flight() == 0 && !self.board.is_resting(&header.lane, now.elapsed) {
                    self.alone.remove(&header.id);
                    self.alone_in_flight = Some(header.id);
                    let lane = self.board.take_alone(&header.lane, now.elapsed);
                    wanted.push(Wanted { id: header.id, lane: header.lane.clone(), only: true });
                    self.claiming.insert(header.id, (lane, header));
                }
            } else {
                while let Some((lane, (priority, next_at, id))) = self.board.pick(now.elapsed) {
                    // A job may be listed twice; one claim of it at a time is enough.
                    let header = Header {
                        id,
                        lane: self.board.lane(lane).clone(),
                        priority: priority.0,
                        next_at,
                        alone: false,
                    };
                    if next_at > now.wall {
                        self.board.withdrawn(lane, true, now.elapsed);
                        self.window.add(header);
                        continue;
                    }
                    if self.is_taken(id) {
                        self.board.withdrawn(lane, true, now.elapsed);
                        self.found_again(header);
                        continue;
                    }
                    self.board.asked(lane, id);
                    wanted.push(Wanted { id, lane: header.lane.clone(), only: false });
                    self.claiming.insert(id, (lane, header));
                }
            }
        }
        if !wanted.is_empty() {
            actions.push(Action::Claim(wanted));
        }
    }

    fn next_alone(&self, now: Now) -> Option<Header> {
        let may = |queue: &str| !self.board.is_paused(queue) && !self.board.is_held(queue, now.elapsed);
        self.alone.values().find(|header| may(&header.lane.queue)).cloned()
    }

    fn ask(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.look_for_others(now, actions);
        if let Some(ask) = self.window.ask(now.wall) {
            actions.push(match ask {
                Ask::Due { after, until, limit } => Action::Due { after, until, limit },
                Ask::Lanes { after, limit } => Action::Lanes { after, limit },
            });
        }
        for (lane, limit) in self.board.take_short() {
            actions.push(Action::Ready { until: self.latest, limit: limit + self.alone.len(), lane });
        }
        if !self.expiring && self.next_deadline.is_some_and(|deadline| deadline <= now.wall) {
            self.expiring = true;
            self.next_deadline = None;
            actions.push(Action::Expire { limit: EXPIRE_ROWS });
        }
    }
}
