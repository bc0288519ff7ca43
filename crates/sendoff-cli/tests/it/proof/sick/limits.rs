//! Too few descriptors, processes or too little memory: a clear refusal at the start, or it runs.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{Chance, caller::Caller, seed, until, witness::Endpoint},
    full::wrapped,
};
use crate::harness::{Daemon, Place};

/// Of each kind.
const JOBS: usize = 20;
/// A user with no rights and, as a rule, no processes.
const NOBODY: &str = "65534";

/// What became of a daemon within a limit.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Fared {
    /// It did not start.
    Refused,
    /// It started everything that it was given.
    Ran,
    /// It took a higher limit to start the rest.
    RanLater,
}

#[test]
fn descriptors_run_out_and_nothing_is_lost() {
    let limits = [8, 32, 63, 64, 72, 96, 512];
    let fared = limits.map(|limit| (limit, sweep(Resource::Nofile, "nofile", limit)));
    println!("descriptors: {fared:?}");
    assert_eq!(fared[0].1, Fared::Refused);
    assert!(fared.iter().all(|(limit, fared)| *limit < 64 || *fared != Fared::Refused), "{fared:?}");
    assert_eq!(fared[6].1, Fared::Ran);
}

#[test]
fn processes_run_out_and_nothing_is_lost() {
    // Threads count too, so what others of this user run is on top.
    let others = tasks_of_user() as u64;
    let limits = [1, 2, 4, 6, 8, 10, 12, 16, 24, 64];
    let fared = limits.map(|limit| (limit, sweep(Resource::Nproc, "nproc", others + limit)));
    println!("processes: {fared:?}, beside {others}");
    assert_eq!(fared[9].1, Fared::Ran);
}

#[test]
fn memory_runs_out_and_nothing_is_lost() {
    let limits = [64, 255, 256, 512, 2048];
    let fared = limits.map(|mebibytes| (mebibytes, sweep(Resource::As, "as", mebibytes << 20)));
    println!("address space in MiB: {fared:?}");
    let refused = fared.map(|(_, fared)| fared == Fared::Refused);
    assert_eq!(refused, [true, true, false, false, false]);
    assert_eq!(fared[4].1, Fared::Ran);
}

/// A daemon within this limit is given jobs; every one that it acknowledged starts once, in its first
/// attempt.
fn sweep(resource: Resource, name: &str, limit: u64) -> Fared {
    let place = Place::new();
    let inner = Daemon::command(&place, &["--log", "warn", "--max-in-flight", "64"]);
    let daemon = match Daemon::try_spawn(limited(&place, &inner, name, limit)) {
        Ok(daemon) => daemon,
        Err((code, said)) => {
            assert!(!said.contains("panicked"), "{name} {limit}: {code:?} {said}");
            assert!(code.is_some_and(|code| code != 0), "{name} {limit}: {code:?} {said}");
            assert!(!said.trim().is_empty(), "{name} {limit}: it does not say why");
            println!("{name} {limit}: refused with {code:?}: {}", said.trim());
            return Fared::Refused;
        }
    };
    let mut chance = Chance::nth(seed(), limit as usize);
    let endpoint = Endpoint::open();
    let folder = place.path("touched");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let socket = place.path(daemon.ready["socket"].as_str().unwrap());
    let mut caller = Caller::new(socket);
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        for kind in ["http", "process", "simulated"] {
            let guid = chance.guid();
            let start = match kind {
                "http" => json!({"http": {"url": format!("http://{}/20", endpoint.address)}}),
                "process" => {
                    json!({"process": {"program": "/bin/touch", "args": [folder.join(guid.to_string())]}})
                }
                _ => json!({"simulated": {"delay": "20ms"}}),
            };
            let job = json!({"start": start, "guid": guid.to_string(), "delivery": "at_most_once"});
            let mut answer = None;
            until("a submit to be answered", || {
                answer = caller.ask("POST", "/v1/jobs", &job.to_string()).ok();
                answer.is_some()
            });
            let (status, record) = answer.unwrap();
            assert!([200, 201].contains(&status), "{name} {limit}: {record}");
            jobs.push((guid, kind));
        }
    }
    let mut fared = Fared::Ran;
    for (guid, kind) in &jobs {
        let mut record = seen(&mut caller, *guid, "5s");
        if record["state"] != "started" {
            // It never had what a start needs.
            let most = (resource != Resource::As).then_some(4_096);
            let pid = Pid::from_raw(daemon.id().cast_signed());
            prlimit(pid, resource, Rlimit { current: most, maximum: most }).unwrap();
            fared = Fared::RanLater;
            record = seen(&mut caller, *guid, "60s");
        }
        assert_eq!(record["state"], "started", "{name} {limit}: {record}");
        assert_eq!(
            (&record["attempt"], &record["crashes"]),
            (&1.into(), &0.into()),
            "{name} {limit}: {record}"
        );
        if *kind == "process" {
            until("a process that has done its work", || folder.join(guid.to_string()).exists());
        }
    }
    let calls = endpoint.counts();
    for (guid, _) in jobs.iter().filter(|(_, kind)| *kind == "http") {
        assert_eq!(calls.get(guid), Some(&1), "{name} {limit}: {guid}");
    }
    daemon.ask("GET", "/v1/stats", "").status(200);
    drop(caller);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{name} {limit}: {log}");
    assert!(!log.contains("panicked"), "{name} {limit}: {log}");
    fared
}

/// The record after so long, or as soon as it is final; null if nobody answered.
fn seen(caller: &mut Caller, guid: Uuid, wait: &str) -> Value {
    let answer = caller.ask("GET", &format!("/v1/jobs/{guid}?wait={wait}"), "");
    answer.map_or(Value::Null, |(_, record)| record)
}

/// The command within a limit; root, for whom the number of processes is not limited, becomes nobody.
fn limited(place: &Place, inner: &Command, name: &str, limit: u64) -> Command {
    let limit = format!("--{name}={limit}");
    if name == "nproc" && is_root() {
        fs::set_permissions(place.path("."), fs::Permissions::from_mode(0o777)).unwrap();
        let mut command = Command::new("prlimit");
        command.args([&limit, "setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        return wrapped(command, inner);
    }
    let mut command = Command::new("prlimit");
    command.arg(&limit);
    wrapped(command, inner)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Threads of the user that [`limited`] runs as.
fn tasks_of_user() -> usize {
    let user = if is_root() { NOBODY.to_owned() } else { rustix::process::geteuid().as_raw().to_string() };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let threads = processes.filter_map(|process| {
        let status = fs::read_to_string(process.path().join("status")).ok()?;
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|rest| rest.split_whitespace().next())
        };
        if field("Uid:")? != user {
            return None;
        }
        field("Threads:")?.parse::<usize>().ok()
    });
    threads.sum()
}
