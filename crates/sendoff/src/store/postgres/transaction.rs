//! One transaction on the writer's connection.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_postgres::{Client, Error as PgError, Row};

use super::{
    ask::{Answer, Ask, BY_INDEX, Param},
    fleet::Member,
    shared::Shared,
    sql::Sql,
};
use crate::error::{Error, ErrorKind};

/// Why a group's transaction must be undone.
pub(super) enum Stop {
    Failed(PgError),
    /// A call is refused as a whole.
    Refused(Error),
    /// A call has its answer, but must leave nothing behind.
    Undo,
}

impl From<PgError> for Stop {
    fn from(err: PgError) -> Self {
        Self::Failed(err)
    }
}

pub(super) struct Transaction<'a> {
    pub(super) client: &'a Client,
    pub(super) shared: &'a Shared,
    pub(super) me: Arc<Member>,
    /// Settlements (row and fence) that an earlier try may have done.
    pub(super) doubtful: &'a HashSet<(i64, u32)>,
    /// Calls that an earlier try may have done.
    pub(super) repeated: bool,
    /// Something was sent that takes effect without a further word.
    pub(super) decided: &'a AtomicBool,
}

impl Transaction<'_> {
    pub(super) fn ask(&self) -> Ask<'_> {
        Ask::new(self.client, &self.shared.sql)
    }

    pub(super) async fn rows(&self, name: Sql, params: &[Param<'_>]) -> Answer<Vec<Row>> {
        self.ask().rows(name, params).await
    }

    /// Statements on jobs by ids and lanes walk their indexes, whatever the planner thinks of the table.
    pub(super) async fn begin(&self) -> Answer<()> {
        self.client.batch_execute(&format!("{}; {BY_INDEX}", self.shared.sql.text(Sql::Begin))).await
    }

    pub(super) async fn commit(&self) -> Answer<()> {
        self.decided.store(true, Ordering::Release);
        self.client.batch_execute(self.shared.sql.text(Sql::Commit)).await
    }
}

pub(super) fn lease_ran_out() -> Error {
    Error::new(ErrorKind::Unavailable, "this node's lease ran out; nothing was done, try again in a moment")
}
