//! Moving a store to PostgreSQL by command.

use crate::harness::{Place, simulated};

/// A database of its own, if there may be one.
fn database() -> Option<String> {
    testpg::wanted().then(|| testpg::shared().new_database().unwrap())
}

/// Jobs in a database, which may have no tables yet.
fn rows(url: &str) -> u64 {
    let database = url.rsplit('/').next().unwrap();
    let count = testpg::shared().sql_in(database, "SELECT count(*) FROM sendoff.job");
    count.map_or(0, |rows| rows[0][0].as_ref().unwrap().parse().unwrap())
}

/// A finished run of `n` jobs in `jobs.db`.
fn run(place: &Place, n: usize) {
    place.write("jobs", simulated(n));
    place.run(["run", "jobs", "--store", "jobs.db", "-q"]).code(0);
}

#[test]
fn a_store_moves_and_is_refused_from_then_on() {
    let Some(url) = database() else { return };
    let place = Place::new();
    run(&place, 7);
    place
        .run(["migrate", "--from", "jobs.db", "--to", &url, "--dry-run"])
        .code(0)
        .stdout_has("7 of them not at");
    assert_eq!(rows(&url), 0);
    let moved = place.run(["migrate", "--from", "sqlite:jobs.db", "--to", &url]).code(0);
    assert!(moved.stdout.contains("7 as they were") && moved.stdout.contains(", the same there"), "{moved}");
    let again = place.run(["migrate", "--from", "jobs.db", "--to", &url, "--json"]).code(0).json();
    assert_eq!((&again["moved"], &again["same"]), (&0.into(), &7.into()), "{again}");
    assert_eq!(again["queues"]["default"]["started"], 7);
    assert_eq!(again["source_hash"], again["target_hash"]);
    assert_eq!(rows(&url), 7);
    for command in [&["run", "jobs", "--store", "jobs.db"][..], &["serve", "--store", "jobs.db"]] {
        let refused = place.run(command).code(4).stderr_has("were moved to postgres://127.0.0.1");
        assert!(refused.stderr.contains("sendoff migrate"), "{refused}");
    }
    // And a copy of it keeps the mark.
    place.run(["backup", "--store", "jobs.db", "copy.db"]).code(0);
    place.run(["run", "jobs", "--store", "copy.db"]).code(4).stderr_has("were moved");
    let other = testpg::shared().new_database().unwrap();
    place.run(["migrate", "--from", "jobs.db", "--to", &other]).code(4).stderr_has("name that database");
}

#[test]
fn what_differs_ends_with_1_and_is_named() {
    let Some(url) = database() else { return };
    let place = Place::new();
    run(&place, 30);
    place.run(["migrate", "--from", "jobs.db", "--to", &url, "-q"]).code(0);
    let name = url.rsplit('/').next().unwrap();
    testpg::shared().sql_in(name, "UPDATE sendoff.job SET request = '{}'").unwrap();
    let differs = place.run(["migrate", "--from", "jobs.db", "--to", &url]).code(1);
    assert_eq!(differs.stdout.matches("it is otherwise in the target: request").count(), 20, "{differs}");
    assert!(differs.stdout.contains("30 differences") && differs.stdout.contains("and 10 more"), "{differs}");
    assert!(!differs.stdout.contains("simulated"), "no payloads: {differs}");
}

#[test]
fn a_command_that_was_killed_is_repeated() {
    let Some(url) = database() else { return };
    let place = Place::new();
    place.write("jobs", simulated(20_000));
    place.run(["run", "jobs", "--store", "jobs.db", "-q"]).code(0);
    let args = ["migrate", "--from", "jobs.db", "--to", &url, "--json"];
    let killed = place.spawn(place.command(args));
    while rows(&url) == 0 {}
    killed.signal(rustix::process::Signal::KILL);
    killed.end();
    let report = place.run(args).code(0).json();
    assert_eq!((&report["same"], &report["differing"]), (&20_000.into(), &0.into()), "{report}");
    assert!(report["moved"].as_u64().unwrap() < 20_000, "{report}");
}

#[test]
fn a_look_needs_no_database_and_changes_nothing() {
    let place = Place::new();
    run(&place, 3);
    for _ in 0..2 {
        let look = place.run(["migrate", "--from", "jobs.db", "--dry-run", "--json"]).code(0).json();
        assert_eq!((&look["rows"], &look["to"]), (&3.into(), &serde_json::Value::Null), "{look}");
    }
    place.run(["run", "jobs", "--store", "jobs.db"]).code(0);
}

#[test]
fn wrong_use_is_told() {
    let place = Place::new();
    run(&place, 1);
    place.run(["migrate", "--from", "jobs.db"]).code(2).stderr_has("--to");
    place
        .run(["migrate", "--from", "postgres://h/d", "--dry-run"])
        .code(2)
        .stderr_has("must be a SQLite file");
    place.run(["migrate", "--from", "none.db", "--dry-run"]).code(4).stderr_has("there is no store");
    assert!(!place.path("none.db").exists());
    let wrong = place.run(["migrate", "--from", "jobs.db", "--to", "mysql://u:secret@h/d"]).code(2);
    assert!(!wrong.stderr.contains("secret"), "{wrong}");
    // Nobody listens there; nothing was marked.
    let away = "postgres://u:secret@127.0.0.1:1/d";
    let away = place.run(["migrate", "--from", "jobs.db", "--to", away]).code(4);
    assert!(!away.stderr.contains("secret"), "{away}");
    place.run(["run", "jobs", "--store", "jobs.db"]).code(0);
}
