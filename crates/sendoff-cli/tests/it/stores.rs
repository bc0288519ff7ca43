//! Stores that cannot be used, and copies of those that can.

use crate::{
    endpoint::Endpoint,
    harness::{Place, http, simulated, touch},
};

/// A run that is to be refused because of its store.
#[track_caller]
fn refused(place: &Place, args: &[&str], words: &str) {
    let trace = place.path("trace");
    place.write("jobs", touch(&trace));
    place.run(["run", "jobs"].iter().chain(args)).code(4).stderr_has(words);
    assert!(!trace.exists(), "a job was started");
}

#[test]
fn a_store_in_use_is_named() {
    let place = Place::new();
    let mut endpoint = Endpoint::answering(0);
    place.write("jobs", http(endpoint.address, 1, ""));
    let running = place.spawn(place.command(["run", "jobs"]));
    endpoint.wait_for(1);
    let second = place.run(["run", "jobs"]).code(4).stderr_has("in use by another sendoff");
    let store = place.stores().remove(0);
    assert!(second.stderr.contains(store.to_str().unwrap()), "{second}");

    // A copy can be taken all the same, and is a store.
    place.run(["backup", "--run", "jobs", "copy.db"]).code(0);
    endpoint.open();
    running.end().code(0);
    place.run(["run", "jobs", "--store", "copy.db"]).code(0);
    endpoint.drain();
    assert_eq!(
        endpoint.counts.values().copied().collect::<Vec<_>>(),
        [2],
        "the copy held the job as starting"
    );
}

#[test]
fn files_that_are_no_store_are_refused_and_left_alone() {
    let place = Place::new();
    place.write("text.db", "this is no database, but it is long enough to be looked at as one\n".repeat(20));
    let before = place.read("text.db");
    refused(&place, &["--store", "text.db"], "not an SQLite database");
    assert_eq!(place.read("text.db"), before);
    std::fs::create_dir(place.path("directory")).unwrap();
    refused(&place, &["--store", "directory"], "it is a directory");
    place.run(["backup", "--store", "text.db", "copy.db"]).code(4).stderr_has("text.db");
    assert!(!place.path("copy.db").exists());
}

#[test]
fn a_store_from_a_newer_version_is_refused() {
    let place = Place::new();
    place.write("one", simulated(1));
    place.run(["run", "one", "--store", "jobs.db"]).code(0);
    // SQLite's header has the user version at byte 60.
    let mut bytes = std::fs::read(place.path("jobs.db")).unwrap();
    bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(place.path("jobs.db"), bytes).unwrap();
    refused(&place, &["--store", "jobs.db"], "newer sendoff");
}

#[test]
fn places_that_cannot_be_written_are_refused() {
    let place = Place::new();
    place.write("file", "");
    refused(&place, &["--store", "file/jobs.db"], "file/jobs.db");
    refused(&place, &["--store", "/proc/nowhere/jobs.db"], "/proc/nowhere/jobs.db");
    for (state, home, words) in
        [("/proc/nowhere", "/", "/proc/nowhere"), ("relative", "relative", "XDG_STATE_HOME")]
    {
        let mut command = place.command(["run", "jobs"]);
        command.env("XDG_STATE_HOME", state).env("HOME", home);
        place.spawn(command).end().code(4).stderr_has(words);
    }
    assert!(!place.path("trace").exists());
}

#[test]
fn a_full_disk_is_told_and_the_same_command_goes_on_later() {
    let place = Place::new();
    // So much is never free.
    refused(&place, &["--keep-free", "1000000000000"], "the same command goes on where it stopped");
    place.run(["run", "jobs"]).code(0);
}

#[test]
fn a_store_in_memory_needs_no_place() {
    let place = Place::new();
    place.write("jobs", simulated(10));
    let mut command = place.command(["run", "jobs", "--store", "memory", "--json"]);
    command.env("XDG_STATE_HOME", "relative").env_remove("HOME");
    assert_eq!(place.spawn(command).end().code(0).json()["counts"]["started"], 10);
}

#[test]
fn the_default_store_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.write("jobs", simulated(1));
    place.run(["run", "jobs"]).code(0);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path("state/sendoff/runs")), 0o700);
    assert_eq!(mode(&place.stores()[0]), 0o600);
}

#[test]
fn a_backup_is_a_store_and_overwrites_nothing() {
    let place = Place::new();
    place.write("jobs", simulated(7));
    place.run(["run", "jobs"]).code(0);
    let jobs = place.text("jobs");
    place.run(["backup", "--run", &jobs, "copy.db", "--json"]).code(0).stdout_has("\"bytes\":");
    let summary = place.run(["run", "jobs", "--store", "copy.db", "--json"]).code(0).json();
    assert_eq!((&summary["jobs"], &summary["finished_before"]), (&7.into(), &true.into()));
    place.run(["backup", "--run", "jobs", "copy.db"]).code(2).stderr_has("overwrites nothing");
    place.run(["backup", "--store", "none.db", "other.db"]).code(4).stderr_has("there is no store");
    place.run(["backup", "other.db"]).code(2);
}
