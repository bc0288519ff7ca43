//! A disk that is full, a file that is damaged.

use std::{fs, io::Write, os::unix::net::UnixStream};

use super::{LATER, count, submit};
use crate::harness::{Answer, Daemon, Place};

#[test]
fn without_room_there_are_no_new_jobs_but_everything_else() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let (first, second) = (submit(&daemon, LATER), submit(&daemon, LATER));
    assert_eq!(daemon.stop().0, Some(0));
    let daemon = Daemon::start(&place, &["--keep-free", "100000000000"]);
    daemon.ask("POST", "/v1/jobs", LATER).problem(507, "disk_full");
    daemon.ask("POST", "/v1/jobs:batch", &format!("[{LATER}]")).problem(507, "disk_full");
    let ndjson = ["Content-Type: application/x-ndjson"];
    let itemised = daemon.unix().ask("POST", "/v1/jobs:batch?atomic=false", &ndjson, LATER).status(200);
    assert!(itemised.body.contains("/problems/disk_full"), "{itemised:?}");
    place.run(["submit", "simulated", "1ms"]).code(4).stderr_has("free some space");
    assert_eq!(count(&daemon, "pending"), 2);
    daemon.ask("GET", "/v1/jobs", "").status(200);
    daemon.ask("POST", &format!("/v1/jobs/{first}:cancel"), "").status(200);
    daemon.ask("POST", &format!("/v1/jobs/{second}:start-now"), "").status(200);
    assert_eq!(super::ended(&daemon, &second)["state"], "started");
}

/// Bytes that the disk gives back are not those that were written. The daemon ends rather than
/// acknowledge anything more.
#[test]
fn a_damaged_store_ends_the_daemon() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[]);
    let jobs = format!("{LATER}\n").repeat(5_000);
    let ndjson = ["Content-Type: application/x-ndjson"];
    daemon.unix().ask("POST", "/v1/jobs:batch", &ndjson, &jobs).status(200);
    assert_eq!(daemon.stop().0, Some(0));

    let daemon = Daemon::start(&place, &[]);
    let path = place.path("state/sendoff/sendoff.db");
    let mut bytes = fs::read(&path).unwrap();
    let (size, damage) = (bytes.len(), bytes.len() / 4);
    bytes[damage..].fill(0xa5);
    // Written over, as a disk would: the file stays the same one.
    fs::OpenOptions::new().write(true).open(&path).unwrap().write_all(&bytes).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), size as u64);
    // It may have noticed already.
    if let Ok(mut stream) = UnixStream::connect(place.path("runtime/sendoff/sendoff.sock")) {
        let body = r#"{"all":true}"#;
        let length = body.len();
        let head =
            format!("POST /v1/jobs:cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        let _ = stream.write_all((head + body).as_bytes());
        let answer = Answer::read(stream);
        assert!([0, 503].contains(&answer.status), "{answer:?}");
    }
    let (code, log) = daemon.ended();
    assert_eq!(code, Some(4), "{log}");
    assert!(log.contains("nothing is acknowledged any more"), "{log}");
}
