//! Input of every kind: each bad one gets exit code 2 and words, and nothing is started.

use crate::harness::{Place, simulated, touch};

const GUID: &str = "018f2b1e-0000-7000-8000-00000000000a";

/// Runs a good line that leaves a trace, then this one; the words name what is wrong with line 2.
#[track_caller]
fn refused(line: impl AsRef<[u8]>, words: &str) {
    let place = Place::new();
    let trace = place.path("trace");
    let mut jobs = touch(&trace).into_bytes();
    jobs.extend_from_slice(line.as_ref());
    jobs.extend_from_slice(b"\n");
    place.write("jobs", jobs);
    place
        .run(["run", "jobs"])
        .code(2)
        .stderr_has("jobs:2: ")
        .stderr_has(words)
        .stderr_has("nothing was started");
    assert!(!trace.exists(), "a job was started");
    assert!(place.stores().is_empty(), "a store was made");
}

#[test]
fn a_bad_line_is_named_with_its_field() {
    let simulated = r#""start":{"simulated":{"delay":"1ms"}}"#;
    for (line, words) in [
        (format!("{{{simulated},\"quue\":\"x\"}}"), "unknown field `quue`"),
        (format!("{{{simulated},\"delay\":\"soon\"}}"), "delay: \"soon\" is not a duration"),
        (format!("{{{simulated},\"priority\":-1}}"), "priority: "),
        (format!("{{{simulated},\"priority\":10}}"), "priority: "),
        (format!("{{{simulated},\"retry\":{{\"max_attempts\":99999999999}}}}"), "retry.max_attempts: "),
        (format!("{{{simulated},\"delay\":\"99999999999999999999s\"}}"), "delay: "),
        (format!("{{{simulated},\"run_at\":\"1969-12-31T23:59:59Z\"}}"), "run_at: "),
        (format!("{{{simulated},\"run_at\":\"10000-01-01T00:00:00Z\"}}"), "run_at: "),
        (
            format!(
                "{{{simulated},\"run_at\":\"2030-01-02T00:00:00Z\",\"expires_at\":\"2030-01-01T00:00:00Z\"}}"
            ),
            "expires_at: ",
        ),
        (
            r#"{"start":{"simulated":{"delay":"1ms"},"http":{"url":"http://127.0.0.1/"}}}"#.into(),
            "two starters",
        ),
        (r#"{"start":{"magic":{}}}"#.into(), "start: there is no starter \"magic\""),
        (r#"{"start":{"http":{"url":"ftp://127.0.0.1/"}}}"#.into(), "start.http.url: "),
        (r#"{"start":{"http":{"url":"http://"}}}"#.into(), "start.http.url: "),
        (r#"{"start":{"process":{"program":"/tmp"}}}"#.into(), "start.process.program: "),
        (
            r#"{"start":{"process":{"program":"no-such-program-anywhere"}}}"#.into(),
            "is no program \"no-such-program-anywhere\" in PATH",
        ),
        (r#"{"start":{"process":{"program":"true","args":["a\u0000b"]}}}"#.into(), "start.process.args"),
        ("not json".into(), "expected"),
        ("{} {}".into(), "missing field `start`"),
    ] {
        refused(line, words);
    }
}

#[test]
fn bytes_that_are_no_text_and_lines_without_end_are_refused() {
    refused(b"{\"start\xff\"}", "not UTF-8 after byte 7");
    refused(vec![b'x'; 3 * 1024 * 1024], "a line of 3145728 bytes is longer than the 1048576 allowed");
}

#[test]
fn a_name_for_two_different_jobs_is_found_before_anything_starts() {
    let place = Place::new();
    let line = |more: &str| format!(r#"{{"start":{{"simulated":{{"delay":"1ms"}}}}{more}}}"#);
    place.write(
        "jobs",
        [
            line(&format!(r#","guid":"{GUID}""#)),
            line(&format!(r#","guid":"{GUID}","priority":3"#)),
            line(r#","idempotency_key":"k""#),
            line(r#","idempotency_key":"k","priority":3"#),
        ]
        .join("\n"),
    );
    place
        .run(["run", "jobs"])
        .code(2)
        .stderr_has("jobs:2: guid: line 1 has the same one for another job")
        .stderr_has("jobs:4: idempotency_key: line 3 ")
        .stderr_has("2 lines are bad, and nothing was started; --skip-invalid starts the others");
}

#[test]
fn only_twenty_bad_lines_are_shown() {
    let place = Place::new();
    place.write("jobs", "bad\n".repeat(25));
    let ended = place.run(["run", "jobs"]).code(2).stderr_has("25 lines are bad (5 more than are shown)");
    assert_eq!(ended.stderr.lines().filter(|line| line.starts_with("jobs:")).count(), 20, "{ended}");
}

#[test]
fn skip_invalid_starts_the_rest_and_reports_every_bad_line() {
    let place = Place::new();
    let name = format!(r#"{{"start":{{"simulated":{{"delay":"1ms"}}}},"guid":"{GUID}"}}"#);
    let other = name.replace("1ms", "2ms");
    place.write("jobs", format!("{}{}{name}\n{other}\n", simulated(2), "bad\n".repeat(25)));
    let ended = place.run(["run", "--skip-invalid", "--json", "jobs"]).code(1);
    let summary = ended.json();
    assert_eq!(summary["counts"]["started"], 3);
    assert_eq!(summary["skipped_lines"], 26);
    let reported = ended.stderr.lines().filter(|line| line.contains("\"line\":")).count();
    assert_eq!(reported, 26, "{ended}");
    // The same when asked again.
    assert_eq!(place.run(["run", "--skip-invalid", "--json", "jobs"]).code(1).json()["skipped_lines"], 26);
}

#[test]
fn what_is_no_file_of_jobs_is_refused() {
    let place = Place::new();
    place.write("empty", "");
    place.write("blank", "\n  \n\n");
    place.run(["run", "empty"]).code(2).stderr_has("empty: there is no job in it");
    place.run(["run", "blank"]).code(2).stderr_has("blank: there is no job in it");
    place.run(["run", "."]).code(2).stderr_has("it is a directory");
    place.run(["run", "missing"]).code(2).stderr_has("missing: No such file");
    place.run_with("", ["run", "-"]).code(2).stderr_has("stdin: there is no job in it");
    assert!(place.stores().is_empty());
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let place = Place::new();
    for args in [
        &["run"][..],
        &["run", "a", "b"],
        &["run", "--max-in-flight", "0", "a"],
        &["run", "--quiet", "--json", "a"],
        &["run", "--each-line", "a"],
        &["run", "a", "--", "true"],
        &["run", "--run", "", "a"],
        &["fly"],
        &["--log", "=", "run", "a"],
        &["sink", "--status", "99"],
    ] {
        place.run(args).code(2);
    }
}

#[test]
fn flags_may_come_by_environment() {
    let place = Place::new();
    place.write("jobs", simulated(3));
    let mut command = place.command(["run", "jobs"]);
    command.env("SENDOFF_JSON", "yes").env("SENDOFF_STORE", "memory").env("SENDOFF_RUN", "by-env");
    let summary = place.spawn(command).end().code(0).json();
    assert_eq!((&summary["run"], &summary["store"]), (&"by-env".into(), &"memory".into()));
}
