//! Entering the fleet, and leaving it.

use std::{
    io,
    sync::{Arc, Mutex, atomic::AtomicU8},
};

use tokio::time;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{
    Habits, Member, Shared,
    clock::{AnchoredClock, Sample},
    durability::{self, Settings},
    local::{self, Process},
    reclaim,
};
use crate::{
    error::{Error, ErrorKind, Result},
    ports::Lease,
    store::postgres::{
        PostgresOptions,
        ask::{Answer, Ask},
        connect::Target,
        failure::{self, Failure},
        link::Link,
        sql::{Sql, Texts},
    },
    time::{Clock, SystemClock},
};

#[cfg(feature = "testing")]
const NAMESAKES_DIED: &str = "UPDATE sendoff.node n SET dead_at = clock_timestamp() \
    FROM sendoff.node_name m WHERE m.id = n.id AND m.name = $1 AND n.dead_at IS NULL";

/// What a node says of itself when it registers.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) process: Process,
    host: String,
    pub(super) queues: Option<Arc<[Arc<str>]>>,
    #[cfg(feature = "testing")]
    name: Option<String>,
}

impl Identity {
    pub(super) fn new(options: &PostgresOptions) -> Result<Self> {
        let no_proc = |err: io::Error| {
            Error::new(ErrorKind::Unusable, "a node of a fleet needs /proc to say who it is").with_source(err)
        };
        Ok(Self {
            process: Process::this().map_err(no_proc)?,
            host: local::host(),
            queues: options
                .queues
                .as_ref()
                .map(|queues| queues.iter().map(|queue| queue.as_str().into()).collect()),
            #[cfg(feature = "testing")]
            name: options.node.clone(),
        })
    }

    /// A name that no node had before, unless a test gives one.
    fn first_name(&self) -> String {
        #[cfg(feature = "testing")]
        if let Some(name) = &self.name {
            return name.clone();
        }
        fresh_name()
    }
}

fn fresh_name() -> String {
    Uuid::from_u128(fastrand::u128(..)).to_string()
}

/// Registers this node for the first time.
pub(super) async fn first(
    target: Target,
    texts: Arc<Texts>,
    habits: Habits,
    identity: Identity,
) -> Result<Arc<Shared>> {
    let link = Link::new(target.clone(), Arc::default());
    let client = link.client().await?;
    let ask = Ask::new(&client, &texts);
    let entering = async {
        let settings = settings(ask).await.map_err(refused)?;
        let durability = settings.durability()?;
        if !settings.fsync() {
            tracing::warn!("the database has fsync=off: a power cut would destroy it");
        }
        #[cfg(feature = "testing")]
        if let Some(name) = &identity.name {
            // A test's node that crashed within this process, which goes on.
            ask.client.query_typed(NAMESAKES_DIED, &[(name, Type::TEXT)]).await.map_err(refused)?;
        }
        let registered = register(ask, &habits, &identity, identity.first_name()).await.map_err(refused)?;
        Ok((registered, durability))
    };
    let limit = habits.pace.limit;
    let ((member, sample), durability) = time::timeout(limit, entering).await.unwrap_or_else(|_| {
        Err(Error::new(
            ErrorKind::Unavailable,
            format!("the database did not register this node within {} s; try again", limit.as_secs_f32()),
        ))
    })?;
    link.close();
    drop(client);
    Ok(Arc::new(Shared {
        target,
        texts,
        habits,
        identity,
        present: Mutex::new(Arc::new(member)),
        clock: AnchoredClock::new(&sample),
        durability: AtomicU8::new(durability::code(durability)),
        in_flight: Default::default(),
        wakes: Default::default(),
        hint: Default::default(),
        dead: Default::default(),
        doubt: Default::default(),
        #[cfg(feature = "testing")]
        paused: tokio::sync::watch::Sender::new(false),
    }))
}

fn refused(err: tokio_postgres::Error) -> Error {
    match Failure::of(&err) {
        Failure::Refused => Error::new(
            ErrorKind::Unusable,
            format!("this node cannot register in the database: {}", failure::words(&err)),
        ),
        failure => failure.error(&err),
    }
}

pub(super) async fn settings(ask: Ask<'_>) -> Answer<Settings> {
    Settings::of(&ask.client.query_typed_one(ask.texts.text(Sql::Settings), &[]).await?)
}

/// The declared dead: registers under a name that no node had before.
pub(super) async fn anew(shared: &Shared, ask: Ask<'_>) -> Answer<()> {
    let (member, sample) = register(ask, &shared.habits, &shared.identity, fresh_name()).await?;
    shared.clock.anchor(&sample);
    shared.set_present(member);
    Ok(())
}

async fn register(
    ask: Ask<'_>,
    habits: &Habits,
    identity: &Identity,
    name: String,
) -> Answer<(Member, Sample)> {
    let process = &identity.process;
    let queues: Option<Vec<&str>> =
        identity.queues.as_ref().map(|queues| queues.iter().map(AsRef::as_ref).collect());
    let sent = SystemClock.elapsed();
    crash_point!(RegisterBefore);
    let row = ask
        .client
        .query_typed_one(
            ask.texts.text(Sql::Register),
            &[
                (&name, Type::TEXT),
                (&identity.host, Type::TEXT),
                (&process.pid, Type::INT4),
                (&process.boot_id, Type::TEXT),
                (&process.namespace, Type::TEXT),
                (&process.started, Type::INT8),
                (&env!("CARGO_PKG_VERSION"), Type::TEXT),
                (&queues, Type::TEXT_ARRAY),
            ],
        )
        .await?;
    crash_point!(RegisterAfter);
    let (id, time) = (row.try_get(0)?, row.try_get(1)?);
    let sample = Sample { sent, replied: SystemClock.elapsed(), first: time, last: time };
    tracing::info!(node = name, host = identity.host, pid = process.pid, "registered in the fleet");
    let lease = Lease::new(name.into(), sent + habits.pace.lease);
    Ok((Member { id, lease: Arc::new(lease) }, sample))
}

/// Deletes this node's registration, or marks it as dead if something is left in its name.
pub(super) async fn leave(shared: &Shared, ask: Ask<'_>) -> Answer<()> {
    let present = shared.present();
    present.lease.revoke();
    crash_point!(LeaveBefore);
    ask.rows(Sql::Leave, &[(&present.id, Type::INT8)]).await?;
    crash_point!(LeaveAfter);
    reclaim::forget(ask).await?;
    // Something may be left for them to take back.
    Ok(())
}
