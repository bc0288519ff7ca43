//! `sendoff backup`: a consistent copy of a store that may be in use.

use std::{path::PathBuf, process::ExitCode};

use sendoff::store::SqliteStore;

use crate::{
    args::BackupArgs,
    failure::{Exit, Failure},
    out,
    run::{Place, store_failure},
};

/// Copies.
pub(crate) fn run(args: &BackupArgs) -> Result<ExitCode, Failure> {
    let store = store(args)?;
    if !store.is_file() {
        return Err(Failure::store(format!("{}: there is no store", store.display())));
    }
    if args.file.symlink_metadata().is_ok() {
        return Err(Failure::usage(format!(
            "{}: is there already, and a backup overwrites nothing; name a new file",
            args.file.display()
        )));
    }
    SqliteStore::backup_file(&store, &args.file).map_err(|err| store_failure(&store, &err))?;
    let bytes = std::fs::metadata(&args.file).map_or(0, |file| file.len());
    if args.output.json {
        let (store, file) = (store.display().to_string(), args.file.display().to_string());
        out::json(&serde_json::json!({ "store": store, "file": file, "bytes": bytes }))?;
    } else if !args.output.quiet {
        out::line(&format!("{} copied to {} ({bytes} bytes)", store.display(), args.file.display()))?;
    }
    Ok(Exit::Ok.into())
}

fn store(args: &BackupArgs) -> Result<PathBuf, Failure> {
    let place = match (&args.store, &args.name) {
        (Some(store), _) => Place::given(store),
        (None, Some(name)) => {
            let named = Place::of_run(name)?;
            // A run without a name of its own is called by its file's whole path.
            let path = std::fs::canonicalize(name).ok().filter(|_| !named.exists());
            path.map_or(Ok(named), |path| Place::of_run(&path.to_string_lossy()))?
        }
        (None, None) => return Err(Failure::usage("give --store or --run")),
    };
    match place {
        Place::File(path) => Ok(path),
        Place::Postgres(_) => Err(Failure::usage(
            "a store on PostgreSQL is backed up with PostgreSQL's own means: pg_dump --schema=sendoff, or \
             pg_basebackup with archived WAL",
        )),
        Place::Memory => Err(Failure::usage("a store in memory cannot be copied by another command")),
    }
}
