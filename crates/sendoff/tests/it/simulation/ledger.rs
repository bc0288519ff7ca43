//! What happened in the world, kept outside of the nodes: claims as the store made them, attempts as
//! the targets saw them, answers as the clients got them. What must never be is noticed at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use sendoff::{
    Delivery, Guid, JobId, State,
    ports::{CancelVerdict, Claimed, Lease, Settlement},
    state::{Outcome, POISON_CRASHES},
};

use super::life::{Base, Life};

/// A job as its client made it.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) delivery: Delivery,
    pub(super) max_attempts: u32,
    pub(super) starter: String,
    pub(super) to: Option<&'static str>,
    pub(super) queue: &'static str,
}

/// A claim, as the store made it.
pub(super) struct Claim {
    guid: Guid,
    fence: u32,
    attempt: u32,
    crashes: u32,
    life: Arc<Life>,
    lease: Option<Arc<Lease>>,
    started: bool,
    /// How many changes of limits were known when it was asked for.
    limits: usize,
}

/// What an attempt told its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing yet.
    Open,
    Started,
    /// The target certainly did not start.
    Not,
    /// Resources were short, or it was not let in: it did not begin.
    Released,
    /// Perhaps; or the attempt was dropped, or panicked, or took too long.
    Perhaps,
}

/// An attempt, as its target saw it.
pub(super) struct Try {
    guid: Guid,
    claim: usize,
    pub(super) begun: bool,
    /// Whether the target started, if it begins.
    starts: bool,
    told: Told,
    /// The engine may give it up from here on.
    times_out: Option<Duration>,
}

impl Try {
    fn told(&self, now: Duration) -> Told {
        match self.told {
            told @ (Told::Open | Told::Started) if self.times_out.is_some_and(|at| at <= now) => {
                if told == Told::Open { Told::Perhaps } else { told }
            }
            told => told,
        }
    }
}

/// What the clients know of a cancel.
#[derive(Debug, Clone, Copy)]
struct Cancelled {
    /// Claims made until then.
    claims: usize,
    maybe_started: bool,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) made: BTreeMap<Guid, Made>,
    pub(super) acknowledged: BTreeMap<Guid, Duration>,
    pub(super) keys: BTreeMap<String, Guid>,
    pub(super) batches: Vec<Vec<Guid>>,
    claims: Vec<Claim>,
    by_guid: BTreeMap<Guid, Vec<usize>>,
    rows: BTreeMap<JobId, Guid>,
    pub(super) tries: Vec<Try>,
    /// Those that have told nothing yet.
    open: BTreeSet<usize>,
    tries_of: BTreeMap<Guid, Vec<usize>>,
    cancelled: BTreeMap<Guid, Cancelled>,
    /// A cancel came too late: there are no claims after so many.
    late: BTreeMap<Guid, usize>,
    /// Jobs that an operator let start again, or said to have started, how often.
    pub(super) resolved: BTreeMap<Guid, u32>,
    outcomes: BTreeMap<(JobId, u32), u32>,
    pub(super) finals: BTreeMap<Guid, State>,
    /// Changes of queues' limits of starts in flight, as far as it is certain what is in force.
    limits: Vec<(&'static str, Option<usize>)>,
    /// Such changes that may come into force any time.
    changing: BTreeMap<&'static str, usize>,
    /// What is wrong, first of all.
    pub(super) wrong: Option<String>,
    shown: bool,
}

impl Ledger {
    pub(super) fn new(shown: bool) -> Self {
        Self { shown, ..Self::default() }
    }

    pub(super) fn wrong(&mut self, what: String) {
        if self.shown {
            eprintln!("WRONG: {what}");
        }
        self.wrong.get_or_insert(what);
    }

    fn claims_of(&self, guid: Guid) -> impl Iterator<Item = &Claim> {
        self.by_guid.get(&guid).into_iter().flatten().map(|claim| &self.claims[*claim])
    }

    pub(super) fn tries_of(&self, guid: Guid) -> impl Iterator<Item = &Try> {
        self.tries_of.get(&guid).into_iter().flatten().map(|attempt| &self.tries[*attempt])
    }

    /// The store made a claim for this node.
    pub(super) fn claimed(
        &mut self,
        life: &Arc<Life>,
        lease: Option<Arc<Lease>>,
        claimed: &Claimed,
        limits: usize,
    ) {
        let guid = claimed.job.guid;
        self.rows.insert(claimed.id, guid);
        if self.late.contains_key(&guid) {
            self.wrong(format!("T8: {guid} is claimed again after a cancel had come too late for it"));
        }
        self.by_guid.entry(guid).or_default().push(self.claims.len());
        self.claims.push(Claim {
            guid,
            fence: claimed.fence,
            attempt: claimed.attempt,
            crashes: claimed.crashes,
            life: life.clone(),
            lease,
            started: false,
            limits,
        });
    }

    /// The store wrote an outcome.
    pub(super) fn settled(&mut self, life: &Life, settlement: &Settlement) {
        let key = (settlement.id, settlement.fence);
        let by = *self.outcomes.entry(key).or_insert(life.number);
        if by != life.number && !matches!(settlement.outcome, Outcome::Released { .. }) {
            let guid = self.rows.get(&settlement.id);
            self.wrong(format!("I11: n{by} and {life} wrote outcomes of {guid:?} under fence {}", key.1));
        }
    }

    /// An attempt reaches its starter; its number here, and whether the row is poison.
    pub(super) fn tried(&mut self, life: &Arc<Life>, guid: Guid, number: u32, starts: bool) -> usize {
        let mine = self.by_guid.get(&guid).into_iter().flatten().rev().copied();
        let mut mine = mine.filter(|claim| {
            let claim = &self.claims[*claim];
            Arc::ptr_eq(&claim.life, life) && claim.attempt == number && !claim.started
        });
        let Some(claim) = mine.next() else {
            self.wrong(format!("{life} starts {guid}, attempt {number}, without a claim"));
            // Anything, so that the run can end.
            return self.push(guid, 0, starts);
        };
        self.claims[claim].started = true;
        self.check_limits(life, claim);
        let made = &self.made[&guid];
        let allowed = made.max_attempts + self.resolved.get(&guid).copied().unwrap_or(0);
        if number > allowed {
            self.wrong(format!("{guid} has attempt {number} of {allowed}"));
        }
        self.push(guid, claim, starts)
    }

    fn push(&mut self, guid: Guid, claim: usize, starts: bool) -> usize {
        self.tries_of.entry(guid).or_default().push(self.tries.len());
        self.open.insert(self.tries.len());
        self.tries.push(Try { guid, claim, begun: false, starts, told: Told::Open, times_out: None });
        self.tries.len() - 1
    }

    pub(super) fn times_out(&mut self, attempt: usize, at: Duration) {
        self.tries[attempt].times_out = Some(at);
    }

    /// What may be under way at once in a node.
    fn check_limits(&mut self, life: &Arc<Life>, new: usize) {
        let now = life.world.wall.elapsed();
        let claim = &self.claims[new];
        let made = &self.made[&claim.guid];
        let (mut all, mut there, mut poison, mut same) = (1, 1, false, false);
        let mut in_queue = 1;
        let known = self.limits[..claim.limits].iter().rposition(|(queue, _)| *queue == made.queue);
        let known = known.filter(|_| matches!(life.base, Base::Alone(_)));
        for other in self.open.iter().map(|other| &self.tries[*other]) {
            let of = &self.claims[other.claim];
            if other.told(now) != Told::Open || !Arc::ptr_eq(&of.life, life) {
                continue;
            }
            all += 1;
            same |= other.guid == claim.guid;
            poison |= of.crashes >= POISON_CRASHES;
            let of_made = &self.made[&other.guid];
            let same_place = of_made.to == made.to && of_made.starter == made.starter;
            there += usize::from(made.to.is_some() && same_place);
            in_queue += usize::from(of_made.queue == made.queue && known < Some(of.limits));
        }
        let guid = claim.guid;
        let limit = known.and_then(|known| self.limits[known].1);
        if same {
            self.wrong(format!("{life} makes two attempts of {guid} at once"));
        } else if all > life.max_in_flight {
            self.wrong(format!("{life} has {all} starts in flight, of {}", life.max_in_flight));
        } else if there > super::starter::TO_ONE_DESTINATION {
            self.wrong(format!("{life} has {there} starts to one destination"));
        } else if all > 1 && (poison || claim.crashes >= POISON_CRASHES) {
            self.wrong(format!("{life} starts {guid} beside others, though one of them crashed it twice"));
        } else if limit.is_some_and(|limit| in_queue > limit) {
            self.wrong(format!("{life} has {in_queue} starts in flight in {}, of {limit:?}", made.queue));
        }
    }

    /// An attempt was let in: whether that may be.
    pub(super) fn begun(&mut self, life: &Arc<Life>, attempt: usize) {
        let now = life.world.wall.elapsed();
        self.tries[attempt].begun = true;
        let Try { guid, claim, .. } = self.tries[attempt];
        let Claim { fence, lease, .. } = &self.claims[claim];
        let fence = *fence;
        let fault = if let Some(lease) = lease
            && !(life.world.is_registered(lease.node()) && lease.holds(now))
        {
            Some("begins although the lease of its node has run out".to_owned())
        } else if life.stopping.lock().unwrap().is_some_and(|since| since < now) {
            Some("begins although its node is stopping".to_owned())
        } else {
            match life.world.record(guid) {
                None => Some("I1: begins and there is no such job".to_owned()),
                Some(record) if record.state != State::Starting || record.fence != fence => {
                    Some(format!("begins under fence {fence} and is {} under {}", record.state, record.fence))
                }
                Some(record) if record.expires_at.is_some_and(|at| at <= life.world.wall.now()) => {
                    Some("I8: begins after its deadline".to_owned())
                }
                Some(_) => self.doubled(now, attempt),
            }
        };
        let fault = fault.or_else(|| {
            let cancelled = self.cancelled.get(&guid)?;
            let before = cancelled.maybe_started && claim < cancelled.claims;
            (!before).then(|| "I5: begins after it was cancelled".to_owned())
        });
        if let Some(fault) = fault {
            self.wrong(format!("{guid} {fault} ({life})"));
        }
    }

    /// Whether an earlier attempt forbids this one.
    fn doubled(&self, now: Duration, attempt: usize) -> Option<String> {
        let guid = self.tries[attempt].guid;
        let resolved = self.resolved.get(&guid).copied().unwrap_or(0) as usize;
        let earlier = || {
            let tries = self.tries_of.get(&guid).into_iter().flatten();
            tries.filter(|other| **other != attempt).map(|other| &self.tries[*other])
        };
        let perhaps = earlier().filter(|other| other.begun && other.told != Told::Not).count();
        if self.made[&guid].delivery == Delivery::AtMostOnce && perhaps > resolved {
            return Some(format!("I3: begins again, {perhaps} attempts after it may have started"));
        }
        let known = |other: &&Try| {
            let claim = &self.claims[other.claim];
            let sound = match &claim.lease {
                Some(lease) => claim.life.world.is_registered(lease.node()),
                None => true,
            };
            let told = other.told(now);
            other.begun && matches!(told, Told::Started | Told::Open) && sound && !claim.life.is_dead()
        };
        let known = earlier().filter(known).count();
        (known > resolved).then(|| "I2: begins again although it has started or is about to".to_owned())
    }

    pub(super) fn told(&mut self, attempt: usize, told: Told, now: Duration) {
        self.open.remove(&attempt);
        let attempt = &mut self.tries[attempt];
        let late = attempt.times_out.is_some_and(|at| at <= now);
        // Nobody listened any more, not even with a timer that is a little late.
        let too_late = attempt.times_out.is_some_and(|at| at + Duration::from_millis(2) <= now);
        attempt.told = match told {
            Told::Started if late => Told::Perhaps,
            // It was given up before it began, which counts.
            Told::Released if late => Told::Not,
            Told::Not if too_late && attempt.begun => Told::Perhaps,
            told => told,
        };
    }

    pub(super) fn cancel_answered(&mut self, guid: Guid, verdict: &CancelVerdict) {
        match verdict {
            CancelVerdict::Cancelled { record, .. } => {
                let maybe_started = record.possible_duplicate;
                if record.state != State::Cancelled {
                    self.wrong(format!("{guid} was cancelled and is {}", record.state));
                }
                let claims = self.claims.len();
                self.cancelled.entry(guid).or_insert(Cancelled { claims, maybe_started });
            }
            CancelVerdict::TooLate(record) => {
                if record.state == State::Pending || record.state == State::Cancelled {
                    self.wrong(format!("I6: a cancel of {guid} came too late while it was {}", record.state));
                }
                // An operator may let it start again.
                if record.state == State::Starting {
                    self.late.entry(guid).or_insert(self.claims.len());
                }
            }
            CancelVerdict::NotFound => {
                if self.acknowledged.contains_key(&guid) {
                    self.wrong(format!("I1: {guid} was acknowledged, and a cancel does not find it"));
                }
            }
        }
    }

    pub(super) fn resolved(&mut self, guid: Guid) {
        *self.resolved.entry(guid).or_default() += 1;
        self.finals.remove(&guid);
        self.late.remove(&guid);
    }

    /// How many changes of limits are known.
    pub(super) fn limits(&self) -> usize {
        self.limits.len()
    }

    /// Somebody asks for other limits.
    pub(super) fn limit_changes(&mut self, queue: &'static str) {
        *self.changing.entry(queue).or_default() += 1;
        self.limits.push((queue, None));
    }

    /// These are in force, if no others may be.
    pub(super) fn limit_changed(&mut self, queue: &'static str, max: Option<usize>) {
        let changing = self.changing.entry(queue).or_default();
        *changing -= 1;
        let max = max.filter(|_| *changing == 0);
        self.limits.push((queue, max));
    }

    /// Whether something came in between that makes it uncertain what became of this job.
    pub(super) fn has_doubts(&self, guid: Guid, now: Duration) -> bool {
        let doubtful = |claim: &Claim| {
            let lost =
                claim.lease.as_ref().is_some_and(|lease| !claim.life.world.is_registered(lease.node()));
            lost || claim.life.is_dead()
        };
        self.claims_of(guid).any(doubtful)
            || self.tries_of(guid).any(|attempt| attempt.told(now) == Told::Perhaps)
    }

    /// Attempts that count, as far as the world knows.
    pub(super) fn spent(&self, guid: Guid, now: Duration) -> usize {
        let dead = |claim: &&Claim| {
            let lost =
                claim.lease.as_ref().is_some_and(|lease| !claim.life.world.is_registered(lease.node()));
            lost || claim.life.is_dead()
        };
        let told = |attempt: &&Try| matches!(attempt.told(now), Told::Not | Told::Perhaps);
        self.claims_of(guid).filter(dead).count() + self.tries_of(guid).filter(told).count()
    }

    /// Attempts whose targets started.
    pub(super) fn starts(&self, guid: Guid) -> usize {
        self.tries_of(guid).filter(|attempt| attempt.begun && attempt.starts).count()
    }
}
