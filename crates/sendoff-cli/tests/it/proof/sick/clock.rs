//! A wall clock that is set forth and back while jobs wait.

use std::time::Duration;

use sendoff::{
    Timestamp,
    time::{Clock, SystemClock},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    super::{Chance, caller::Caller, figure, records::ended, seed, witness::Endpoint},
    YEARS_AHEAD,
    shim::{Field, Shim},
};
use crate::harness::{Daemon, Place};

const HOUR: i64 = 3_600_000_000;
const YEAR: i64 = 365 * 24 * HOUR;
/// Jobs of a kind in a round.
const JOBS: usize = 20;

struct Case {
    caller: Caller,
    endpoint: Endpoint,
    chance: Chance,
}

impl Case {
    fn submit(&mut self, delay: &str) -> Vec<Uuid> {
        let jobs = (0..JOBS).map(|_| {
            let guid = self.chance.guid();
            let start = json!({"http": {"url": format!("http://{}/", self.endpoint.address)}});
            let job = json!({"guid": guid.to_string(), "start": start, "delay": delay});
            let (status, record) = self.caller.ask("POST", "/v1/jobs", &job.to_string()).unwrap();
            assert_eq!(status, 201, "{record}");
            guid
        });
        jobs.collect()
    }

    /// Waits until they have started; how long that took.
    fn started(&mut self, guids: &[Uuid]) -> Duration {
        let since = SystemClock.elapsed();
        for guid in guids {
            let record = ended(&mut self.caller, *guid);
            assert_eq!(record.state, "started", "{record:?}");
            let (starting, started) = (record.starting_at.unwrap(), record.started_at.unwrap());
            assert!(record.queued_at < starting && starting <= started, "{record:?}");
            assert!(record.run_at <= starting, "before its time: {record:?}");
        }
        SystemClock.elapsed() - since
    }

    /// Fails if one of them was started.
    fn wait(&mut self, guids: &[Uuid]) {
        for guid in guids {
            let record = self.caller.ask("GET", &format!("/v1/jobs/{guid}"), "").unwrap().1;
            assert_eq!(record["state"], "pending", "{record}");
        }
        let calls = self.endpoint.counts();
        assert!(guids.iter().all(|guid| !calls.contains_key(guid)));
    }
}

#[test]
fn what_is_due_starts_once_whatever_the_clock_does() {
    let rounds = figure("SENDOFF_ROUNDS", 2);
    let seed = seed();
    let place = Place::new();
    let shim = Shim::new(&place);
    let set = |micros: i64| shim.set(Field::Clock, YEARS_AHEAD + micros);
    set(0);
    let daemon = Daemon::spawn(shim.command(&place, &["--log", "error"]));
    let caller = Caller::new(place.path(daemon.ready["socket"].as_str().unwrap()));
    let mut case = Case { caller, endpoint: Endpoint::open(), chance: Chance::nth(seed, 0) };
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let (soon, later, years) = (case.submit("5s"), case.submit("59m"), case.submit("43800h"));
        // Back: what was due in a moment is due an hour later, and new jobs are not held up by it.
        set(-HOUR);
        let back = case.submit("50ms");
        case.started(&back);
        case.wait(&soon);
        set(-10 * YEAR);
        let back = case.submit("50ms");
        case.started(&back);
        case.wait(&soon);
        // Where it was, and forth.
        set(0);
        case.started(&soon);
        case.wait(&later);
        set(HOUR);
        slowest = slowest.max(case.started(&later));
        let now = case.submit("50ms");
        case.started(&now);
        set(10 * YEAR);
        slowest = slowest.max(case.started(&years));
        set(0);
        let now = case.submit("50ms");
        case.started(&now);
    }
    let calls = case.endpoint.counts();
    assert_eq!(calls.len(), rounds * 7 * JOBS);
    assert!(calls.values().all(|calls| *calls == 1), "{calls:?}");
    // It was the clock of the shim that counted.
    let record = case.submit("0s");
    assert!(ended(&mut case.caller, record[0]).queued_at > ahead(10 * YEAR));
    assert_eq!(daemon.stop().0, Some(0));
    println!(
        "{} steps of an hour and of ten years, {} jobs, each started once; {JOBS} due by a step were started \
         at most {slowest:.1?} after it",
        rounds * 5,
        calls.len()
    );
}

/// The machine's time and so much.
fn ahead(micros: i64) -> Timestamp {
    Timestamp::from_micros(SystemClock.now().as_micros() + micros).unwrap()
}
