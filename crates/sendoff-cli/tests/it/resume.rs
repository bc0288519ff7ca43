//! Runs that are continued: after a crash, after they finished, with lines appended or changed.

use std::{io::Write, process::Stdio};

use crate::{
    endpoint::Endpoint,
    harness::{Place, http, next_line, simulated},
};

/// Kills a run of 50 requests when 20 are answered and 4 are under way, and runs it again.
fn killed_half_way(more: &str) -> (Place, Endpoint, crate::harness::Ended) {
    let place = Place::new();
    let mut endpoint = Endpoint::answering(20);
    place.write("jobs", http(endpoint.address, 50, more));
    let args = ["run", "jobs", "--json", "--max-in-flight", "4"];
    let running = place.spawn(place.command(args));
    endpoint.wait_for(24);
    running.kill();
    endpoint.open();
    let ended = place.run(args);
    endpoint.drain();
    (place, endpoint, ended)
}

#[test]
fn killed_half_way_and_run_again_nothing_is_lost_and_only_starts_in_flight_are_doubled() {
    let (_place, endpoint, ended) = killed_half_way("");
    let summary = ended.code(0).json();
    assert_eq!(summary["counts"]["started"], 50);
    assert_eq!(endpoint.counts.len(), 50);
    let doubled = endpoint.counts.values().filter(|&&count| count == 2).count();
    assert!(endpoint.counts.values().all(|&count| count <= 2));
    assert!((4..=8).contains(&doubled), "{doubled} doubled");
    assert_eq!(summary["possible_duplicates"], doubled);
}

#[test]
fn at_most_once_jobs_in_flight_at_a_kill_are_listed_as_unknown_and_never_doubled() {
    let (place, endpoint, ended) = killed_half_way(r#","delivery":"at_most_once""#);
    let summary = ended.code(1).json();
    let unknown = summary["unknown"].as_array().unwrap();
    assert!((4..=8).contains(&unknown.len()), "{summary}");
    assert_eq!(summary["counts"]["unknown"], unknown.len());
    assert_eq!(summary["counts"]["started"], 50 - unknown.len());
    assert!(endpoint.counts.values().all(|&count| count == 1), "{:?}", endpoint.counts);
    for job in unknown {
        assert!(endpoint.counts.contains_key(job["guid"].as_str().unwrap()), "{job}");
        assert_eq!(job["target"], endpoint.address.to_string());
    }
    // They stay what they are, and the text names them.
    let again = place.run(["run", "jobs"]).code(1).stdout_has("unknown, may have started:");
    assert!(again.stdout.contains(unknown[0]["guid"].as_str().unwrap()), "{again}");
}

#[test]
fn a_finished_run_says_so_and_starts_over_only_when_asked() {
    let place = Place::new();
    let mut endpoint = Endpoint::answering(usize::MAX);
    place.write("jobs", http(endpoint.address, 5, ""));
    place.run(["run", "jobs"]).code(0).stdout_has("finished\n");
    endpoint.wait_for(5);

    let again = place.run(["run", "jobs"]).code(0).stdout_has("finished before; --again starts it over");
    assert!(again.stdout.contains(" http"), "{again}");
    endpoint.drain();
    assert_eq!(endpoint.counts.values().sum::<usize>(), 5, "a finished run started something");

    let summary = place.run(["run", "jobs", "--again", "--json"]).code(0).json();
    assert_eq!((&summary["generation"], &summary["jobs"]), (&2.into(), &5.into()), "{summary}");
    endpoint.wait_for(5);
    assert_eq!(endpoint.counts.len(), 10, "the second generation has guids of its own");
}

#[test]
fn appended_lines_are_new_jobs() {
    let place = Place::new();
    // The last line has no newline yet.
    place.write("jobs", simulated(3).trim_end());
    assert_eq!(place.run(["run", "jobs", "--json"]).code(0).json()["jobs"], 3);
    place.append("jobs", &format!("\n{}", simulated(2)));
    let summary = place.run(["run", "jobs", "--json"]).code(0).json();
    assert_eq!((&summary["jobs"], &summary["lines"]), (&5.into(), &5.into()));
    assert_eq!((&summary["generation"], &summary["finished_before"]), (&1.into(), &false.into()));
    // A bad one among them is found before the good ones start.
    place.append("jobs", &format!("{}bad\n", simulated(1)));
    place.run(["run", "jobs"]).code(2).stderr_has("jobs:7: ");
    let summary = place.run(["run", "jobs", "--skip-invalid", "--json"]).code(1).json();
    assert_eq!(summary["jobs"], 6);
}

#[test]
fn a_changed_line_is_named_and_nothing_starts() {
    let place = Place::new();
    place.write("jobs", simulated(5));
    place.run(["run", "jobs"]).code(0);

    let changed: Vec<_> = simulated(5).lines().map(str::to_owned).collect();
    let change = |line: usize| {
        let mut lines = changed.clone();
        lines[line - 1] = lines[line - 1].replace("1ms", "2ms");
        lines.join("\n") + "\n"
    };
    for line in [1, 3, 5] {
        place.write("jobs", change(line));
        place
            .run(["run", "jobs"])
            .code(2)
            .stderr_has(&format!("jobs:{line}: this line has changed since the run consumed it"))
            .stderr_has("--again");
    }
    place.write("jobs", simulated(4));
    place.run(["run", "jobs"]).code(2).stderr_has("jobs:4: the input ends here");
    // Under another name, or started over, it is a run like any other.
    assert_eq!(place.run(["run", "jobs", "--run", "other", "--json"]).code(0).json()["jobs"], 4);
    assert_eq!(place.run(["run", "jobs", "--again", "--json"]).code(0).json()["jobs"], 4);
}

#[test]
fn two_files_with_one_name_and_two_names_for_one_file() {
    let place = Place::new();
    std::fs::create_dir(place.path("a")).unwrap();
    std::fs::create_dir(place.path("b")).unwrap();
    place.write("a/jobs", simulated(1));
    place.write("b/jobs", simulated(2));
    place.run(["run", "a/jobs"]).code(0);
    assert_eq!(place.run(["run", "b/jobs", "--json"]).code(0).json()["jobs"], 2);
    std::os::unix::fs::symlink(place.path("a/jobs"), place.path("link")).unwrap();
    place.run(["run", "link"]).code(0).stdout_has("finished before");
}

#[test]
fn two_runs_share_a_store_and_are_told_apart() {
    let place = Place::new();
    place.write("a", simulated(2));
    place.write("b", simulated(3));
    let run = |file: &str| place.run(["run", file, "--store", "both.db", "--json"]).code(0).json();
    assert_eq!(run("a")["jobs"], 2);
    assert_eq!(run("b")["jobs"], 3);
    assert_eq!(run("a")["jobs"], 2);
    // Starting one over leaves the other.
    place.run(["run", "a", "--store", "both.db", "--again"]).code(0);
    assert_eq!(run("b")["jobs"], 3);
}

#[test]
fn a_run_of_a_stream_is_resumed_by_its_name() {
    let place = Place::new();
    let run = |input: &str| place.run_with(input, ["run", "-", "--run", "nightly", "--json"]);
    assert_eq!(run(&simulated(3)).code(0).json()["jobs"], 3);
    assert_eq!(run(&simulated(5)).code(0).json()["jobs"], 5);
    run(&simulated(5).replace("1ms", "2ms")).code(2).stderr_has("stdin:1: this line has changed");
    run("").code(2).stderr_has("the input ends here");
    assert_eq!(place.stores().len(), 1);
}

#[test]
fn killed_while_it_reads_a_long_file_every_line_is_one_job() {
    let place = Place::new();
    place.write("jobs", simulated(8_000));
    for accepted in [1, 3_000] {
        let mut running = place.spawn(place.command(["run", "-q", "jobs"]));
        let mut stdout = running.stdout();
        for _ in 0..accepted {
            assert!(!next_line(&mut stdout).is_empty());
        }
        running.kill();
    }
    let summary = place.run(["run", "jobs", "--json"]).code(0).json();
    assert_eq!((&summary["jobs"], &summary["lines"]), (&8_000.into(), &8_000.into()), "{summary}");
    assert_eq!(summary["counts"]["started"], 8_000);
}

#[test]
fn a_named_stream_that_was_killed_goes_on_behind_what_was_accepted() {
    let place = Place::new();
    let mut endpoint = Endpoint::answering(0);
    let first = simulated(1_500) + &http(endpoint.address, 1, "");
    let args = ["run", "-", "--run", "stream", "--json"];
    let mut command = place.command(args);
    command.stdin(Stdio::piped());
    let mut running = place.spawn(command);
    let mut stdin = running.stdin();
    stdin.write_all(first.as_bytes()).unwrap();
    endpoint.wait_for(1);
    running.kill();
    endpoint.open();
    let summary = place.run_with(first + &simulated(1_499), args).code(0).json();
    assert_eq!((&summary["jobs"], &summary["counts"]["started"]), (&3_000.into(), &3_000.into()));
}

#[test]
fn an_appended_line_that_conflicts_with_a_stored_job_is_named() {
    let place = Place::new();
    let job = r#"{"start":{"simulated":{"delay":"1ms"}},"idempotency_key":"k"}"#;
    place.write("jobs", format!("{job}\n"));
    place.run(["run", "jobs"]).code(0);
    // The same content again is the same job.
    place.append("jobs", &format!("{job}\n"));
    let summary = place.run(["run", "jobs", "--json"]).code(0).json();
    assert_eq!((&summary["jobs"], &summary["repeated_lines"]), (&1.into(), &1.into()));
    place.append("jobs", &format!("{}{}", job.replace("1ms", "2ms"), "\n"));
    place.run(["run", "jobs"]).code(2).stderr_has("jobs:3: idempotency_key: ");
    let summary = place.run(["run", "jobs", "--json"]).code(1).json();
    assert_eq!((&summary["jobs"], &summary["skipped_lines"]), (&1.into(), &1.into()));
}
