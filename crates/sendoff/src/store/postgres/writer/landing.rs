//! The ends of groups under way: what they leave to do, and their answers.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::timeout;
use tokio_postgres::Client;

use super::{DEADLOCKS, LIMIT, WARY, Writer, tell};
use crate::store::postgres::{
    call::Work,
    claim,
    failure::{Failure, commit_unknown},
    flight::{Airborne, Flight, Landing, Why},
    insert::Inserting,
    limited,
    settle::Settling,
    transaction::Stop,
};

impl Writer {
    pub(super) async fn land_all(&mut self) {
        while !self.flights.is_empty() {
            self.land().await;
        }
    }

    /// Waits for the oldest group under way and answers it.
    pub(super) async fn land(&mut self) {
        let Some(mut oldest) = self.flights.pop_front() else { return };
        oldest.landed().await;
        let Some((mut flight, landing)) = oldest.take() else { return };
        let Airborne { client, readers, .. } = oldest;
        if matches!(landing, Landing::Lost) {
            // Nobody waits any longer for what may never come.
            self.link.lost(&client);
        }
        if !matches!(landing, Landing::Through) {
            // What follows needs the connection for itself.
            for flight in &mut self.flights {
                flight.landed().await;
            }
        }
        match landing {
            Landing::Through => self.answer(flight.group, None),
            Landing::Left(inserting, settling) => self.rest(&client, flight, inserting, settling).await,
            Landing::NotInserted => {
                let (inserts, others): (Vec<_>, Vec<_>) =
                    flight.group.into_iter().partition(|work| matches!(work, Work::Insert(_)));
                self.answer(others, None);
                self.group(inserts, false).await;
            }
            Landing::Undone(why) => {
                match why {
                    Why::Taken => self.wary = WARY,
                    Why::Unprepared => self.prepares = false,
                    Why::Other => {}
                }
                self.group(flight.group, false).await;
            }
            Landing::Lost => {
                self.doubt(&flight.group);
                flight.group = self.give_up(flight.group);
                self.group(flight.group, true).await;
            }
        }
        tell(readers);
    }

    /// Does what is left of a group that is committed, and answers it.
    async fn rest(
        &mut self,
        client: &Arc<Client>,
        mut flight: Flight,
        inserting: Option<Inserting>,
        settling: Option<Settling>,
    ) {
        let claimed: Vec<_> =
            flight.claims.iter().map(|&call| limited::verdicts(&flight.group[call])).collect();
        let decided = AtomicBool::new(false);
        let tx = self.transaction(client, false, &decided);
        let run = async {
            let Flight { group, claims, ids, .. } = &mut flight;
            tx.begin().await?;
            if let Some(inserting) = inserting {
                inserting.finish(&tx, group, ids).await?;
            }
            if let Some(settling) = settling {
                settling.finish(&tx, group).await?;
            }
            claim::replace(&tx, group, claims).await?;
            let remaining = limited::remain(&tx, group, claims).await?;
            tx.commit().await?;
            Ok(remaining)
        };
        let stop = match timeout(LIMIT, run).await {
            Ok(Ok(remaining)) => return self.finish(flight.group, &remaining).await,
            Ok(Err(stop)) => Some(stop),
            Err(_) => None,
        };
        match stop {
            Some(Stop::Failed(err)) if Failure::of(&err) == Failure::Lost => self.link.lost(client),
            None => self.link.lost(client),
            Some(_) => self.roll_back(client).await,
        }
        // What was claimed already is told all the same.
        for (&call, verdicts) in flight.claims.iter().zip(claimed) {
            limited::restore(&mut flight.group[call], verdicts);
            limited::hold(&mut flight.group[call]);
        }
        let claims = |work: &Work| matches!(work, Work::Claim(_) | Work::ClaimWithin(_));
        let (claims, others): (Vec<_>, Vec<_>) = flight.group.into_iter().partition(claims);
        self.answer(claims, None);
        self.doubt(&others);
        self.group(others, true).await;
    }

    /// Answers a group that is done, but for calls that still want something of queues with limits.
    pub(super) async fn finish(&mut self, group: Vec<Work>, remaining: &[usize]) {
        let (mut limited, mut done) = (Vec::new(), Vec::new());
        for (call, work) in group.into_iter().enumerate() {
            if remaining.contains(&call) { limited.push(work) } else { done.push(work) }
        }
        self.answer(done, None);
        for work in limited {
            self.limited(work).await;
        }
    }

    /// Claims what remains in queues with limits: those are locked for as short as can be, so in a
    /// transaction of its own.
    async fn limited(&mut self, mut work: Work) {
        let before = limited::verdicts(&work);
        for _ in 0..DEADLOCKS {
            limited::restore(&mut work, before.clone());
            let Ok(client) = self.link.client().await else { break };
            let decided = AtomicBool::new(false);
            let tx = self.transaction(&client, false, &decided);
            let run = async {
                tx.begin().await?;
                limited::claim(&tx, &mut work).await?;
                tx.commit().await.map_err(Stop::Failed)
            };
            let failure = match timeout(LIMIT, run).await {
                Ok(Ok(())) => return self.answer(vec![work], None),
                Ok(Err(Stop::Failed(err))) => Failure::of(&err),
                Ok(Err(Stop::Refused(_) | Stop::Undo)) => Failure::Refused,
                Err(_) => Failure::Lost,
            };
            match failure {
                Failure::Lost => {
                    self.link.lost(&client);
                    if decided.load(Ordering::Acquire) {
                        return self.answer(vec![work], Some(&commit_unknown()));
                    }
                }
                Failure::Again => self.roll_back(&client).await,
                Failure::Full | Failure::Refused => {
                    self.roll_back(&client).await;
                    break;
                }
            }
        }
        // What was claimed already is told all the same.
        limited::restore(&mut work, before);
        limited::hold(&mut work);
        self.answer(vec![work], None);
    }
}
