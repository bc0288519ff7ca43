//! What the engine sees of the fleet.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio_postgres::{Row, types::Type};

use super::{Node, Pace};
use crate::{
    job::JobId,
    ports::{Lease, NodeRecord, NodeState, Wake},
    store::postgres::{
        ask::{Answer, Ask},
        rows::job_id,
        sql::Sql,
    },
    time::{Clock, Timestamp},
};

/// The parts of [`Fleet`](crate::ports::Fleet) that need no job.
impl Node {
    pub(in super::super) fn lease(&self) -> Arc<Lease> {
        self.present().lease.clone()
    }

    pub(in super::super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(self.shared.clock.clone())
    }

    pub(in super::super) fn queues(&self) -> Option<Arc<[Arc<str>]>> {
        self.shared.identity.queues.clone()
    }

    pub(in super::super) fn poll_interval(&self) -> Duration {
        self.shared.habits.poll_interval
    }

    pub(in super::super) fn woken(&self) -> BoxFuture<'static, Wake> {
        let shared = self.shared.clone();
        async move { shared.wakes.next().await }.boxed()
    }

    pub(in super::super) fn hint(&self) {
        self.shared.hint.notify_one();
    }

    pub(in super::super) fn report(&self, in_flight: usize) {
        self.shared.in_flight.store(in_flight, std::sync::atomic::Ordering::Relaxed);
    }

    /// See [`Fleet::mine`](crate::ports::Fleet::mine); to be asked after the claims in doubt.
    pub(in super::super) async fn mine(&self, ask: Ask<'_>) -> Answer<Vec<(JobId, u32)>> {
        let own = self.present().id;
        let rows = ask.rows(Sql::Mine, &[(&own, Type::INT8)]).await?;
        rows.iter()
            .map(|row| Ok((job_id(row.try_get(0)?), row.try_get::<_, i32>(1)?.cast_unsigned())))
            .collect()
    }

    /// See [`Fleet::nodes`](crate::ports::Fleet::nodes).
    pub(in super::super) async fn nodes(&self, ask: Ask<'_>) -> Answer<Vec<NodeRecord>> {
        let (own, pace) = (self.present().id, self.shared.habits.pace);
        let rows = ask.rows(Sql::Nodes, &[]).await?;
        rows.iter().map(|row| record(row, own, &pace)).collect()
    }
}

fn record(row: &Row, own: i64, pace: &Pace) -> Answer<NodeRecord> {
    let instant = |micros| Timestamp::from_micros(micros).unwrap_or(Timestamp::MIN);
    let behind_us: i64 = row.try_get(7)?;
    let late = u64::try_from(behind_us).is_ok_and(|behind| Duration::from_micros(behind) >= pace.lease);
    let state = match (row.try_get(8)?, late) {
        (true, _) => NodeState::Dead,
        (false, true) => NodeState::Late,
        (false, false) => NodeState::Alive,
    };
    Ok(NodeRecord {
        this: row.try_get::<_, i64>(0)? == own,
        node: row.try_get(1)?,
        address: format!("{}:{}", row.try_get::<_, &str>(2)?, row.try_get::<_, i32>(3)?),
        version: row.try_get(4)?,
        started_at: instant(row.try_get(5)?),
        heartbeat_at: instant(row.try_get(6)?),
        behind_us,
        state,
        in_flight: row.try_get::<_, i32>(9)?.unsigned_abs().into(),
        queues: row.try_get(10)?,
    })
}
