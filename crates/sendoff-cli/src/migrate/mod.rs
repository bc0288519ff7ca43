//! `sendoff migrate`: a store's jobs move to PostgreSQL.

mod progress;
mod report;

use std::process::ExitCode;

use sendoff::store::{
    PostgresImport, SqliteOptions, SqliteStore,
    transfer::{Migration, Report},
};

use self::progress::Bar;
use crate::{
    args::MigrateArgs,
    failure::{Exit, Failure},
    out,
};

/// Moves and checks, or only looks.
pub(crate) async fn run(args: MigrateArgs) -> Result<ExitCode, Failure> {
    if !args.from.is_file() {
        return Err(Failure::store(format!("{}: there is no store", args.from.display())));
    }
    let target = match &args.to {
        None => None,
        Some(url) if args.dry_run => Some(PostgresImport::look(url).await.map_err(|err| failure(&err))?),
        Some(url) => Some(PostgresImport::connect(url).await.map_err(|err| failure(&err))?),
    };
    let options = SqliteOptions { moved_too: true, ..SqliteOptions::default() };
    let source = SqliteStore::open(&args.from, options).map_err(|err| failure(&err))?;
    let report = work(&args, &source, target.as_ref()).await.map_err(|err| {
        let mut failure = failure(&err);
        if !args.dry_run && source.moved().is_some() {
            failure.message.push_str(" (the same command goes on where it stopped)");
        }
        failure
    })?;
    let exit = if report.is_whole() { Exit::Ok } else { Exit::NotAll };
    let told = report::Told {
        from: &args.from,
        to: target.as_ref().map(PostgresImport::place),
        dry_run: args.dry_run,
        report: &report,
    };
    if args.output.json {
        out::json(&told.json(exit as u8))?;
    } else if !args.output.quiet {
        out::line(&told.text())?;
    }
    Ok(exit.into())
}

async fn work(
    args: &MigrateArgs,
    source: &SqliteStore,
    target: Option<&PostgresImport>,
) -> sendoff::Result<Report> {
    let mut bar = (!args.output.quiet).then(Bar::new);
    let mut tell = |progress| {
        if let Some(bar) = &mut bar {
            bar.show(progress);
        }
    };
    let migration = Migration::new(source, target);
    if args.dry_run { migration.check(&mut tell).await } else { migration.run(&mut tell).await }
}

fn failure(err: &sendoff::Error) -> Failure {
    let exit = if err.is_invalid() { Exit::Usage } else { Exit::Store };
    Failure { exit, message: err.to_string() }
}
