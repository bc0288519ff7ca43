//! The daemon: engine, listeners, and what a service manager expects of it.

mod accept;
mod body;
mod connection;
mod crowd;
mod database;
mod engine;
#[cfg(test)]
pub(crate) mod fuzz;
mod gate;
mod listen;
mod live;
mod notify;
mod reload;
mod retention;
mod tls;

use std::{process::ExitCode, sync::Arc};

use rustix::process::{Resource, getrlimit, setrlimit};
use sd_notify::NotifyState;
use sendoff::{Scheduler, starter::SharedPolicy};
use serde_json::json;
use tokio::{sync::watch, task::JoinSet};

use self::{
    accept::Door, connection::Server, crowd::Crowd, gate::Gate, live::Live, reload::Reload, tls::Tls,
};
use crate::{
    access::Keyring,
    api::{Api, Metrics},
    args::ServeArgs,
    config::{self, Config},
    failure::{Exit, Failure},
    log, out,
    signals::{Received, Signals},
};

/// Files that may be open: some thirty are its own, the rest is for callers and starts.
const DESCRIPTORS: u64 = 64;
/// Memory that may be addressed, in MiB. Its threads' stacks and the allocator's segments take some 80
/// before the first job; an allocator that is refused cannot say so, it aborts.
const ADDRESSES: u64 = 256;
/// Threads beside the runtime's: the store's, those that start processes.
const THREADS: usize = 10;

/// How long opening the store may take, in microseconds: half an hour.
const OPENING: u32 = 1_800_000_000;

/// Fails if the daemon would not get far.
pub(crate) fn check_resources() -> Result<(), Failure> {
    allow_descriptors();
    if let Some(limit) = getrlimit(Resource::Nofile).current.filter(|limit| *limit < DESCRIPTORS) {
        return Err(Failure::store(format!(
            "only {limit} files may be open at once, and the daemon needs {DESCRIPTORS}; raise the limit \
             (ulimit -n, LimitNOFILE=)"
        )));
    }
    let addresses = getrlimit(Resource::As).current.map(|bytes| bytes >> 20);
    if let Some(limit) = addresses.filter(|limit| *limit < ADDRESSES) {
        return Err(Failure::store(format!(
            "only {limit} MiB of memory may be addressed, and the daemon needs {ADDRESSES}; raise the limit \
             (ulimit -v, LimitAS=)"
        )));
    }
    // The runtime would panic without its threads.
    let count = std::thread::available_parallelism().map_or(1, usize::from) + THREADS;
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let threads: Vec<_> = (0..count)
        .map(|_| {
            let held = held.clone();
            std::thread::Builder::new().spawn(move || drop(held.lock().map(|held| held.recv())))
        })
        .collect();
    drop(hold);
    for thread in threads {
        let thread = thread.map_err(|err| {
            Failure::store(format!(
                "the system does not give the {count} threads that the daemon needs ({err}); raise the limit \
                 of processes or memory (ulimit -u and -v, LimitNPROC=, TasksMax=, MemoryMax=)"
            ))
        })?;
        let _ = thread.join();
    }
    Ok(())
}

/// Serves until it is told to stop.
pub(crate) async fn run(args: ServeArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen_as_daemon()?;
    let loaded = config::load(&args.settings)?;
    let config = loaded.config.clone();
    let set_filter = log::daemon(&config.log, config.log_format)?;
    let tls = Tls::load(&config)?;
    let keyring = Arc::new(Keyring::open(config.tokens.clone())?);
    // Bringing a large store up to date may take longer than a service manager waits.
    notify::tell(&[NotifyState::ExtendTimeoutUsec(OPENING), NotifyState::Status("opening the store")]);
    let store = tokio::select! {
        store = engine::open(&config) => store?,
        () = until_told_to_stop(&mut signals) => return Ok(Exit::Ok.into()),
    };
    let fleet = store.fleet();
    let doors = doors(&config, tls.as_ref())?;
    let policy = SharedPolicy::new(config.policy())
        .hint("the daemon's configuration says what is, under [allow] and [allow_local]");
    let metrics = Metrics::new();
    let scheduler = engine::start(&config, store, policy.clone(), metrics.clone()).await?;
    let live = Live::new(loaded);
    let server = Arc::new(Server {
        api: Api::new(scheduler.clone(), metrics, fleet),
        gate: Gate::new(live.clone(), keyring.clone()),
        live: live.clone(),
    });
    if !config.listen.is_empty() && keyring.is_empty() {
        tracing::warn!("nobody can use TCP yet: there is no token; `sendoff token create` makes one");
    }
    sendoff::crash_point!(ReadyBefore);
    announce(&args, &config, &scheduler, &doors)?;

    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let (remote, own) = (config.limits.connections, (config.limits.connections / 8).max(16));
    let (remote, own) = (Crowd::new(remote), Crowd::new(own));
    for door in doors {
        let crowd = if matches!(door, Door::Unix(_)) { &own } else { &remote };
        tasks.spawn(door.keep(server.clone(), crowd.clone(), stopped.clone()));
    }
    let mut aside = JoinSet::new();
    aside.spawn(retention::keep(scheduler.clone(), live.clone()));
    aside.spawn(notify::keep_alive(scheduler.clone()));
    notify::tell(&[NotifyState::Ready, NotifyState::Status("serving")]);

    let reload = Reload { settings: args.settings, live: live.clone(), policy, keyring, tls, set_filter };
    until_stopped(&mut signals, &scheduler, &reload).await?;
    tracing::info!("stopping: starts under way may end first; a second signal ends at once");
    notify::tell(&[NotifyState::Stopping, NotifyState::Status("letting starts under way end")]);
    // Event streams and waits end, so that their connections can.
    server.api.stop();
    let grace = live.current().config().grace.duration();
    let end = async {
        let ended = scheduler.shutdown(grace).await;
        // Until now callers could read; what they asked for last is answered.
        let _ = stop.send(true);
        while tasks.join_next().await.is_some() {}
        ended
    };
    tokio::select! {
        ended = end => {
            ended.map_err(|err| Failure::store(err.to_string()))?;
            tracing::info!("stopped");
            Ok(Exit::Ok.into())
        }
        () = until_told_to_stop(&mut signals) => Err(Failure::not_all(
            "ended at once, with starts under way; they count as interrupted by a crash",
        )),
    }
}

/// Waits for what ends the daemon; reads the configuration again meanwhile.
async fn until_stopped(signals: &mut Signals, scheduler: &Scheduler, reload: &Reload) -> Result<(), Failure> {
    loop {
        tokio::select! {
            received = signals.received() => match received {
                Received::Stop => return Ok(()),
                Received::Hangup => reload.run(scheduler),
            },
            fatal = scheduler.fatal() => {
                tracing::error!("nothing is acknowledged any more: {fatal}");
                return Err(Failure::store(fatal.to_string()));
            }
        }
    }
}

async fn until_told_to_stop(signals: &mut Signals) {
    while signals.received().await != Received::Stop {}
}

/// Opens every place where connections come in.
fn doors(config: &Config, tls: Option<&Tls>) -> Result<Vec<Door>, Failure> {
    let mut doors = Vec::new();
    if let Some(path) = config.socket() {
        doors.push(Door::Unix(listen::unix(path)?));
    }
    for address in &config.listen {
        doors.push(Door::Tcp(listen::tcp(*address)?, tls.cloned()));
    }
    Ok(doors)
}

/// Says where it serves: one line on stdout.
fn announce(args: &ServeArgs, config: &Config, scheduler: &Scheduler, doors: &[Door]) -> Result<(), Failure> {
    let scheme = if config.tls().is_some() { "https" } else { "http" };
    let urls = doors.iter().filter_map(Door::address).map(|address| format!("{scheme}://{address}"));
    let urls: Vec<_> = urls.collect();
    let socket = config.socket().map(|path| path.display().to_string());
    let (store, durability) = (config.store.to_string(), scheduler.durability());
    if args.output.json {
        return out::json(&json!({
            "store": store, "durability": durability, "socket": socket, "listen": urls
        }));
    }
    if args.output.quiet {
        return socket.iter().chain(&urls).try_for_each(|place| out::line(place));
    }
    let places: Vec<_> = socket.into_iter().chain(urls).collect();
    let worth = serde_json::to_value(durability).unwrap_or_default();
    let worth = worth.as_str().unwrap_or("unknown");
    out::line(&format!("serving on {} (store {store}, durability {worth})", places.join(" and ")))
}

/// Connections and children take descriptors: as many as the system lets this process have.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With fewer, connections and starts wait for their turn.
    let _ = setrlimit(Resource::Nofile, limit);
}
