//! Those who submit the jobs.

use std::{
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sendoff::time::{Clock, SystemClock};
use serde_json::Value;
use uuid::Uuid;

use super::{caller::Caller, jobs::Recipe};

const CALLERS: usize = 16;
/// A node that is stopped does not answer; its caller turns to another.
const PATIENCE: Duration = Duration::from_secs(3);

/// After this long without an answer the fleet is taken for dead.
const GIVE_UP: Duration = Duration::from_secs(900);

/// What a caller knows of a job whose submit was acknowledged.
pub(super) struct Acknowledged {
    pub(super) number: usize,
    pub(super) guid: Uuid,
    pub(super) cancel: Cancel,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cancel {
    NotAsked,
    Cancelled { maybe_started: bool },
    TooLate,
}

/// Callers who submit jobs until all are acknowledged or they are told to stop.
pub(super) struct Load<'a> {
    pub(super) recipe: &'a Recipe<'a>,
    pub(super) sockets: Vec<PathBuf>,
    /// So many jobs at most.
    pub(super) jobs: usize,
    /// From one submit to the next; `None`: as fast as can be.
    pub(super) pace: Option<Duration>,
    next: AtomicUsize,
    pub(super) acknowledged: AtomicUsize,
    pub(super) stop: AtomicBool,
    /// Answers that said "later".
    pub(super) refused: AtomicUsize,
    /// Whether the disk may be full.
    pub(super) full: AtomicBool,
    /// Answers that said that it is.
    pub(super) no_room: AtomicUsize,
    /// When submits were acknowledged, by the boot-time clock; kept only with a pace.
    pub(super) moments: Mutex<Vec<Duration>>,
    begun: Duration,
}

impl<'a> Load<'a> {
    pub(super) fn new(recipe: &'a Recipe<'a>, sockets: Vec<PathBuf>, jobs: usize) -> Self {
        Self {
            recipe,
            sockets,
            jobs,
            pace: None,
            next: AtomicUsize::new(0),
            acknowledged: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            full: AtomicBool::new(false),
            no_room: AtomicUsize::new(0),
            moments: Mutex::default(),
            begun: SystemClock.elapsed(),
        }
    }

    /// Whether nothing more will be submitted.
    pub(super) fn over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.acknowledged.load(Ordering::Relaxed) >= self.jobs
    }

    /// Submits everything, again after a broken answer, until all is acknowledged; meanwhile, `trouble`.
    pub(super) fn run<T: Send>(&self, trouble: impl FnOnce() -> T + Send) -> (Vec<Acknowledged>, T) {
        std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..CALLERS).map(|number| scope.spawn(move || self.submit(number))).collect();
            let trouble = scope.spawn(|| {
                // Also if it panics, so that nobody goes on for ever.
                let _end = End(&self.stop);
                let result = trouble();
                while !self.over() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result
            });
            let acknowledged = callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect();
            (acknowledged, trouble.join().unwrap())
        })
    }

    fn submit(&self, first: usize) -> Vec<Acknowledged> {
        let mut caller = Caller::of_fleet(self.sockets.clone(), first, PATIENCE);
        let mut acknowledged = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.jobs {
                break;
            }
            if let Some(pace) = self.pace {
                let due = self.begun + pace * u32::try_from(number).unwrap();
                std::thread::sleep(due.saturating_sub(SystemClock.elapsed()));
            }
            acknowledged.push(self.one(&mut caller, number));
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            if self.pace.is_some() {
                self.moments.lock().unwrap().push(SystemClock.elapsed());
            }
        }
        acknowledged
    }

    fn one(&self, caller: &mut Caller, number: usize) -> Acknowledged {
        let job = self.recipe.job(number);
        let record = self.until_answered(caller, "/v1/jobs", &job.body, &[200, 201]).1;
        let guid = guid_of(&record);
        match job.guid {
            Some(wanted) => assert_eq!(guid, wanted),
            None => {
                // Its key is used a second time, on another node.
                caller.elsewhere();
                let again = self.until_answered(caller, "/v1/jobs", &job.body, &[200]).1;
                assert_eq!(guid_of(&again), guid, "two guids for one key: {record} and {again}");
            }
        }
        let mut cancel = Cancel::NotAsked;
        if job.cancelled {
            let path = format!("/v1/jobs/{guid}:cancel");
            cancel = match self.until_answered(caller, &path, "", &[200, 409]) {
                (200, answer) => Cancel::Cancelled { maybe_started: answer["maybe_started"] == true },
                (_, answer) => {
                    assert_eq!(answer["type"], "/problems/too_late", "{answer}");
                    Cancel::TooLate
                }
            };
        }
        Acknowledged { number, guid, cancel }
    }

    /// Asks for this, here and elsewhere, until there is one of these answers.
    fn until_answered(&self, caller: &mut Caller, path: &str, body: &str, wanted: &[u16]) -> (u16, Value) {
        let since = SystemClock.elapsed();
        loop {
            match caller.ask("POST", path, body) {
                Ok((status, answer)) if wanted.contains(&status) => return (status, answer),
                Ok((503, problem)) => {
                    // Both mean that the daemon is about to end.
                    let kind = problem["type"].as_str().unwrap_or_default();
                    let ends = ["/problems/store_broken", "/problems/commit_unknown"].contains(&kind);
                    assert!(ends || caller.retry_after.is_some(), "it does not say when to ask again");
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Ok((507, _)) if self.full.load(Ordering::Relaxed) => {
                    self.no_room.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {}
                Ok(refused) => panic!("{path} {body}: {refused:?}"),
            }
            let waited = SystemClock.elapsed() - since;
            assert!(waited < GIVE_UP, "no answer for {waited:?}: {path} {body}");
            caller.elsewhere();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Ends the load when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn guid_of(record: &Value) -> Uuid {
    record["guid"].as_str().and_then(|guid| guid.parse().ok()).unwrap_or_else(|| panic!("no guid: {record}"))
}
