//! The heartbeat: one round trip each five seconds that keeps this node alive, reads the database's
//! clock, and looks at the other nodes.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_postgres::{Row, types::Type};

use super::{
    Order, Shared,
    clock::Sample,
    durability, hints,
    local::Process,
    reclaim, register,
    watch::{Look, Watch},
};
use crate::{
    error::Result,
    ports::Wake,
    store::postgres::{
        ask::{Answer, Ask},
        failure::Failure,
        link::Link,
        sql::Sql,
    },
    time::{Clock, SystemClock},
};

/// What a node's thread does until the node leaves.
pub(super) async fn live(shared: Arc<Shared>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut tasks = JoinSet::new();
    tasks.spawn(reclaim::run(shared.clone()));
    if shared.habits.hints {
        tasks.spawn(hints::run(shared.clone()));
    }
    let mut heart = Heart {
        link: Link::new(shared.target.clone(), Arc::default()),
        watch: Watch::new(shared.habits.pace),
        in_touch: true,
        weak: false,
        shared,
    };
    let order = tokio::select! {
        order = orders.recv() => order,
        never = heart.beat_on() => match never {},
    };
    tasks.shutdown().await;
    let answer = match order {
        #[cfg(feature = "testing")]
        Some(Order::Crash) => return,
        Some(Order::Leave(answer)) => Some(answer),
        None => None,
    };
    let left = heart.leave().await;
    if let Some(answer) = answer {
        // Nobody may wait for it any more.
        let _ = answer.send(left);
    }
}

struct Heart {
    shared: Arc<Shared>,
    link: Link,
    watch: Watch,
    /// Whether the last heartbeat went through.
    in_touch: bool,
    /// Whether the database's settings are such that it would not be opened.
    weak: bool,
}

impl Heart {
    async fn beat_on(&mut self) -> std::convert::Infallible {
        let pace = self.shared.habits.pace;
        // The first one follows at once: it looks at the other nodes.
        let mut next = SystemClock.elapsed();
        loop {
            tokio::select! {
                () = sleep(next.saturating_sub(SystemClock.elapsed())) => {}
                () = self.shared.doubt.notified() => {}
            }
            #[cfg(feature = "testing")]
            self.paused().await;
            next = SystemClock.elapsed() + pace.next(fastrand::f64());
            // A connection whose answer does not come in time is of no use.
            let beaten = timeout(pace.limit, self.beat()).await;
            match beaten {
                Ok(Ok(())) => self.touch(None),
                Ok(Err(err)) => self.touch(Some(err.to_string())),
                Err(_) => self.touch(Some(format!("no answer within {} s", pace.limit.as_secs_f32()))),
            }
            if !self.in_touch {
                self.link.close();
                self.watch.restart();
                next = SystemClock.elapsed() + pace.retry;
            }
        }
    }

    #[cfg(feature = "testing")]
    async fn paused(&self) {
        // The sender lives as long as this.
        let _ = self.shared.paused.subscribe().wait_for(|paused| !paused).await;
    }

    /// Says when touch with the database is lost and when it is back.
    fn touch(&mut self, error: Option<String>) {
        if let Some(error) = &error
            && self.in_touch
        {
            tracing::warn!(error, "a heartbeat failed; this node begins nothing once its lease is over");
        } else if error.is_none() && !self.in_touch {
            tracing::warn!("heartbeats go through again");
        }
        self.in_touch = error.is_none();
    }

    async fn beat(&mut self) -> Result<()> {
        let client = self.link.client().await?;
        let shared = self.shared.clone();
        let ask = Ask::new(&client, &shared.texts);
        let failed = |err| Failure::of(&err).error(&err);
        let present = shared.present();
        let in_flight = i32::try_from(shared.in_flight.load(Ordering::Relaxed)).unwrap_or(i32::MAX);
        let says = [(&present.id as _, Type::INT8), (&in_flight as _, Type::INT4)];
        crash_point!(BeatBefore);
        let sent = SystemClock.elapsed();
        let (beat, see) = (ask.rows(Sql::Beat, &says), ask.rows(Sql::SeeNodes, &[]));
        // Each time: after a failover they are another server's.
        let settings = register::settings(ask);
        let (beaten, seen, settings) = if self.link.prepares() {
            // Sent together; the answers come in this order.
            tokio::join!(biased; beat, see, settings)
        } else {
            (beat.await, see.await, settings.await)
        };
        crash_point!(BeatAfter);
        let look = Look { sent, replied: SystemClock.elapsed() };
        let (beaten, seen) = (beaten.map_err(failed)?, seen.map_err(failed)?);
        self.weigh(&settings.map_err(failed)?);
        let Some(beaten) = beaten.first() else {
            tracing::warn!(
                node = %present.lease.node(),
                "this node was declared dead; what it had in hand is left to others, it registers anew"
            );
            present.lease.revoke();
            self.watch.restart();
            register::anew(&shared, ask).await.map_err(failed)?;
            shared.wakes.wake(Wake::Hint);
            return Ok(());
        };
        let seen: Vec<_> = seen.iter().map(Seen::of).collect::<Answer<_>>().map_err(failed)?;
        let first = beaten.try_get(0).map_err(failed)?;
        let last = seen.iter().map(|node| node.now).max().unwrap_or(first);
        shared.clock.anchor(&Sample { sent, replied: look.replied, first, last });
        present.lease.extend(sent + shared.habits.pace.lease);
        self.judge(ask, present.id, look, &seen).await.map_err(failed)
    }

    fn weigh(&mut self, settings: &durability::Settings) {
        match settings.durability() {
            Ok(durability) => {
                let code = durability::code(durability);
                let before = self.shared.durability.swap(code, Ordering::AcqRel);
                if before != code {
                    tracing::warn!(
                        ?durability,
                        "the database's settings changed what an acknowledgement is worth"
                    );
                }
                self.weak = false;
            }
            Err(err) => {
                if !self.weak {
                    tracing::warn!(error = %err, "the database's settings were changed");
                }
                self.weak = true;
            }
        }
    }

    /// Declares dead who is.
    async fn judge(&mut self, ask: Ask<'_>, own: i64, look: Look, seen: &[Seen]) -> Answer<()> {
        let shared = self.shared.clone();
        let habits = &shared.habits;
        let (dead, living): (Vec<_>, Vec<_>) =
            seen.iter().filter(|node| node.id != own).partition(|node| node.dead);
        let here = &shared.identity.process;
        let gone = |node: &&&Seen| habits.certain_death && node.process.is_gone(here);
        let mut died: Vec<_> =
            living.iter().filter(gone).map(|node| (node.id, node.beat, "its process has ended")).collect();
        let counters: Vec<_> = living.iter().map(|node| (node.id, node.beat)).collect();
        died.extend(
            self.watch.look(look, &counters).iter().map(|&(id, beat)| (id, beat, "its heartbeat stopped")),
        );
        let mut any = !dead.is_empty();
        for (id, beat, why) in died {
            // Not if it beat meanwhile, or if somebody else was first.
            crash_point!(DeclareDeadBefore);
            let marked = ask.rows(Sql::DeclareDead, &[(&id, Type::INT8), (&beat, Type::INT8)]).await?;
            if let Some(row) = marked.first() {
                tracing::warn!(node = row.try_get::<_, &str>(0)?, why, "a node is dead");
                crash_point!(DeclareDeadAfter);
                any = true;
            }
        }
        if any {
            shared.dead.notify_one();
        }
        Ok(())
    }

    async fn leave(&self) -> Result<()> {
        let leaving = async {
            let client = self.link.client().await?;
            let ask = Ask::new(&client, &self.shared.texts);
            register::leave(&self.shared, ask).await.map_err(|err| Failure::of(&err).error(&err))
        };
        self.shared.present().lease.revoke();
        // The others find out in their time.
        timeout(self.shared.habits.pace.limit.max(Duration::from_secs(1)), leaving).await.unwrap_or(Ok(()))
    }
}

/// Another node as one read shows it.
struct Seen {
    id: i64,
    beat: i64,
    dead: bool,
    process: Process,
    /// The database's time when the row was read.
    now: i64,
}

impl Seen {
    fn of(row: &Row) -> Answer<Self> {
        Ok(Self {
            id: row.try_get(0)?,
            beat: row.try_get(1)?,
            dead: row.try_get(2)?,
            process: Process {
                pid: row.try_get(3)?,
                boot_id: row.try_get(4)?,
                namespace: row.try_get(5)?,
                started: row.try_get(6)?,
            },
            now: row.try_get(7)?,
        })
    }
}
