//! A group that is sent whole, with its commit, without waiting for an answer in between: so the next
//! one can be on its way while the server is still at it.
//!
//! If it fails, the next one has run before it runs again. So only groups are sent that commute with
//! those under way.

use std::{
    collections::HashSet,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures_util::{
    future::{BoxFuture, MaybeDone, maybe_done},
    poll,
};
use tokio::{sync::oneshot, time::timeout};
use tokio_postgres::{Client, Statement, error::SqlState};

use super::{
    ask::Answer,
    call::{Work, deeds},
    claim::{self, Claiming},
    failure::{Failure, ends_session},
    fleet::Member,
    insert::{self, Inserting},
    plan::{Item, Step, plan},
    settle::Settling,
    shared::Shared,
    texts::Ids,
    transaction::{Stop, Transaction},
};
use crate::{guid::Guid, job::JobId};

/// A group of inserts, settlements and claims, no two of one job, and none that might have to be undone
/// after it was done.
pub(super) struct Flight {
    pub(super) group: Vec<Work>,
    pub(super) inserts: Vec<usize>,
    pub(super) settlements: Vec<Item>,
    pub(super) claims: Vec<usize>,
    pub(super) ids: Ids,
    touched: Touched,
}

/// How its jobs are inserted.
pub(super) enum Way {
    /// Those whose guid or key is taken are left out.
    Careful,
    /// All or none.
    All,
    /// The same by a statement that the session knows.
    Prepared(Statement),
}

/// How it ended.
pub(super) enum Landing {
    /// All calls have their answers.
    Through,
    /// It is committed. These need another look, and claims that were lost another job.
    Left(Option<Inserting>, Option<Settling>),
    /// It is committed but for the inserts: the node's lease ran out.
    NotInserted,
    /// Rolled back.
    Undone(Why),
    /// It may be committed, and the connection is of no more use.
    Lost,
}

pub(super) enum Why {
    /// Somebody has a guid or a key.
    Taken,
    /// The session does not know the statement: there is a pooler in between.
    Unprepared,
    Other,
}

impl Why {
    /// None if it may be committed all the same.
    pub(super) fn of(err: &tokio_postgres::Error) -> Option<Self> {
        let code = err.code()?;
        // Another session's statement may have the same name, and other parameters.
        let unprepared = [
            SqlState::INVALID_SQL_STATEMENT_NAME,
            SqlState::DUPLICATE_PSTATEMENT,
            SqlState::PROTOCOL_VIOLATION,
            SqlState::FEATURE_NOT_SUPPORTED,
        ];
        let unprepared = unprepared.contains(code) && !ends_session(err);
        if unprepared {
            Some(Self::Unprepared)
        } else if Failure::of(err) == Failure::Lost {
            None
        } else if *code == SqlState::UNIQUE_VIOLATION {
            Some(Self::Taken)
        } else {
            Some(Self::Other)
        }
    }
}

/// What a group touches: another one that touches none of it can as well come first.
#[derive(Default)]
pub(super) struct Touched {
    ids: HashSet<JobId>,
    guids: HashSet<Guid>,
    keys: HashSet<Box<str>>,
}

impl Touched {
    /// None if a job, a guid or a key comes twice: a settlement that comes late is seen to after the
    /// group is committed, and so after a claim of the same job.
    fn by(group: &[Work]) -> Option<Self> {
        let mut touched = Self::default();
        let mut once = true;
        for work in group {
            match work {
                Work::Insert(call) => {
                    for new in &call.input.jobs {
                        once &= touched.guids.insert(new.job.guid);
                        if let Some(key) = &new.job.idempotency_key {
                            once &= touched.keys.insert(key.clone());
                        }
                    }
                }
                Work::Settle(call) => {
                    once &= call.input.0.iter().all(|settlement| touched.ids.insert(settlement.id));
                }
                Work::Claim(call) => once &= call.input.0.iter().all(|id| touched.ids.insert(*id)),
                Work::ClaimWithin(call) => {
                    once &= call.input.0.iter().all(|wanted| touched.ids.insert(wanted.id));
                }
                _ => {}
            }
        }
        once.then_some(touched)
    }

    fn meets(&self, other: &Self) -> bool {
        !(self.ids.is_disjoint(&other.ids)
            && self.guids.is_disjoint(&other.guids)
            && self.keys.is_disjoint(&other.keys))
    }
}

impl Flight {
    /// The group, or the group back if it is none that can be sent so.
    pub(super) fn of(group: Vec<Work>) -> Result<Self, Vec<Work>> {
        let (mut inserts, mut settlements, mut claims) = (Vec::new(), Vec::new(), Vec::new());
        for step in plan(&group) {
            match step {
                Step::Insert(calls)
                    if inserts.is_empty()
                        && settlements.is_empty()
                        && claims.is_empty()
                        && insert::is_plain(&group, &calls) =>
                {
                    inserts = calls;
                }
                Step::Settle(items) if settlements.is_empty() && claims.is_empty() => settlements = items,
                Step::Claim(calls) if claims.is_empty() => claims = calls,
                _ => return Err(group),
            }
        }
        match Touched::by(&group) {
            Some(touched) => Ok(Self { group, inserts, settlements, claims, ids: Ids::default(), touched }),
            None => Err(group),
        }
    }

    async fn run(&mut self, tx: &Transaction<'_>, way: &Way) -> Result<Landing, Stop> {
        let Self { group, inserts, settlements, claims, ids, .. } = self;
        let mut inserting = Inserting::new(group, inserts.iter().copied());
        // One statement is a transaction by itself.
        let bare = settlements.is_empty() && claims.is_empty();
        let deeds = deeds(group);
        // In the order in which they are sent.
        let (begun, inserted, (), settling, claiming, (), ended) = tokio::join!(
            biased;
            unless(bare, tx.begin()),
            inserting.send(tx, group, ids, way),
            async { deeds.in_transaction() },
            Settling::send(tx, group, settlements),
            Claiming::send(tx, group, claims),
            async { deeds.before_commit() },
            unless(bare, tx.commit()),
        );
        if begun.is_err() {
            // Without a transaction around them the others took effect each by itself.
            return Ok(Landing::Lost);
        }
        let refused = matches!(inserted, Err(Stop::Refused(_)));
        if !refused {
            inserted?;
        }
        let (settling, claiming) = (settling?, claiming?);
        ended?;
        deeds.after_commit();
        // Whatever fails from here on, it is committed.
        let taken = self.take(tx, inserting, settling, claiming, refused).await;
        Ok(taken.unwrap_or(Landing::Lost))
    }

    /// Gives the calls what a committed group has got. `refused`: nothing was inserted.
    async fn take(
        &mut self,
        tx: &Transaction<'_>,
        inserting: Inserting,
        settling: Settling,
        claiming: Claiming,
        refused: bool,
    ) -> Result<Landing, Stop> {
        let Self { group, claims, ids, .. } = self;
        claiming.take(tx, group, claims).await?;
        if refused {
            settling.finish(tx, group).await?;
            return Ok(Landing::NotInserted);
        }
        let inserting = match inserting.is_through() {
            true => inserting.finish(tx, group, ids).await.map(|()| None)?,
            false => Some(inserting),
        };
        let settling = match settling.is_through() {
            true => settling.finish(tx, group).await.map(|()| None)?,
            false => Some(settling),
        };
        Ok(match inserting.is_none() && settling.is_none() && !claim::has_lost(group, claims) {
            true => Landing::Through,
            false => Landing::Left(inserting, settling),
        })
    }
}

async fn unless(not: bool, work: impl Future<Output = Answer<()>>) -> Answer<()> {
    if not { Ok(()) } else { work.await }
}

type Flying = BoxFuture<'static, (Flight, Landing)>;

/// One that is under way.
pub(super) struct Airborne {
    touched: Touched,
    /// Told when it and all before it are done.
    pub(super) readers: Vec<oneshot::Sender<()>>,
    pub(super) client: Arc<Client>,
    flying: Pin<Box<MaybeDone<Flying>>>,
}

impl Airborne {
    pub(super) fn meets(&self, flight: &Flight) -> bool {
        self.touched.meets(&flight.touched)
    }

    /// Sends it, all of it at once, so that nothing else comes between its statements.
    pub(super) async fn start(
        mut flight: Flight,
        client: Arc<Client>,
        shared: Arc<Shared>,
        me: Arc<Member>,
        way: Way,
        limit: Duration,
    ) -> Self {
        let touched = std::mem::take(&mut flight.touched);
        let on = client.clone();
        let fly: Flying = Box::pin(async move {
            let (doubtful, decided) = (HashSet::new(), AtomicBool::new(true));
            let tx = Transaction {
                client: &on,
                shared: &shared,
                me,
                doubtful: &doubtful,
                repeated: false,
                decided: &decided,
            };
            let landing = match timeout(limit, flight.run(&tx, &way)).await {
                Ok(Ok(landing)) => landing,
                Ok(Err(Stop::Failed(err))) => Why::of(&err).map_or(Landing::Lost, Landing::Undone),
                Ok(Err(_)) | Err(_) => Landing::Lost,
            };
            (flight, landing)
        });
        let mut flying = Box::pin(maybe_done(fly));
        let _ = poll!(flying.as_mut());
        Self { touched, readers: Vec::new(), client, flying }
    }

    /// Resolves when it has come to its end.
    pub(super) async fn landed(&mut self) {
        self.flying.as_mut().await;
    }

    /// The flight and how it ended. None before it has landed.
    pub(super) fn take(&mut self) -> Option<(Flight, Landing)> {
        self.flying.as_mut().take_output()
    }
}
