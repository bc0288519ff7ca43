//! What `run` asks of the library: its stores, its starters, its scheduler.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sendoff::{
    Builder, Checker, Reach, Scheduler,
    ports::Store,
    starter::{
        HttpStarter, Policy, ProcessEnv, ProcessOptions, ProcessStarter, SharedPolicy, SimulatedStarter,
    },
    store::{MemoryStore, SqliteOptions, SqliteStore},
};

use super::place::Place;
use crate::{
    args::RunArgs,
    failure::{Exit, Failure},
};

/// Opens the store, or makes it.
pub(crate) fn open(args: &RunArgs, place: &Place) -> Result<Arc<dyn Store>, Failure> {
    place.prepare()?;
    match place {
        Place::Postgres(_) => Err(shared()),
        Place::Memory => Ok(Arc::new(MemoryStore::new())),
        Place::File(path) => {
            let mut options = SqliteOptions::default();
            if let Some(mebibytes) = args.keep_free {
                options.keep_free_bytes = mebibytes << 20;
                options.keep_free_percent = 100;
            }
            let store = SqliteStore::open(path, options).map_err(|err| store_failure(path, &err))?;
            Ok(Arc::new(store))
        }
    }
}

/// A run owns its store.
fn shared() -> Failure {
    Failure::usage(
        "--store: a run keeps a store of its own, a path or memory; jobs for a fleet on PostgreSQL go to one of \
         its daemons, with `sendoff batch FILE --url …`",
    )
}

/// Where the run keeps its jobs, if it may.
pub(crate) fn place(args: &RunArgs, name: &str) -> Result<Place, Failure> {
    match args.store.as_deref().map(Place::given) {
        Some(Place::Postgres(_)) => Err(shared()),
        Some(place) => Ok(place),
        None => Place::of_run(name),
    }
}

/// The store's error, which names the store and says what to do, and the flag for doing it.
pub(crate) fn store_failure(path: &Path, err: &sendoff::Error) -> Failure {
    let flag = if err.is_full() {
        "; then the same command goes on where it stopped"
    } else if err.is_unusable() {
        " (--store names another one)"
    } else {
        ""
    };
    let words = err.to_string();
    let named = path.file_name().is_none_or(|name| words.contains(&*name.to_string_lossy()));
    let place = if named { String::new() } else { format!("{}: ", path.display()) };
    Failure { exit: Exit::Store, message: format!("{place}{words}{flag}") }
}

/// As [`store_failure`], wherever the store is.
pub(crate) fn failure(place: &Place, err: &sendoff::Error) -> Failure {
    match place {
        Place::File(path) => store_failure(path, err),
        Place::Memory => Failure::store(err.to_string()),
        Place::Postgres(url) => Failure::store(format!("{url}: {err}")),
    }
}

fn starters(args: &RunArgs) -> Result<Builder, Failure> {
    let invalid = |err: sendoff::Error| Failure::usage(err.to_string());
    let env = if args.clean_env { ProcessEnv::Clean } else { ProcessEnv::Inherit };
    let mut process = ProcessOptions::new().env(env);
    if let Some(running) = max_running(args) {
        process = process.max_running(running);
    }
    let mut http = HttpStarter::builder().policy(policy(args));
    if let Some(limit) = args.max_per_destination {
        http = http.max_per_destination(limit);
    }
    Ok(Scheduler::builder()
        .starter(SimulatedStarter)
        .starter(ProcessStarter::with_options(process).map_err(invalid)?)
        .starter(http.build().map_err(invalid)?)
        .max_in_flight(args.max_in_flight))
}

/// What HTTP jobs may reach: the public and this machine, and what the user allows besides. Whoever
/// runs this command could read every secret of its user, so none is kept from a job.
fn policy(args: &RunArgs) -> SharedPolicy {
    let mut networks: Vec<IpNet> = vec![
        Ipv4Net::new_assert(Ipv4Addr::LOCALHOST, 8).into(),
        Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128).into(),
    ];
    networks.extend(args.allow_network.iter().flat_map(|allowed| &allowed.0));
    let reach =
        Reach { networks, secrets: ["env:*", "file:/"].map(str::to_owned).into(), ..Reach::default() };
    SharedPolicy::new(Policy { everyone: reach.clone(), local: reach }).hint("--allow-network allows it")
}

fn max_running(args: &RunArgs) -> Option<usize> {
    let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
    args.max_running.or_else(|| args.each_line.is_some().then(cpus))
}

/// Refuses what the scheduler would refuse.
pub(crate) fn checker(args: &RunArgs) -> Result<Checker, Failure> {
    starters(args)?.checker().map_err(|err| Failure::usage(err.to_string()))
}

/// Starts the scheduler, and with it what is pending in the store.
pub(crate) async fn start(
    args: &RunArgs,
    place: &Place,
    store: Arc<dyn Store>,
    key: &str,
) -> Result<Scheduler, Failure> {
    let builder = starters(args)?.store(store).submitted_by(key);
    builder.start().await.map_err(|err| failure(place, &err))
}
