//! `sendoff bench`, as small as can be: that all is there, never how fast.

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Daemon, Place};

const TINY: [&str; 6] = ["bench", "--quick", "--runs", "1", "--jobs", "20"];

/// The same every time: which cases there are, with which sides and goals.
fn outline(report: &Value) -> String {
    let mut lines = String::new();
    for case in report["cases"].as_array().unwrap() {
        lines.push_str(&format!("{} {}\n", text(&case["workload"]), text(&case["case"])));
        for side in case["sides"].as_array().unwrap() {
            let raw = if side["raw"].as_bool().unwrap() { " (raw)" } else { "" };
            let figures = ["per_second", "cpu_us", "bytes_per_job", "times_us"];
            let figures: Vec<_> = figures.into_iter().filter(|figure| !side[figure].is_null()).collect();
            lines.push_str(&format!("  {}{raw}: {}\n", text(&side["side"]), figures.join(", ")));
            let rate = &side["per_second"];
            assert!(rate.is_null() || rate["min"].as_f64() <= rate["median"].as_f64(), "{side}");
        }
        for goal in case["goals"].as_array().unwrap() {
            let bound = if goal["at_least"].is_null() { "at_most" } else { "at_least" };
            assert!(goal["met"].is_boolean() && goal["is"].is_number(), "{goal}");
            let against = goal["against"].as_str().map_or(String::new(), |side| format!(" of {side}"));
            let (side, figure) = (text(&goal["side"]), text(&goal["figure"]));
            lines.push_str(&format!("  {side}: {figure} {bound} {}{against}\n", goal[bound]));
        }
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn every_case_is_measured_and_told_as_json() {
    let place = Place::new();
    std::fs::create_dir(place.path("disk")).unwrap();
    let ended = place.run(TINY.into_iter().chain(["--json", "--plot", "plot.svg", "--dir", "disk"])).code(0);
    let report = ended.json();
    assert_eq!(report["format"], 1);
    assert_eq!((&report["runs"], &report["complete"]), (&1.into(), &true.into()));
    assert!(report["machine"]["cpus"].as_u64() >= Some(1), "{report}");
    assert!(report["goals_met"].is_u64() && report["goals_missed"].is_u64(), "{report}");
    insta::assert_snapshot!("bench_outline", outline(&report));
    assert_eq!(std::fs::read_dir(place.path("disk")).unwrap().count(), 0, "no file is left behind");
    well_formed(&place.read("plot.svg"));
}

#[test]
fn scale_is_measured_on_stores_that_were_filled_before() {
    let place = Place::new();
    let ended = place.run(TINY.into_iter().chain(["scale", "--rows", "5,50", "--json"])).code(0);
    insta::assert_snapshot!("bench_scale_outline", outline(&ended.json()));
}

#[test]
fn postgres_is_measured_and_left_empty() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().unwrap();
    let place = Place::new();
    let tiny = || TINY.into_iter().chain(["postgres", "--json"]);
    let measured = |code| {
        let mut command = place.command(tiny());
        // A command line can be seen by others.
        command.env("SENDOFF_BENCH_STORE", &url);
        place.spawn(command).end().code(code)
    };
    insta::assert_snapshot!("bench_postgres_outline", outline(&measured(0).json()));
    measured(0);
    let mut daemon = Daemon::command(&place, &[]);
    daemon.env("SENDOFF_STORE", &url);
    let daemon = Daemon::spawn(daemon);
    let job = r#"{"start":{"simulated":{"delay":"1ms"}},"delay":"1h"}"#;
    daemon.ask("POST", "/v1/jobs", job).status(201);
    measured(2).stderr_has("works on it, and bench deletes all jobs");
    daemon.stop();
    measured(2).stderr_has("it holds 1 job, and bench deletes all jobs");
}

#[test]
fn people_get_a_table_and_the_goals() {
    let place = Place::new();
    let ended = place.run(TINY.into_iter().chain(["pending"])).code(0);
    for words in [
        "pending cancel: 20 jobs",
        "tokio tasks that sleep",
        "goal: bytes of sendoff at most 232",
        "of 2 goals met",
    ] {
        assert!(ended.stdout.contains(words), "{ended}");
    }
    assert!(ended.stderr_has("measuring pending cancel").stdout.starts_with("sendoff "));
    assert_eq!(place.run(TINY.into_iter().chain(["pending", "-q"])).code(0).stdout, "");
}

#[test]
fn what_was_measured_before_an_interruption_is_told() {
    let place = Place::new();
    std::fs::create_dir(place.path("disk")).unwrap();
    // The second case takes its time: its jobs come at an even pace.
    let two = ["bench", "--runs", "1", "--jobs", "1000", "pending", "lateness", "--json"];
    let mut running = place.spawn(place.command(two.into_iter().chain(["--dir", "disk"])));
    running.until_stderr("measuring lateness");
    running.signal(Signal::INT);
    let ended = running.end().code(1).stderr_has("interrupted; the cases before are reported");
    let report = ended.json();
    assert_eq!(report["complete"], false);
    assert!(outline(&report).starts_with("pending "), "{report}");
    assert_eq!(std::fs::read_dir(place.path("disk")).unwrap().count(), 0, "no file is left behind");
}

#[test]
fn wrong_usage() {
    let place = Place::new();
    place.run(["bench", "sleep"]).code(2).stderr_has("possible values");
    place.run(["bench", "pending", "--dir", "nowhere"]).code(2).stderr_has("--dir: no folder can be made");
    place.run(["bench", "pending", "--jobs", "1", "--plot", "nowhere/p.svg"]).code(2).stderr_has("--plot: ");
    place.run(["bench", "--part", "{}"]).code(2).stderr_has("--part: ");
    place.run(["bench", "postgres"]).code(2).stderr_has("--store: postgres needs");
    place.run(["bench", "postgres", "--store", "jobs.db"]).code(2).stderr_has("--store: postgres needs");
}

/// Every element of an XML text is closed by its own end.
fn well_formed(xml: &str) {
    assert!(xml.starts_with("<svg ") && !xml.contains("NaN") && !xml.contains("inf"), "{xml}");
    let mut open = Vec::new();
    for piece in xml.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').unwrap();
        let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap();
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(closed), _) => assert_eq!(open.pop(), Some(closed)),
            (None, true) => {}
            (None, false) => open.push(name),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
    }
    assert!(open.is_empty(), "{open:?} are not closed");
}
