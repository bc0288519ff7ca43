//! What a run prints and writes.

use serde_json::Value;

use crate::harness::{Place, simulated};

#[test]
fn the_summary_has_counts_times_and_a_histogram() {
    let place = Place::new();
    place.write("jobs", simulated(20));
    let ended = place.run(["run", "jobs"]).code(0);
    for words in ["started", "wait p50", "took p50", "simulated", "20 starts in ", " a second", "█", "  < "]
    {
        assert!(ended.stdout.contains(words), "{words}\n{ended}");
    }
    assert_eq!(ended.stderr, "", "{ended}");
}

#[test]
fn the_json_summary_is_one_object() {
    let place = Place::new();
    place.write("jobs", simulated(20));
    let summary = place.run(["run", "jobs", "--json"]).code(0).json();
    assert_eq!(summary["jobs"], 20);
    assert_eq!(summary["counts"]["started"], 20);
    assert_eq!(summary["starters"]["simulated"]["counts"]["started"], 20);
    assert_eq!((&summary["finished"], &summary["exit_code"]), (&true.into(), &0.into()));
    let us = |times: &str, which: &str| summary[times][which].as_u64().unwrap();
    assert!(us("took_us", "p50") >= 1_000, "{summary}");
    for times in ["wait_us", "took_us"] {
        assert!(us(times, "p50") <= us(times, "p99") && us(times, "p99") <= us(times, "max"), "{summary}");
    }
    assert!(summary["starts_per_second"].as_f64().unwrap() > 0.0);
    assert!(summary["store"].as_str().unwrap().contains("sendoff/runs/jobs-"), "{summary}");
}

#[test]
fn errors_are_json_too() {
    let place = Place::new();
    place.write("jobs", "bad\n");
    let ended = place.run(["run", "jobs", "--json"]).code(2);
    let errors: Vec<Value> = ended.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&errors[0]["file"], &errors[0]["line"]), (&"jobs".into(), &1.into()));
    assert_eq!(errors[1]["exit_code"], 2);
    assert_eq!(ended.stdout, "");
}

#[test]
fn quiet_prints_the_guids_in_order_and_nothing_else() {
    let place = Place::new();
    place.write("jobs", simulated(1_500));
    let ended = place.run(["run", "-q", "jobs", "--records", "records"]).code(0);
    assert_eq!(ended.stderr, "");
    let records = place.read("records");
    let recorded = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["guid"].clone());
    let recorded: Vec<_> = recorded.map(|guid| guid.as_str().unwrap().to_owned()).collect();
    let printed: Vec<_> = ended.stdout.lines().map(str::to_owned).collect();
    assert_eq!(printed.len(), 1_500);
    assert_eq!(printed, recorded);
}

#[test]
fn records_tell_all_and_replace_an_older_file_only_when_whole() {
    let place = Place::new();
    place.write("records", "older\n");
    place.write("jobs", "bad\n");
    place.run(["run", "jobs", "--records", "records"]).code(2);
    assert_eq!(place.read("records"), "older\n");

    place.write("jobs", simulated(3));
    place.run(["run", "jobs", "--records", "records"]).code(0);
    let records = place.read("records");
    assert_eq!(records.lines().count(), 3);
    for record in records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        assert_eq!(record["state"], "started");
        let stamp = |name: &str| record[name].as_str().unwrap().to_owned();
        assert!(
            stamp("queued_at") < stamp("starting_at") && stamp("starting_at") < stamp("started_at"),
            "{record}"
        );
        assert_eq!(record["expires_at"], Value::Null);
        assert_eq!(
            record["submitted_by"],
            format!("run:{}", place.path("jobs").canonicalize().unwrap().display())
        );
    }
    let leftovers = std::fs::read_dir(place.path(".")).unwrap();
    let names: Vec<_> = leftovers.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().starts_with(".records")), "{names:?}");

    place.run(["run", "jobs", "--records", "."]).code(2).stderr_has("the records cannot be written");
    place.run(["run", "jobs", "--records", "missing/records"]).code(2).stderr_has("missing/records");
}

#[test]
fn what_failed_is_named_with_its_error() {
    let place = Place::new();
    place.write("data", "no program");
    place.write(
        "jobs",
        format!("{}{}", r#"{"start":{"process":{"program":"./data"}}}"#, "\n") + &simulated(1),
    );
    let ended = place.run(["run", "jobs"]).code(1).stdout_has("failed:");
    assert!(ended.stdout.to_lowercase().contains("permission denied"), "{ended}");
    let summary = place.run(["run", "jobs", "--json"]).code(1).json();
    assert_eq!(summary["finished_before"], true);
    assert_eq!(summary["failed"].as_array().unwrap().len(), 1);
}

#[test]
fn a_reader_that_goes_away_stops_nothing() {
    let place = Place::new();
    place.write("jobs", simulated(3_000));
    let mut running = place.spawn(place.command(["run", "-q", "jobs", "--records", "records"]));
    drop(running.stdout());
    running.end().code(0);
    assert_eq!(place.read("records").lines().count(), 3_000);
}

#[test]
fn records_never_replace_what_a_run_reads_or_keeps() {
    let place = Place::new();
    place.write("jobs", simulated(2));
    for kept in ["jobs", "store.db", "store.db.lock"] {
        if kept != "jobs" {
            place.run(["run", "jobs", "--store", "store.db"]);
        }
        place
            .run(["run", "jobs", "--store", "store.db", "--records", kept])
            .code(2)
            .stderr_has("would replace what this run reads or keeps");
    }
    assert_eq!(place.read("jobs"), simulated(2));
    // A link stays, and what it leads to is written.
    place.write("target", "");
    std::os::unix::fs::symlink(place.path("target"), place.path("link")).unwrap();
    place.run(["run", "jobs", "--store", "store.db", "--records", "link"]).code(0);
    assert!(place.path("link").is_symlink());
    assert_eq!(place.read("target").lines().count(), 2);
}

#[test]
fn a_command_without_each_line_is_refused() {
    let place = Place::new();
    place.write("jobs", simulated(1));
    place.run(["run", "jobs", "--", "true"]).code(2).stderr_has("--each-line");
    assert!(place.stores().is_empty());
}

#[test]
fn arguments_of_each_line_stay_out_of_the_records() {
    let place = Place::new();
    place.write("lines", "0\n");
    let args = ["run", "--each-line", "lines", "--records", "records", "--", "sleep", "{}", "0.0001"];
    let done = place.run(args).code(0);
    let _ = done;
    assert!(!place.read("records").contains("0.0001"));
}
