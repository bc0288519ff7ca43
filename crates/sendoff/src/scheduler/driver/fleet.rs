//! The loop's part in a fleet: under which lease attempts are made, what the other nodes changed, and
//! claims that the store has made and whose answers were lost.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};

use super::{super::Shared, Driver, answers::Answer};
use crate::{
    dispatcher::{Event, Now, Verdict},
    error::{Error, ErrorKind, Result},
    job::{JobId, QueueLimits},
    ports::{Claim, ClaimVerdict, Claimed, Fleet, Lease, Settled, Settlement, Wake, Wanted},
    state::Outcome,
};

/// A claim, or an insert with claims, that is under way.
pub(super) type CallKey = u64;
/// An attempt: row and fence.
type AttemptKey = (JobId, u32);

/// How long to go at most without asking what is starting in this node's name.
const STRAYS: Duration = Duration::from_secs(30);

/// See the module.
pub(super) struct Among {
    pub(super) fleet: Arc<dyn Fleet>,
    woken: BoxFuture<'static, Wake>,
    /// Leases of claims whose attempts were not begun yet.
    leases: HashMap<JobId, (u32, Arc<Lease>)>,
    calls: BTreeSet<CallKey>,
    next_call: CallKey,
    strays: Strays,
    /// The stored limits of queues, as far as they are known here.
    queues: BTreeMap<Arc<str>, QueueLimits>,
    /// How often they were changed by this node.
    changes: u64,
}

/// Looking for rows that are starting in this node's name without its knowledge.
#[derive(Default)]
struct Strays {
    wanted: bool,
    asked: bool,
    /// When it was last asked for.
    last: Duration,
    /// What the store named, and the calls under way then: their answers may name the same.
    found: Option<(Vec<AttemptKey>, BTreeSet<CallKey>)>,
}

impl Among {
    pub(super) fn new(fleet: Arc<dyn Fleet>, queues: BTreeMap<Arc<str>, QueueLimits>) -> Self {
        let woken = fleet.woken();
        Self {
            fleet,
            woken,
            leases: HashMap::new(),
            calls: BTreeSet::new(),
            next_call: 0,
            strays: Strays::default(),
            queues,
            changes: 0,
        }
    }

    pub(super) fn begin_call(&mut self) -> CallKey {
        self.next_call += 1;
        self.calls.insert(self.next_call);
        self.next_call
    }

    pub(super) fn keep_leases(&mut self, lease: &Arc<Lease>, verdicts: &[Verdict]) {
        for verdict in verdicts {
            if let Verdict::Claimed(claimed) = verdict {
                self.keep_lease(claimed, lease);
            }
        }
    }

    pub(super) fn keep_lease(&mut self, claimed: &Claimed, lease: &Arc<Lease>) {
        self.leases.insert(claimed.id, (claimed.fence, lease.clone()));
    }

    pub(super) fn take_lease(&mut self, claimed: &Claimed) -> Option<Arc<Lease>> {
        if mutated!(BeginsUnderTheNextLease) {
            return Some(self.fleet.lease());
        }
        self.leases.remove(&claimed.id).filter(|(fence, _)| *fence == claimed.fence).map(|(_, lease)| lease)
    }

    /// Attempts that are over; one that was given back before it was begun has taken no lease.
    pub(super) fn forget_leases(&mut self, settlements: &[Settlement]) {
        for Settlement { id, fence, .. } in settlements {
            if self.leases.get(id).is_some_and(|(of, _)| of == fence) {
                self.leases.remove(id);
            }
        }
    }

    /// This node begins to change a queue's limits, or has ended to.
    pub(super) fn limits_change(&mut self) {
        self.changes += 1;
    }
}

/// The fleet's next wake; without a fleet there is none.
pub(super) fn poll_woken(among: &mut Option<Among>, cx: &mut Context<'_>) -> Poll<Wake> {
    let Some(among) = among else { return Poll::Pending };
    let wake = std::task::ready!(among.woken.poll_unpin(cx));
    among.woken = among.fleet.woken();
    Poll::Ready(wake)
}

impl Driver {
    pub(super) fn woken(&mut self, wake: Wake) {
        if wake == Wake::Reconnected
            && let Some(among) = &mut self.among
        {
            among.strays.wanted = true;
            self.look_for_strays();
        }
        self.feed(Event::Woken { reconnected: wake == Wake::Reconnected });
    }

    pub(super) fn claim(&mut self, wanted: Vec<Wanted>, now: Now) {
        let ids: Vec<_> = wanted.iter().map(|wanted| wanted.id).collect();
        let lease = self.shared.membership.lease();
        let by = Claim { node: lease.node().clone(), now: now.wall };
        let Some(among) = &mut self.among else {
            let asked = ids.clone();
            return self.call(
                "claim",
                |store| store.claim(asked, by),
                |result| Answer::Claimed { ids, under: None, result: result.map(own_verdicts) },
            );
        };
        let under = Some((among.begin_call(), lease.clone()));
        let fleet = among.fleet.clone();
        self.call(
            "claim",
            |_| {
                if lease.holds(now.elapsed) {
                    fleet.claim(wanted, by)
                } else {
                    std::future::ready(Err(lease_ran_out())).boxed()
                }
            },
            |result| Answer::Claimed { ids, under, result: result.map(fleet_verdicts) },
        );
    }

    /// The dispatcher knows what this call claimed, or that its answer was lost.
    pub(super) fn end_call(&mut self, call: Option<CallKey>, lost: bool) {
        if let (Some(among), Some(call)) = (&mut self.among, call) {
            among.calls.remove(&call);
            among.strays.wanted |= lost;
            self.look_for_strays();
        }
    }

    /// It is time to look for what other nodes did.
    pub(super) fn read_queues(&mut self) {
        let now = self.shared.clock.elapsed();
        if let Some(among) = &mut self.among {
            // However often it was asked after an answer was lost: the database may go through with a
            // commit long after its connection was given up, as when that waits for a standby.
            among.strays.wanted |= now.saturating_sub(among.strays.last) >= STRAYS;
        }
        self.look_for_strays();
        let changes = self.among.as_ref().map_or(0, |among| among.changes);
        self.call("queues", |store| store.queues(), move |result| Answer::Queues(result, changes));
    }

    pub(super) fn queues_read(&mut self, result: Result<BTreeMap<Arc<str>, QueueLimits>>, changes: u64) {
        let read = result.is_ok();
        if let (Ok(queues), Some(among)) = (result, &mut self.among)
            // An answer from before a change of this node's own would undo it; the next one will do.
            && among.changes == changes
            && self.queue_changes.is_empty()
        {
            let before = std::mem::replace(&mut among.queues, queues);
            for (queue, limits) in changed(&self.shared, &before, &among.queues) {
                self.feed(Event::QueueLimits(queue, limits));
            }
        }
        self.feed(Event::QueuesRead(read));
    }

    /// Asks for rows that are starting in this node's name, if there may be some that it does not
    /// know of, and gives those back once nothing under way can make them known.
    pub(super) fn look_for_strays(&mut self) {
        let Some(among) = &mut self.among else { return };
        if mutated!(StraysForgotten) {
            return;
        }
        if mutated!(StraysWithCallsUnderWay) {
            among.strays.found.iter_mut().for_each(|(_, calls)| calls.clear());
        }
        if let Some((found, _)) = among.strays.found.take_if(|(_, calls)| calls.is_disjoint(&among.calls)) {
            let next_at = self.shared.clock.now();
            let outcome = || Outcome::Released { next_at, error: None };
            let strays: Vec<_> = found
                .into_iter()
                .filter(|(id, fence)| mutated!(StraysIncludeKnown) || !self.dispatcher.has(*id, *fence))
                .map(|(id, fence)| Settlement { id, fence, begun: None, outcome: outcome() })
                .collect();
            if !strays.is_empty() {
                self.call("settle", |store| store.settle(strays, next_at), Answer::StraysReleased);
            }
        }
        let now = self.shared.clock.elapsed();
        let Some(among) = &mut self.among else { return };
        let strays = &mut among.strays;
        if strays.wanted && !strays.asked && strays.found.is_none() {
            strays.wanted = false;
            strays.asked = true;
            strays.last = now;
            let fleet = among.fleet.clone();
            self.call("mine", |_| fleet.mine(), Answer::Mine);
        }
    }

    pub(super) fn strays_found(&mut self, found: Option<Vec<AttemptKey>>) {
        let Some(among) = &mut self.among else { return };
        among.strays.asked = false;
        match found {
            Some(found) => {
                among.strays.found = Some((found, among.calls.clone()));
                self.look_for_strays();
            }
            // Asked again at the next look.
            None => among.strays.wanted = true,
        }
    }

    pub(super) fn strays_released(&mut self, verdicts: Option<Vec<Settled>>) {
        let Some(among) = &mut self.among else { return };
        match verdicts {
            Some(verdicts) => {
                let jobs = verdicts.iter().filter(|verdict| verdict.applied).count();
                tracing::info!(jobs, "gave back jobs whose claim was stored and its answer lost");
                self.feed(Event::Woken { reconnected: false });
            }
            None => among.strays.wanted = true,
        }
    }
}

/// The queues whose limits are others now than before, with those in force.
fn changed(
    shared: &Shared,
    before: &BTreeMap<Arc<str>, QueueLimits>,
    now: &BTreeMap<Arc<str>, QueueLimits>,
) -> Vec<(Arc<str>, QueueLimits)> {
    let built = |queue: &Arc<str>| shared.built_queues.get(queue).copied().unwrap_or_default();
    let set = now.iter().filter(|(queue, limits)| before.get(*queue) != Some(*limits));
    let forgotten = before.keys().filter(|queue| !now.contains_key(*queue));
    let set = set.map(|(queue, limits)| (queue.clone(), *limits));
    set.chain(forgotten.map(|queue| (queue.clone(), built(queue)))).collect()
}

fn own_verdicts(claims: Vec<Option<Claimed>>) -> Vec<Verdict> {
    let verdict = |claim: Option<Claimed>| claim.map_or(Verdict::Lost, claimed_verdict);
    claims.into_iter().map(verdict).collect()
}

fn fleet_verdicts(verdicts: Vec<ClaimVerdict>) -> Vec<Verdict> {
    let verdict = |verdict| match verdict {
        ClaimVerdict::Claimed(claimed) => claimed_verdict(*claimed),
        ClaimVerdict::Lost => Verdict::Lost,
        ClaimVerdict::Held(retry) => Verdict::Held(retry),
    };
    verdicts.into_iter().map(verdict).collect()
}

fn claimed_verdict(claimed: Claimed) -> Verdict {
    Verdict::Claimed(Arc::new(claimed))
}

fn lease_ran_out() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "this node's heartbeat did not go through for too long, so it may claim nothing; it claims again when one does",
    )
}
