//! Asking a connection. Statements are sent with their parameters' types and have no names (but for
//! one, see [`Way`](super::flight::Way)), so that each is one round trip and nothing of it stays in the
//! session.

use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

use super::sql::{Sql, Texts};

/// What the driver answers.
pub(super) type Answer<T> = std::result::Result<T, tokio_postgres::Error>;

/// A parameter and its type, as the statement has it.
pub(super) type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// For one transaction: statements on jobs walk an index in its order, whatever the planner thinks
/// of the table. It may never have been analysed, or been so when it was empty, and a plan that
/// sorts a million rows for the first hundred is no plan here.
///
/// And where a node goes silent within it (stopped, or cut off), the server ends it after longer than
/// any living node leaves it idle: its locks would hold up other nodes for as long as the server takes
/// the connection for alive, which may be hours.
pub(super) const BY_INDEX: &str = "SET LOCAL idle_in_transaction_session_timeout = '15s'; \
     SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; \
     SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; \
     SET LOCAL jit = off";

/// A connection to ask, and the statements.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) client: &'a Client,
    pub(super) texts: &'a Texts,
}

impl<'a> Ask<'a> {
    pub(super) fn new(client: &'a Client, texts: &'a Texts) -> Self {
        Self { client, texts }
    }

    /// The rows of a statement.
    pub(super) async fn rows(self, name: Sql, params: &[Param<'_>]) -> Answer<Vec<Row>> {
        self.client.query_typed(self.texts.text(name), params).await
    }

    /// The rows of a statement that walks over jobs, in a transaction of its own: see [`BY_INDEX`].
    pub(super) async fn walk(self, name: Sql, params: &[Param<'_>]) -> Answer<Vec<Row>> {
        let begin = format!("BEGIN READ ONLY; {BY_INDEX}");
        // All three are sent before the first answer is waited for, and so without anything between
        // them even when others use this connection, or when this future is dropped.
        let (begun, rows, ended) = tokio::join!(
            biased;
            self.client.batch_execute(&begin),
            self.rows(name, params),
            self.client.batch_execute("COMMIT"),
        );
        begun?;
        let rows = rows?;
        ended?;
        Ok(rows)
    }
}
