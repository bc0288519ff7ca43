//! `sendoff config`.

use serde_json::Value;

use crate::harness::Place;

#[test]
fn every_value_has_its_origin() {
    let place = Place::new();
    place.write("conf", "listen = ['127.0.0.1:8222']\n[limits]\nmax_in_flight = 2\nmax_running = 3\n");
    let args = ["config", "show", "--config", "conf", "--grace", "1m", "--listen", "127.0.0.1:1,[::1]:2"];
    let mut command = place.command(args);
    command.env("SENDOFF_MAX_RUNNING", "4").env("SENDOFF_ALLOW_LOCAL_NETWORKS", "");
    let shown = place.spawn(command).end().code(0).stdout;
    // The widths of columns depend on where the place is.
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown: Vec<_> = shown.replace(&place.text(""), "PLACE/").lines().map(words).collect();
    insta::assert_snapshot!("config_show", shown.join("\n"));
    let shown = place.run([&args[..], &["--json"]].concat()).code(0).json();
    assert_eq!(shown["grace"], serde_json::json!({"value": "1m", "origin": "--grace"}));
    assert_eq!(shown["limits.max_in_flight"], serde_json::json!({"value": 2, "origin": "conf:3"}));
    assert_eq!(shown["tls.key"], serde_json::json!({"value": null, "origin": "default"}));
}

#[test]
fn the_file_is_found() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("config/sendoff")).unwrap();
    place.write("config/sendoff/sendoff.toml", "grace = '2s'\n");
    let found = place.run(["config", "show", "--json"]).code(0).json();
    assert_eq!(found["grace"]["value"], "2s");
    place.run(["config", "check"]).code(0).stdout_has("sendoff.toml: OK");
    place
        .run(["config", "check", "missing.toml"])
        .code(2)
        .stderr_has("missing.toml: the configuration cannot");
}

#[test]
fn everything_that_is_wrong_is_said() {
    let place = Place::new();
    place.write("conf", "grac = '1s'\n[limits]\nconnections = 'many'\n[allow]\nprograms = ['ls']\n");
    let ended = place.run(["config", "check", "conf"]).code(2);
    insta::assert_snapshot!("config_check", ended.stderr);
    place.write("conf", "[retention]\nunknown = '7d'\n");
    place.run(["config", "check", "conf"]).code(2).stderr_has("retention.unknown: at least 90d");
    let ended = place.run(["config", "check", "conf", "--json"]).code(2);
    let error: Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(error["exit_code"], 2);
    place.run(["config", "show", "--connections", "0"]).code(2).stderr_has("at least 1, found \"0\"");
}

#[test]
fn a_database_is_shown_without_its_password() {
    let place = Place::new();
    let url = "postgres://u:hush@a:5432,b/jobs?sslmode=require";
    place.write("conf", format!("store = '{url}'\nqueues = ['gpu', 'default']\npoll_interval = '2s'\n"));
    let shown = place.run(["config", "show", "--config", "conf", "--json"]).code(0).json();
    assert_eq!(shown["store"]["value"], "postgres://u:…@a:5432,b/jobs?sslmode=require");
    assert_eq!(shown["queues"]["value"], serde_json::json!(["gpu", "default"]));
    for args in [["config", "show"], ["serve", "--help"], ["run", "--help"], ["backup", "--help"]] {
        let mut command = place.command(args);
        command.env("SENDOFF_STORE", url);
        let ended = place.spawn(command).end().code(0);
        assert!(!(ended.stdout + &ended.stderr).contains("hush"), "{args:?}");
    }
}

#[test]
fn what_the_chosen_store_has_no_use_for_is_refused() {
    let place = Place::new();
    for (flags, key) in [
        (&["--queues", "gpu"][..], "queues"),
        (&["--poll-interval", "1s"], "poll_interval"),
        (&["--poll-only"], "poll_only"),
        (&["--allow-async-failover"], "allow_async_failover"),
        (&["--keep-free", "1", "--store", "postgres://h/db"], "keep_free"),
    ] {
        place.run([&["serve"], flags].concat()).code(2).stderr_has(&format!("{key}: is "));
    }
    place
        .run(["serve", "--queues", "a b", "--store", "postgres://h/db"])
        .code(2)
        .stderr_has("a queue's name");
}

#[test]
fn a_database_is_no_store_of_other_commands() {
    let place = Place::new();
    let url = "postgresql://u:hush@h/db";
    for (args, words) in [
        (&["run", "-", "--store", url][..], "sendoff batch FILE --url"),
        (&["backup", "--store", url, "copy"], "pg_dump"),
    ] {
        let ended = place.run(args).code(2);
        assert!(ended.stderr.contains(words) && !ended.stderr.contains("hush"), "{}", ended.stderr);
    }
}

/// What the documentation says of each key is what the program says.
#[test]
fn every_key_is_documented() {
    let place = Place::new();
    let keys = place.run(["config", "show", "--json"]).code(0).json();
    let docs = include_str!("../../../../docs/daemon.md");
    for key in keys.as_object().unwrap().keys() {
        assert!(docs.contains(&format!("| `{key}` |")), "docs/daemon.md lacks {key}");
    }
    let rows = docs.lines().filter(|line| line.starts_with("| `") && line.matches('|').count() == 5);
    assert_eq!(rows.count(), keys.as_object().unwrap().len());
}
