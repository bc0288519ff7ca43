//! A disk that says that it failed: the daemon ends, and what it acknowledged is there.

use super::{
    super::{Chance, caller::Caller, figure, judge::Verdict, kill::round, seed},
    cut::start,
    disk::{Disk, Lost},
    shim::{Field, Shim},
};
use crate::harness::Place;

/// What fails: a call, of which file.
const ERRORS: [(Field, i64, &str); 4] = [
    (Field::FailSync, WAL, "a sync of the log"),
    (Field::FailSync, DATABASE, "a sync of the database"),
    (Field::FailWrite, WAL, "a write to the log"),
    (Field::FailWrite, DATABASE, "a write to the database"),
];
const DATABASE: i64 = 1;
const WAL: i64 = 2;

/// The call fails once and would succeed if it were tried again, as on Linux, which takes what it could
/// not write for clean. Then the power goes.
#[test]
fn an_error_of_the_disk_ends_the_daemon_and_nothing_acknowledged_is_lost() {
    let (errors, jobs) = (figure("SENDOFF_ERRORS", ERRORS.len()), figure("SENDOFF_JOBS", 300));
    let seed = seed();
    let place = Place::new();
    let shim = Shim::new(&place);
    shim.set(Field::SyncMicros, 1_000);
    std::fs::create_dir_all(shim.store.parent().unwrap()).unwrap();
    let mut disk = Disk::new(&shim);
    let mut daemon = start(&shim, &place);
    let (mut total, mut lost) = (Verdict::default(), Lost::default());
    for number in 0..errors {
        let (call, file, name) = ERRORS[number % ERRORS.len()];
        let (again, verdict) = round(&place, daemon, seed.wrapping_add(number as u64), jobs, |daemon| {
            let mut chance = Chance::nth(seed, number);
            shim.set(Field::Only, file);
            shim.set(call, 1 + chance.below(20) as i64);
            // Until it meets the error, also when there is no other load any more.
            let mut caller = Caller::new(place.path(daemon.ready["socket"].as_str().unwrap()));
            let job = r#"{"start":{"simulated":{"delay":"1ms"}}}"#;
            while caller.ask("POST", "/v1/jobs", job).is_ok() {}
            let (code, log) = daemon.ended();
            assert_eq!(code, Some(4), "{name} failed: {log}");
            assert!(log.contains("nothing is acknowledged any more"), "{name} failed: {log}");
            assert_eq!(shim.get(Field::Failed), number as i64 + 1, "{name}");
            lost.add(disk.cut(&mut chance));
            start(&shim, &place)
        });
        daemon = again;
        total.add(verdict);
    }
    println!("{errors} errors of the disk, each with exit code 4 and a power cut; {lost}: {total}");
}
