//! The SQLite file in somebody else's hands, while the daemon runs and while it does not.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use uuid::Uuid;

use super::super::{Chance, caller::Caller, records::ended, seed, witness::Endpoint};
use crate::harness::{Daemon, Place};

/// Something that is done to the store's files.
type Deed = fn(&Path);

/// With what the daemon says of it.
const DEEDS: [(&str, Deed, &str); 7] = [
    ("the database is removed", |db| fs::remove_file(db).unwrap(), "removed or replaced"),
    ("the log is removed", |db| fs::remove_file(log_of(db)).unwrap(), "removed or replaced"),
    (
        "the database is moved away",
        |db| fs::rename(db, db.with_extension("old")).unwrap(),
        "removed or replaced",
    ),
    ("the database is replaced by a copy", replace, "removed or replaced"),
    ("the directory is moved away", move_directory, "removed or replaced"),
    ("the database is emptied", |db| cut(db, 0), "cut short"),
    ("the database is cut in half", |db| cut(db, fs::metadata(db).unwrap().len() / 2), "cut short"),
];

fn log_of(db: &Path) -> PathBuf {
    db.with_extension("db-wal")
}

fn replace(db: &Path) {
    let copy = db.with_extension("copy");
    fs::copy(db, &copy).unwrap();
    fs::rename(copy, db).unwrap();
}

fn move_directory(db: &Path) {
    let directory = db.parent().unwrap();
    fs::rename(directory, directory.with_extension("moved")).unwrap();
}

fn cut(db: &Path, size: u64) {
    fs::OpenOptions::new().write(true).open(db).unwrap().set_len(size).unwrap();
}

struct Case {
    place: Place,
    db: PathBuf,
    endpoint: Endpoint,
    acknowledged: Vec<Uuid>,
    chance: Chance,
}

impl Case {
    fn new(number: usize) -> Self {
        let place = Place::new();
        let db = place.path("state/sendoff/sendoff.db");
        let (endpoint, acknowledged) = (Endpoint::open(), Vec::new());
        Self { place, db, endpoint, acknowledged, chance: Chance::nth(seed(), number) }
    }

    fn caller(&self, daemon: &Daemon) -> Caller {
        Caller::new(self.place.path(daemon.ready["socket"].as_str().unwrap()))
    }

    /// Submits so many jobs, every other for later; false if one was not acknowledged.
    fn submit(&mut self, caller: &mut Caller, count: usize) -> bool {
        (0..count).all(|number| {
            let guid = self.chance.guid();
            let start = json!({"http": {"url": format!("http://{}/", self.endpoint.address)}});
            let delay = if number % 2 == 0 { "0s" } else { "1h" };
            let job =
                json!({"guid": guid.to_string(), "start": start, "delay": delay, "delivery": "at_most_once"});
            let answer = caller.ask("POST", "/v1/jobs", &job.to_string());
            let created = matches!(answer, Ok((201, _)));
            self.acknowledged.extend(created.then_some(guid));
            created
        })
    }

    /// Fails if a job was started twice.
    fn judge(&self) {
        for (guid, calls) in self.endpoint.counts() {
            assert_eq!(calls, 1, "{guid}");
        }
    }
}

#[test]
fn a_running_daemon_acknowledges_nothing_more() {
    for (number, (name, deed, words)) in DEEDS.into_iter().enumerate() {
        let mut case = Case::new(number);
        let daemon = Daemon::start(&case.place, &["--log", "error"]);
        let mut caller = case.caller(&daemon);
        assert!(case.submit(&mut caller, 100));
        for guid in case.acknowledged.iter().step_by(2) {
            assert_eq!(ended(&mut caller, *guid).state, "started");
        }
        // Else a checkpoint may make the database longer just when it was cut.
        case.checkpointed();
        deed(&case.db);
        assert!(!case.submit(&mut caller, 1), "{name}: acknowledged");
        let (code, log) = daemon.ended();
        assert_eq!(code, Some(4), "{name}: {log}");
        assert!(log.contains(words) && log.contains("nothing is acknowledged any more"), "{name}: {log}");
        case.judge();
    }
}

impl Case {
    /// Waits until the log was copied into the database, which then stays as it is.
    fn checkpointed(&self) {
        let mut last = None;
        super::super::until("a checkpoint", || {
            let now = fs::metadata(&self.db).unwrap().modified().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(150));
            last.replace(now) == Some(now)
        });
    }
}

/// Put back, it is as if nothing had happened.
#[test]
fn a_file_that_is_put_back_has_everything() {
    let mut case = Case::new(100);
    let daemon = Daemon::start(&case.place, &["--log", "error"]);
    let mut caller = case.caller(&daemon);
    assert!(case.submit(&mut caller, 100));
    let away = case.db.with_extension("away");
    fs::rename(&case.db, &away).unwrap();
    assert!(!case.submit(&mut caller, 1));
    assert_eq!(daemon.ended().0, Some(4));
    fs::rename(&away, &case.db).unwrap();
    let daemon = Daemon::start(&case.place, &["--log", "error"]);
    let mut caller = case.caller(&daemon);
    for (number, guid) in case.acknowledged.clone().into_iter().enumerate() {
        let (status, record) = caller.ask("GET", &format!("/v1/jobs/{guid}"), "").unwrap();
        assert_eq!(status, 200, "{record}");
        if number % 2 == 0 {
            // Some may have been under way.
            let state = ended(&mut caller, guid).state;
            assert!(["started", "unknown"].contains(&state.as_str()), "{state}");
        }
    }
    case.judge();
    assert_eq!(daemon.stop().0, Some(0));
}

/// What the next start says of a store that was touched meanwhile.
#[test]
fn a_daemon_refuses_what_is_not_its_store_any_more() {
    let halved: Deed = |db| cut(db, fs::metadata(db).unwrap().len() / 2 / 4096 * 4096);
    let shortened: Deed = |db| cut(db, fs::metadata(db).unwrap().len() - 4096);
    let garbage: Deed = |db| fs::write(db, [0xa5; 1 << 16]).unwrap();
    let scribbled: Deed = |db| {
        let mut bytes = fs::read(db).unwrap();
        let quarter = bytes.len() / 4;
        bytes[100..quarter].fill(0xa5);
        fs::write(db, bytes).unwrap();
    };
    let other: Deed = |db| {
        fs::remove_file(db).unwrap();
        let other = rusqlite::Connection::open(db).unwrap();
        other.execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    };
    for (number, (name, deed, words)) in [
        ("halved", halved, "malformed"),
        ("shortened", shortened, "malformed"),
        ("garbage", garbage, "not an SQLite database"),
        ("scribbled", scribbled, "malformed"),
        ("another program's", other, "another program"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut case = Case::new(200 + number);
        let daemon = Daemon::start(&case.place, &["--log", "error"]);
        let mut caller = case.caller(&daemon);
        assert!(case.submit(&mut caller, 100));
        assert_eq!(daemon.stop().0, Some(0));
        deed(&case.db);
        match Daemon::try_spawn(Daemon::command(&case.place, &["--log", "warn"])) {
            Ok(_) => panic!("{name}: it serves"),
            Err((code, said)) => {
                assert_eq!(code, Some(4), "{name}: {said}");
                assert!(said.contains(words) && said.contains("sendoff.db"), "{name}: {said}");
            }
        }
        case.judge();
    }
}

/// Nobody can read there what is gone. But it is not passed over in silence.
#[test]
fn a_store_that_is_gone_is_missed() {
    let removed: Deed = |db| fs::remove_file(db).unwrap();
    for deed in [removed, |db| cut(db, 0)] {
        let mut case = Case::new(300);
        let daemon = Daemon::start(&case.place, &["--log", "error"]);
        let mut caller = case.caller(&daemon);
        assert!(case.submit(&mut caller, 10));
        assert_eq!(daemon.stop().0, Some(0));
        let (_, log) = Daemon::start(&case.place, &["--log", "warn"]).stop();
        assert!(!log.contains("is empty"), "{log}");
        deed(&case.db);
        let (code, log) = Daemon::start(&case.place, &["--log", "warn"]).stop();
        assert_eq!(code, Some(0));
        assert!(log.contains("is empty, but was opened before"), "{log}");
    }
}
