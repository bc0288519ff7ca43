//! Mixed load for as long as one likes, with kills and clock steps; what must stay flat is measured.

use std::{
    fs,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sendoff::time::{Clock, SystemClock};
use serde_json::json;
use uuid::Uuid;

use super::{
    Chance,
    caller::Caller,
    figure,
    jobs::{self, Recipe},
    judge::{Case, Verdict},
    load::Load,
    nodes::{memory_of, zombies_of},
    records::ended,
    seed,
    sick::{Field, Shim, YEARS_AHEAD},
    until,
    witness::{Endpoint, Ledger},
};
use crate::harness::{Daemon, Place};

const MAX_IN_FLIGHT: usize = 128;
/// Jobs a second that come in batches, beside the others.
const BATCHED: usize = 48;
/// `SqliteOptions::names_in_memory`.
const NAMES: usize = 229_376;
/// The clock steps by so much, in microseconds: less than the time that as many records as are kept take
/// to come, as those of a clock that was behind are taken for older than they are, and go first. Greater
/// steps are those of `sick::clock`.
const STEPS: [i64; 4] = [1_000_000, -1_000_000, 30_000_000, -30_000_000];

/// What the daemon holds at a moment.
struct Sample {
    at: Duration,
    /// Which process of those that were killed one after the other, and since when it runs.
    life: usize,
    age: Duration,
    /// In KiB.
    memory: f64,
    descriptors: usize,
    threads: usize,
    children: usize,
    /// In KiB.
    log: f64,
    database: f64,
}

/// The process to look at.
struct Life {
    number: usize,
    id: u32,
    since: Duration,
}

#[derive(Default)]
struct Incidents {
    kills: usize,
    steps: usize,
}

/// What all rounds have in common.
struct Soak<'a> {
    /// There are no more kills from then on, so that one process lives long.
    calm: Duration,
    place: &'a Place,
    shim: &'a Shim,
    flags: &'a [&'a str],
    life: &'a Mutex<Life>,
    pace: usize,
    long: bool,
}

#[test]
fn what_a_daemon_holds_does_not_grow_with_what_it_has_done() {
    let minutes = figure("SENDOFF_MINUTES", 0);
    let pace = figure("SENDOFF_PACE", if minutes > 0 { 300 } else { 100 });
    let long = minutes > 0;
    let length = Duration::from_secs(if long { minutes as u64 * 60 } else { 16 });
    // What comes in some minutes: many more than the jobs of a round, whose records are still read.
    let rows = (200 * (pace + BATCHED)).to_string();
    let most = MAX_IN_FLIGHT.to_string();
    let flags = ["--max-in-flight", &most, "--log", "error", "--retention-max-final-rows", &rows];
    let more = ["--retention-final", "7300d"];
    let flags = [&flags[..], &more].concat();
    let seed = seed();
    let (place, begun) = (Place::new(), SystemClock.elapsed());
    let shim = Shim::new(&place);
    shim.set(Field::Clock, YEARS_AHEAD);
    let daemon = Daemon::spawn(shim.command(&place, &flags));
    jobs::limit(&mut Caller::new(place.path(daemon.ready["socket"].as_str().unwrap())));
    let life = Mutex::new(Life { number: 0, id: daemon.id(), since: begun });
    let soak =
        Soak { calm: begun + length / 2, place: &place, shim: &shim, flags: &flags, life: &life, pace, long };
    let (mut verdict, mut incidents, over) =
        (Verdict::default(), Incidents::default(), AtomicBool::new(false));
    let (samples, daemon) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(&life, &shim, begun, long, &over));
        let _over = Over(&over);
        let mut daemon = daemon;
        let mut chance = Chance::nth(seed, usize::MAX - 2);
        for number in 0.. {
            if SystemClock.elapsed() - begun >= length {
                break;
            }
            let round = soak.round(daemon, seed.wrapping_add(number), &mut chance, &mut incidents);
            daemon = round.0;
            verdict.add(round.1);
        }
        over.store(true, Ordering::Relaxed);
        (sampler.join().unwrap(), daemon)
    });
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0), "{log}");
    let Incidents { kills, steps } = incidents;
    println!("{:?}, {kills} kills, {steps} clock steps, {verdict}", SystemClock.elapsed() - begun);
    flat(&samples, long, pace);
}

impl Soak<'_> {
    /// Some seconds of load in which there may be a kill and clock steps; judged when all its jobs have
    /// ended.
    fn round(
        &self,
        daemon: Daemon,
        seed: u64,
        chance: &mut Chance,
        incidents: &mut Incidents,
    ) -> (Daemon, Verdict) {
        let endpoint = Endpoint::open();
        let path = self.place.path("ledger");
        let ledger = Ledger::new(path);
        let recipe = Recipe { seed, endpoint: endpoint.address, ledger: Some(ledger.path()), rich: true };
        let socket = self.place.path(daemon.ready["socket"].as_str().unwrap());
        let mut load = Load::new(&recipe, vec![socket.clone()], usize::MAX);
        load.pace = Some(Duration::from_secs(1) / u32::try_from(self.pace).unwrap());
        let (seconds, kill) = if self.long {
            (20, SystemClock.elapsed() < self.calm && chance.below(6) == 0)
        } else {
            (4, true)
        };
        incidents.kills += usize::from(kill);
        let more = Mutex::new(Vec::new());
        let (acknowledged, daemon) = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut caller, mut chance) =
                    (Caller::new(socket.clone()), Chance::nth(seed, usize::MAX - 3));
                while !load.over() {
                    more.lock().unwrap().extend(batches(&mut caller, &mut chance, &endpoint));
                    std::thread::sleep(Duration::from_millis(500));
                }
            });
            load.run(|| {
                let end = SystemClock.elapsed() + Duration::from_secs(seconds);
                let mut daemon = daemon;
                if kill {
                    std::thread::sleep(Duration::from_millis(chance.below(seconds * 700)));
                    daemon.kill();
                    daemon = Daemon::spawn(self.shim.command(self.place, self.flags));
                    let mut life = self.life.lock().unwrap();
                    *life = Life { number: life.number + 1, id: daemon.id(), since: SystemClock.elapsed() };
                }
                while SystemClock.elapsed() < end {
                    let left = end.saturating_sub(SystemClock.elapsed());
                    let pause = Duration::from_millis(chance.below(if self.long { 8_000 } else { 1_500 }));
                    std::thread::sleep(pause.min(left));
                    let by = STEPS[chance.below(4) as usize];
                    self.shim.set(Field::Clock, YEARS_AHEAD + by);
                    std::thread::sleep(Duration::from_millis(chance.below(1_000)));
                    self.shim.set(Field::Clock, YEARS_AHEAD);
                    incidents.steps += 2;
                }
                load.stop.store(true, Ordering::Relaxed);
                daemon
            })
        });
        // What was submitted by a clock that was ahead is due only then, as is right.
        self.shim.set(Field::Clock, YEARS_AHEAD + 2 * STEPS[2]);
        let mut caller = Caller::new(socket);
        let guids = acknowledged.iter().map(|held| held.guid);
        let records = guids.map(|guid| (guid, ended(&mut caller, guid))).collect();
        for guid in more.into_inner().unwrap() {
            assert_eq!(ended(&mut caller, guid).state, "started", "of a batch: {guid}");
        }
        self.shim.set(Field::Clock, YEARS_AHEAD);
        let case = Case {
            recipe: &recipe,
            acknowledged: &acknowledged,
            records: &records,
            endpoint: &endpoint,
            ledger: Some(&ledger),
        };
        let verdict = case.judge();
        let doubts = if kill { MAX_IN_FLIGHT } else { 0 };
        assert!(verdict.doubled <= doubts && verdict.unknown <= doubts, "kill: {kill}, {verdict}");
        until("children that are waited for", || zombies_of(daemon.id()) == 0);
        (daemon, verdict)
    }
}

/// One batch of each way, with jobs whose first attempt the endpoint refuses; the guids.
fn batches(caller: &mut Caller, chance: &mut Chance, endpoint: &Endpoint) -> Vec<Uuid> {
    let mut guids = Vec::new();
    for path in ["/v1/jobs:batch", "/v1/jobs:batch?atomic=false"] {
        let jobs: Vec<_> = (0..12)
            .map(|number| {
                let guid = chance.guid();
                guids.push(guid);
                let start = match number {
                    0..2 => json!({"http": {"url": format!("http://{}/flaky", endpoint.address)}}),
                    _ => json!({"simulated": {"delay": "2ms"}}),
                };
                let retry = json!({"max_attempts": 20, "max_backoff": "100ms"});
                json!({"guid": guid.to_string(), "start": start, "retry": retry}).to_string()
            })
            .collect();
        let body = format!("[{}]", jobs.join(","));
        until("a batch to be acknowledged", || {
            // Repeating it is safe, as each job has its guid.
            caller.fetch("POST", path, &body).is_ok_and(|(status, _)| status == 200)
        });
    }
    guids
}

/// Says that it is over, also if there was a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Looks again and again until it is over.
fn sample(life: &Mutex<Life>, shim: &Shim, begun: Duration, long: bool, over: &AtomicBool) -> Vec<Sample> {
    let mut samples = Vec::new();
    println!("       at      age     memory  descriptors  threads  children        log   database");
    while !over.load(Ordering::Relaxed) {
        // There is nothing to wait at: it is a matter of time.
        std::thread::sleep(Duration::from_secs(1));
        let now = SystemClock.elapsed();
        let Life { number, id, since } = *life.lock().unwrap();
        // It may just have been killed.
        let (Some(memory), Some(threads)) = (memory_of(id), entries(id, "task")) else { continue };
        let Some(descriptors) = entries(id, "fd") else { continue };
        let size = |name: &str| {
            fs::metadata(shim.store.with_extension(name)).map_or(0.0, |file| file.len() as f64 / 1024.0)
        };
        let sample = Sample {
            at: now - begun,
            life: number,
            age: now - since,
            memory: memory as f64,
            descriptors,
            threads,
            children: children(id),
            log: size("db-wal"),
            database: size("db"),
        };
        if samples.len() % if long { 60 } else { 2 } == 0 {
            println!("{sample}");
        }
        samples.push(sample);
    }
    samples
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (at, age) = (self.at.as_secs(), self.age.as_secs());
        let Self { memory, descriptors, threads, children, log, database, .. } = self;
        write!(
            f,
            "{at:>7} s {age:>6} s {memory:>6} KiB {descriptors:>12} {threads:>8} {children:>9} {log:>6.0} KiB {database:>6.0} KiB"
        )
    }
}

/// How many entries a directory of this process has in /proc.
fn entries(id: u32, name: &str) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{id}/{name}")).ok()?.count())
}

fn children(id: u32) -> usize {
    let tasks = fs::read_dir(Path::new("/proc").join(id.to_string()).join("task"));
    let of_task = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.into_iter().flatten().flatten().map(|task| of_task(task).split_whitespace().count()).sum()
}

/// Fails if something grew that should not. Only the long run lasts until sizes should be flat: sooner
/// retention has nothing to do, and memory is still taken for the first time.
fn flat(samples: &[Sample], long: bool, pace: usize) {
    let most = |of: fn(&Sample) -> usize| samples.iter().map(of).max().unwrap();
    let (descriptors, threads) = (most(|sample| sample.descriptors), most(|sample| sample.threads));
    let children = most(|sample| sample.children);
    let log = samples.iter().map(|sample| sample.log).fold(0.0, f64::max);
    println!("at most {descriptors} descriptors, {threads} threads, {children} children, {log} KiB of log");
    // Connections of jobs and callers, and some thirty files and pipes.
    assert!(descriptors <= MAX_IN_FLIGHT * 2 + 100, "{descriptors} descriptors");
    assert!(threads <= 64, "{threads} threads");
    // The log begins anew after 8,192 pages at most, and what was written meanwhile.
    assert!(log <= 80.0 * 1024.0, "{log} KiB of log");
    if !long {
        return;
    }
    let half = samples.last().unwrap().at / 2;
    let later: Vec<_> = samples.iter().filter(|sample| sample.at >= half).collect();
    // The names of so many jobs are kept in memory, and until then memory grows; a busy machine takes
    // longer to come to that.
    let filled = Duration::from_secs(120 + (NAMES / (pace + BATCHED)) as u64);
    let last = samples.last().unwrap().life;
    let old: Vec<_> = later.iter().copied().filter(|one| one.life == last && one.age >= filled).collect();
    let for_long = old.len() >= 10 * 60;
    assert!(
        for_long,
        "no process lived for long after {filled:?}: make SENDOFF_MINUTES or SENDOFF_PACE more"
    );
    println!(
        "the last process, from {filled:?} after its start: the most in the first half and in the second"
    );
    steady("memory in KiB", &old, |sample| sample.memory);
    steady("descriptors", &old, |sample| sample.descriptors as f64);
    steady("threads", &old, |sample| sample.threads as f64);
    println!("the later half of all");
    steady("log in KiB", &later, |sample| sample.log);
    steady("database in KiB", &later, |sample| sample.database);
}

/// The most, not the mean or a line through all: memory comes and goes in steps of a fifth, as tables
/// are made and given back.
fn steady(name: &str, samples: &[&Sample], of: fn(&Sample) -> f64) {
    let (sooner, later) = samples.split_at(samples.len() / 2);
    let most = |part: &[&Sample]| part.iter().map(|sample| of(sample)).fold(0.0, f64::max);
    let (was, is) = (most(sooner), most(later));
    println!("{name}: {was:.0}, {is:.0}");
    assert!(is <= was * 1.1 + 8.0, "{name} grew from {was} to {is}");
}
