//! The grammar of `migrate`.

use std::path::PathBuf;

use clap::{Args, builder::BoolishValueParser};

use super::Output;

/// Move all jobs and records of a store to PostgreSQL
///
/// Stop the daemon first: the store must not be in use. It is marked before the first job is moved,
/// so that nothing starts from it any more, neither by an older version. Then its rows are moved,
/// with the limits of queues, and read from both and compared. The same command again goes on where
/// it was stopped or killed, and once all is moved it only checks.
#[derive(Debug, Args)]
#[command(after_help = MIGRATE_HELP)]
pub(crate) struct MigrateArgs {
    /// The store to move: a SQLite file
    #[arg(long, value_name = "sqlite:PATH|PATH", env = "SENDOFF_FROM", value_parser = file)]
    pub(crate) from: PathBuf,

    /// Where to: the URL of a database, as for serve --store
    #[arg(
        long,
        value_name = "postgres://…",
        env = "SENDOFF_TO",
        hide_env_values = true,
        required_unless_present = "dry_run"
    )]
    pub(crate) to: Option<String>,

    /// Move and mark nothing: read the store, and what is of it at --to, and say what is there
    #[arg(long, env = "SENDOFF_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    pub(crate) output: Output,
}

fn file(text: &str) -> Result<PathBuf, String> {
    let path = text.strip_prefix("sqlite:").unwrap_or(text);
    if path.is_empty() {
        return Err("names no file".into());
    }
    if path == "memory" || path.starts_with("postgres:") || path.starts_with("postgresql:") {
        return Err("must be a SQLite file: sqlite:PATH, or PATH alone".into());
    }
    Ok(path.into())
}

const MIGRATE_HELP: &str = "\
Examples:
  sendoff migrate --from ~/.local/state/sendoff/sendoff.db --dry-run
  sendoff migrate --from sqlite:jobs.db --to postgres://sendoff@db1,db2/jobs
  sendoff serve --store postgres://sendoff@db1,db2/jobs        and go on there

A command line can be seen by others: give the password as PGPASSWORD, or the URL with it as SENDOFF_TO.

Each row is compared with every field, and by the sum of the rows' SHA-256. Nodes may work on the
database meanwhile: of a job that has gone on since (its fence is higher; or it was pending and is
cancelled, expired or rescheduled) what never changes is compared, and it is counted. Records that
retention deletes there meanwhile are missed: start nodes after the move, or without retention.

Exit codes:
  0  everything is there, as it was
  1  something differs, or rows that cannot be read or held are left behind; they are named
  2  wrong usage
  4  a store is in use, broken or cannot be reached";
