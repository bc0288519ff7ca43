//! The tables: made on first use, brought up to date later, by one node at a time.

use tokio_postgres::{Client, Transaction, types::Type};

use super::connect::chain;
use crate::error::{Error, ErrorKind, Result};

/// A step from one schema to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    /// The oldest schema whose programs can go on with the tables as this step leaves them: its own
    /// number, or an earlier one's if it only adds what they need not know.
    pub(super) readable_by: i32,
}

/// Step n, counted from 1, leads to schema n. Only ever append.
pub(super) const MIGRATIONS: &[Migration] =
    &[Migration { name: "base", sql: include_str!("sql/0001_base.sql"), readable_by: 1 }];

/// Of the advisory locks of its database: "sendoff" and a number.
const LOCK: i64 = 0x73_65_6e_64_6f_66_66_01;

/// 13.
const OLDEST_SERVER: i32 = 130_000;

/// Old enough to have been there when no sendoff was.
struct Found {
    schema: bool,
    /// Whether it is ours.
    migrations: bool,
    /// Whether anything else is in it.
    tables: bool,
}

fn unusable(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unusable, format!("the database cannot be used: {why}"))
}

fn failed(err: tokio_postgres::Error) -> Error {
    match err.code().map(|code| code.code()) {
        Some("42501") => unusable(format!(
            "{}; let an administrator run CREATE SCHEMA sendoff AUTHORIZATION this role, or grant it what it lacks",
            chain(&err)
        )),
        Some(code) if !code.starts_with("08") && !code.starts_with("57") && code != "55P03" => {
            unusable(chain(&err))
        }
        _ => Error::new(
            ErrorKind::Unavailable,
            format!("the database's tables cannot be looked at now: {}; try again", chain(&err)),
        ),
    }
}

/// Checks the server and sees to the tables. Nodes that do so at once wait for each other.
///
/// # Errors
/// [`Error::is_newer`] if a newer program made them so that this one cannot go on with them,
/// [`Error::is_unusable`] for another server or schema than sendoff can use.
pub(super) async fn prepare(client: &mut Client, migrations: &[Migration]) -> Result<()> {
    check_server(client).await?;
    // Most of the time there is nothing to do, and a role without rights to do it.
    let looking = client.build_transaction().read_only(true).start().await.map_err(failed)?;
    if version(&looking, migrations.len()).await? == Some(migrations.len()) {
        return looking.commit().await.map_err(failed);
    }
    looking.rollback().await.map_err(failed)?;
    let transaction = client.transaction().await.map_err(failed)?;
    transaction
        .query_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)])
        .await
        .map_err(failed)?;
    // While a step waits for a table, everybody else waits behind it.
    transaction.batch_execute("SET LOCAL lock_timeout = '10s'").await.map_err(failed)?;
    let have = match version(&transaction, migrations.len()).await? {
        Some(have) => have,
        None => {
            begin(&transaction).await?;
            0
        }
    };
    for (place, step) in migrations.iter().enumerate().skip(have) {
        let number = i32::try_from(place + 1).unwrap_or(i32::MAX);
        if have > 0 {
            tracing::info!(schema = number, "bringing the database's tables up to date");
        }
        transaction.batch_execute(step.sql).await.map_err(failed)?;
        let row = [
            (&number as &(dyn tokio_postgres::types::ToSql + Sync), Type::INT4),
            (&step.name, Type::TEXT),
            (&step.readable_by, Type::INT4),
        ];
        let insert = "INSERT INTO sendoff.migration (version, name, readable_by) VALUES ($1, $2, $3)";
        transaction.execute_typed(insert, &row).await.map_err(failed)?;
    }
    crash_point!(MigrateBeforeCommit);
    transaction.commit().await.map_err(failed)?;
    crash_point!(MigrateAfterCommit);
    Ok(())
}

async fn check_server(client: &Client) -> Result<()> {
    let query = "SELECT current_setting('server_version_num')::int, pg_is_in_recovery(),
                     current_setting('server_encoding'), current_setting('server_version')";
    let row = client.query_typed_one(query, &[]).await.map_err(failed)?;
    let (number, standby, encoding, version): (i32, bool, &str, &str) =
        (row.get(0), row.get(1), row.get(2), row.get(3));
    if number < OLDEST_SERVER {
        return Err(unusable(format!("it is PostgreSQL {version}; sendoff needs 13 or later")));
    }
    if standby {
        return Err(unusable(
            "its server is a standby, which takes no writes; name the primary, or all servers: host1,host2",
        ));
    }
    if encoding != "UTF8" {
        return Err(unusable(format!("its encoding is {encoding}; create one with ENCODING 'UTF8'")));
    }
    Ok(())
}

/// Which schema the tables have; at most the newest one known here. None if there are none.
async fn version(transaction: &Transaction<'_>, known: usize) -> Result<Option<usize>> {
    let query = "SELECT to_regnamespace('sendoff') IS NOT NULL,
                     EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('sendoff')
                                 AND relname = 'migration' AND relkind = 'r'),
                     EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace('sendoff'))";
    let row = transaction.query_typed_one(query, &[]).await.map_err(failed)?;
    let found = Found { schema: row.get(0), migrations: row.get(1), tables: row.get(2) };
    if !found.migrations {
        if found.schema && found.tables {
            return Err(unusable(
                "its schema \"sendoff\" holds tables of something else; name another database",
            ));
        }
        return Ok(None);
    }
    let query = "SELECT version, readable_by FROM sendoff.migration ORDER BY version DESC LIMIT 1";
    let newest = transaction.query_typed_opt(query, &[]).await.map_err(failed)?;
    let Some(newest) = newest else { return Ok(Some(0)) };
    let (version, readable_by): (i32, i32) = (newest.get(0), newest.get(1));
    let version = usize::try_from(version).unwrap_or(0);
    if version > known && usize::try_from(readable_by).is_ok_and(|needed| needed > known) {
        return Err(Error::new(
            ErrorKind::Newer,
            format!(
                "the database's tables were made by a newer sendoff (schema {version}, this one knows {known}); \
                 use that version or name another database"
            ),
        ));
    }
    Ok(Some(version.min(known)))
}

/// The schema, unless somebody prepared it, and the table of steps.
async fn begin(transaction: &Transaction<'_>) -> Result<()> {
    let query = "SELECT to_regnamespace('sendoff') IS NOT NULL";
    let prepared: bool = transaction.query_typed_one(query, &[]).await.map_err(failed)?.get(0);
    if !prepared {
        transaction.batch_execute("CREATE SCHEMA sendoff").await.map_err(failed)?;
    }
    let table = "CREATE TABLE sendoff.migration (
                     version integer PRIMARY KEY,
                     name text NOT NULL,
                     applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
                     -- The oldest schema whose programs can go on after this step.
                     readable_by integer NOT NULL
                 )";
    transaction.batch_execute(table).await.map_err(failed)
}
