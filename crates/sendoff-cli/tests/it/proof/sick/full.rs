//! A disk that fills up under load and is freed again, with the daemon running all along.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::Ordering,
    time::Duration,
};

use sendoff::time::{Clock, SystemClock};

use super::super::{
    Chance,
    caller::Caller,
    figure,
    jobs::Recipe,
    judge::Case,
    load::Load,
    records::ended,
    seed, until,
    witness::{Endpoint, Ledger},
};
use crate::harness::{Daemon, Place};

/// The size of the store's file system.
const MEBIBYTES: u64 = 256;
/// Submits a second.
const PACE: u32 = 200;
/// Less than what is kept free for what is under way (2 % of it), and enough for that.
const LEFT: u64 = 4 << 20;
const LATER: &str = r#"{"start":{"simulated":{"delay":"1ms"}},"delay":"1h"}"#;

#[test]
fn a_full_disk_costs_nothing_but_new_jobs_and_passes_without_a_restart() {
    let rounds = figure("SENDOFF_ROUNDS", 4);
    let seed = seed();
    let place = Place::new();
    let directory = place.path("state/sendoff");
    fs::create_dir_all(&directory).unwrap();
    let inner = Daemon::command(&place, &["--log", "warn"]);
    let Some(command) = on_small_disk(&directory, &inner) else { return };
    let daemon = Daemon::spawn(command);
    let socket = place.path(daemon.ready["socket"].as_str().unwrap());
    // The daemon's mounts are its own; from outside they are seen through it.
    let disk = PathBuf::from(format!("/proc/{}/root{}", daemon.id(), directory.display()));

    let endpoint = Endpoint::open();
    let ledger = Ledger::new(place.path("ledger"));
    let recipe = Recipe { seed, endpoint: endpoint.address, ledger: Some(ledger.path()), rich: false };
    let mut load = Load::new(&recipe, vec![socket.clone()], usize::MAX);
    load.pace = Some(Duration::from_secs(1) / PACE);
    load.full.store(true, Ordering::Relaxed);
    let (acknowledged, recoveries) = load.run(|| {
        let mut chance = Chance::nth(seed, usize::MAX - 1);
        let mut recoveries = Vec::new();
        for round in 0..rounds {
            let waiting = [(); 2].map(|()| submitted(&daemon));
            let grown = load.acknowledged.load(Ordering::Relaxed) + 20 + chance.below(100) as usize;
            until("jobs", || load.acknowledged.load(Ordering::Relaxed) >= grown);
            // To the last byte, or to what is kept for jobs that are there.
            let left = if round % 2 == 0 { LEFT } else { 0 };
            let filler = fill(&disk, left);
            let before = load.no_room.load(Ordering::Relaxed);
            until("refused submits", || load.no_room.load(Ordering::Relaxed) >= before + 20);
            if left > 0 {
                daemon.ask("POST", &format!("/v1/jobs/{}:cancel", waiting[0]), "").status(200);
                daemon.ask("POST", &format!("/v1/jobs/{}:start-now", waiting[1]), "").status(200);
                let mut caller = Caller::new(socket.clone());
                assert_eq!(ended(&mut caller, waiting[1].parse().unwrap()).state, "started");
            }
            daemon.ask("GET", "/v1/stats", "").status(200);
            let before = load.acknowledged.load(Ordering::Relaxed);
            fs::remove_file(filler).unwrap();
            let freed = SystemClock.elapsed();
            until("submits", || load.acknowledged.load(Ordering::Relaxed) > before);
            recoveries.push(SystemClock.elapsed() - freed);
        }
        load.stop.store(true, Ordering::Relaxed);
        recoveries
    });

    let mut caller = Caller::new(socket);
    let guids = acknowledged.iter().map(|held| held.guid);
    let records = guids.map(|guid| (guid, ended(&mut caller, guid))).collect();
    let case = Case {
        recipe: &recipe,
        acknowledged: &acknowledged,
        records: &records,
        endpoint: &endpoint,
        ledger: Some(&ledger),
    };
    let verdict = case.judge();
    assert_eq!((verdict.doubled, verdict.unknown), (0, 0), "nothing had crashed");
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    println!(
        "{rounds} times full, {} submits answered 507; from free space to the next acknowledged submit at most {:.1?}; {verdict}",
        load.no_room.load(Ordering::Relaxed),
        recoveries.iter().max().unwrap()
    );
}

/// The guid of a job that waits.
fn submitted(daemon: &Daemon) -> String {
    let record = daemon.ask("POST", "/v1/jobs", LATER).status(201).json();
    record["guid"].as_str().unwrap().to_owned()
}

/// The same command with a small file system of its own on this directory.
fn on_small_disk(directory: &Path, inner: &Command) -> Option<Command> {
    let script = format!(r#"mount -t tmpfs -o size={MEBIBYTES}m,mode=700 tmpfs "$0" && exec "$@""#);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]).arg(directory);
    let allowed = command.arg("true").output();
    if !allowed.as_ref().is_ok_and(|ended| ended.status.success()) {
        eprintln!(
            "skipped: no small file system can be mounted ({allowed:?}); it needs unshare(1) and user \
             namespaces: sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0"
        );
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script]).arg(directory);
    Some(wrapped(command, inner))
}

/// A command that ends in exec of what follows it, with the other command behind it.
pub(super) fn wrapped(mut wrapper: Command, inner: &Command) -> Command {
    wrapper.arg(inner.get_program()).args(inner.get_args());
    wrapper.current_dir(inner.get_current_dir().unwrap());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => wrapper.env(name, value),
            None => wrapper.env_remove(name),
        };
    }
    wrapper.stdin(std::process::Stdio::null());
    wrapper.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    wrapper
}

/// Writes a file until only so many bytes are left; its path.
fn fill(disk: &Path, left: u64) -> PathBuf {
    let path = disk.join("filler");
    let mut file = fs::File::create(&path).unwrap();
    let block = [0xa5; 64 << 10];
    while rustix::fs::statvfs(disk).map(|stat| stat.f_bavail * stat.f_frsize).unwrap() > left
        && file.write_all(&block).is_ok()
    {}
    path
}
