//! The commands about jobs that were submitted.

use serde_json::{Value, json};

use crate::{
    client_fake::{Answer, Fake, guid, ok, problem, record},
    harness::Place,
};

fn page(jobs: impl IntoIterator<Item = Value>, next: Option<&str>) -> Answer {
    ok(json!({"jobs": jobs.into_iter().collect::<Vec<_>>(), "next_cursor": next}))
}

#[test]
fn a_job_is_named_by_its_guid_or_the_end_of_it() {
    let place = Place::new();
    let fake = Fake::of(&place, |asked, _| match asked.line.as_str() {
        line if line.contains("cursor=b") => page([record(0xabcdef, "started")], None),
        line if line.contains("guid_suffix=abcdef") => page([], Some("b")),
        line if line.contains("guid_suffix=00000000") => {
            page([record(1, "started"), record(2, "failed")], None)
        }
        line if line.contains("guid_suffix") => page([], None),
        _ => ok(record(0xabcdef, "started")),
    });
    // Hyphens and case do not matter, and an empty page with a cursor is not the last.
    place.run(["show", "-q", "AB-CDEF"]).code(0);
    assert_eq!(
        fake.lines(),
        [
            "GET /v1/jobs?guid_suffix=abcdef&order=newest".to_owned(),
            "GET /v1/jobs?guid_suffix=abcdef&order=newest&cursor=b".to_owned(),
            format!("GET /v1/jobs/{}", guid(0xabcdef)),
        ]
    );
    place.run(["show", "-q", &guid(0xabcdef).to_uppercase().replace('-', "")]).code(0);
    let ended = place.run(["show", "00000000"]).code(2).stderr_has("00000000 fits several jobs");
    for words in [guid(1), guid(2), "failed".into(), "http 127.0.0.1:8333".into()] {
        assert!(ended.stderr.contains(&words), "{ended}");
    }
    place.run(["show", "fedcba"]).code(3).stderr_has("no job's guid ends in fedcba");
    place.run(["show", "12345"]).code(2).stderr_has("the last 6 or more");
    place.run(["show", "nothex!"]).code(2).stderr_has("names no job");
}

#[test]
fn list_passes_filters_on_and_walks_pages() {
    let place = Place::new();
    let fake = Fake::of(&place, |asked, _| match asked.line.contains("cursor=") {
        false => page([record(3, "pending"), record(2, "failed")], Some("a b")),
        true => page([record(1, "started")], None),
    });
    insta::assert_snapshot!("client_list", place.run(["list", "--all"]).code(0).stdout);
    assert_eq!(
        fake.lines(),
        ["GET /v1/jobs?order=newest&limit=1000", "GET /v1/jobs?order=newest&limit=1000&cursor=a+b"]
    );
    let args = [
        "list",
        "-n",
        "2",
        "-s",
        "failed",
        "-Q",
        "a&b",
        "-l",
        "customer=7=8",
        "--from",
        "2027-01-01T00:00:00Z",
        "--to",
        "2027-01-01T09:00[Europe/Paris]",
        "--submitted-by",
        "uid:1000",
        "--oldest",
        "-q",
    ];
    assert_eq!(place.run(args).code(0).stdout, format!("{}\n{}\n", guid(3), guid(2)));
    assert_eq!(
        fake.lines()[2],
        "GET /v1/jobs?queue=a%26b&label=customer%3D7%3D8&from=2027-01-01T00%3A00%3A00.000000Z\
         &to=2027-01-01T08%3A00%3A00.000000Z&submitted_by=uid%3A1000&state=failed&order=oldest&limit=2"
    );
    place.run(["list", "-n", "2"]).code(0).stderr_has("these are 2; there may be more: --limit N or --all");
    let lines = place.run(["list", "--json", "--all"]).code(0).stdout;
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [record(3, "pending"), record(2, "failed"), record(1, "started")]);
    place.run(["list", "--state", "done"]).code(2).stderr_has("it is one of pending, starting, started");
}

#[test]
fn show_tells_all_and_why() {
    let place = Place::new();
    let _fake = Fake::of(&place, |asked, _| match asked.line.as_str() {
        "GET /v1/queues/mail" => {
            ok(json!({"name": "mail", "limits": {"paused": true}, "counts": {"pending": 1}}))
        }
        line if line.ends_with('1') => ok(record(1, "started")),
        line if line.ends_with('2') => ok(record(2, "unknown")),
        line if line.ends_with('3') => {
            let mut due = record(3, "pending");
            due["run_at"] = "2020-01-01T00:00:00.000000Z".into();
            due["next_at"] = due["run_at"].clone();
            ok(due)
        }
        _ => problem(404, "no_job", "there is no such job", json!({})),
    });
    insta::assert_snapshot!("client_show", place.run(["show", &guid(1), &guid(2), &guid(3)]).code(0).stdout);
    assert_eq!(place.run(["show", "--json", &guid(2)]).code(0).json(), record(2, "unknown"));
    let ended = place.run(["show", &guid(4), &guid(1)]).code(3).stdout_has("started");
    assert_eq!(ended.stderr, format!("{}: there is no such job\n", guid(4)));
}

#[test]
fn wait_takes_guids_from_a_pipe_and_answers_in_order() {
    let place = Place::new();
    let fake = Fake::of(&place, |asked, _| match asked.line.contains(&guid(2)) {
        true => ok(record(2, "failed")),
        false => ok(record(1, "started")),
    });
    place.run_with(format!("{}\n\n", guid(1)), ["wait", "-"]).code(0);
    let both = format!("{}\n{}\n", guid(1), guid(2));
    let ended = place.run_with(&both, ["wait", "-", "-q"]).code(1);
    assert_eq!(ended.stdout, both);
    place.run(["wait", &guid(2)]).code(1).stdout_has("failed: 410 Gone");
    assert_eq!(fake.lines()[0], format!("GET /v1/jobs/{}?wait=30s", guid(1)));
}

#[test]
fn a_daemon_that_does_not_wait_is_not_asked_without_a_pause() {
    let place = Place::new();
    let fake = Fake::of(&place, |_, _| ok(record(1, "pending")));
    place.run(["wait", "--timeout", "600ms", &guid(1)]).code(124);
    // As fast as it can it would be hundreds of times.
    assert!(fake.lines().len() <= 4, "{}", fake.lines().len());
}

#[test]
fn a_wait_runs_out() {
    let place = Place::new();
    let _fake = Fake::of(&place, |_, _| ok(record(1, "pending")));
    place
        .run(["wait", "--timeout", "0s", &guid(1)])
        .code(124)
        .stdout_has("pending")
        .stderr_has("the time ran out");
    // Also when nobody closes the input.
    let mut command = place.command(["wait", "--timeout", "1ms", "-"]);
    command.stdin(std::process::Stdio::piped());
    let mut running = place.spawn(command);
    let stdin = running.stdin();
    running.end().code(124);
    drop(stdin);
}

#[test]
fn cancel_says_what_is_certain() {
    let place = Place::new();
    let fake =
        Fake::of(&place, |asked, _| match asked.line.as_bytes()[asked.line.len() - ":cancel".len() - 1] {
            b'1' => {
                ok(json!({"outcome": "cancelled", "maybe_started": false, "record": record(1, "cancelled")}))
            }
            b'2' => {
                ok(json!({"outcome": "cancelled", "maybe_started": true, "record": record(2, "cancelled")}))
            }
            b'3' => problem(
                409,
                "too_late",
                "it was started",
                json!({"record": record(3, "started"), "cancel_requested": false}),
            ),
            b'4' => problem(
                409,
                "too_late",
                "it is starting",
                json!({"record": record(4, "starting"), "cancel_requested": true}),
            ),
            _ => problem(404, "no_job", "there is no such job", json!({})),
        });
    let all: Vec<_> = (1..=5).map(guid).collect();
    let ended = place.run(["cancel"].into_iter().chain(all.iter().map(String::as_str))).code(3);
    insta::assert_snapshot!("client_cancel", format!("{}{}", ended.stdout, ended.stderr));
    place.run(["cancel", &guid(1)]).code(0);
    place.run(["cancel", &guid(3)]).code(1);
    assert!(fake.lines().contains(&format!("POST /v1/jobs/{}:cancel", guid(1))));
    let quiet = place.run(["cancel", "-q", &guid(1), &guid(3)]).code(1);
    assert_eq!(quiet.stdout, format!("{}\n", guid(1)));
    let json = place.run(["cancel", "--json", &guid(3)]).code(1).json();
    assert_eq!((&json["outcome"], &json["record"]["state"]), (&"too_late".into(), &"started".into()));
}

#[test]
fn a_bulk_cancel_needs_to_be_told_what_and_goes_on_to_its_end() {
    let place = Place::new();
    let fake = Fake::of(&place, |asked, _| match asked.body.contains("cursor") {
        false => ok(json!({"cancelled": 2000, "maybe_started": 1, "too_late": 0, "next_cursor": "c"})),
        true => ok(json!({"cancelled": 500, "maybe_started": 0, "too_late": 2, "next_cursor": null})),
    });
    place
        .run(["cancel", "-Q", "mail", "--label", "customer=7"])
        .code(1)
        .stdout_has("2,500 jobs cancelled (1 of them may have started before), 2 too late")
        .stderr_has("2,000 cancelled so far");
    let filter = json!({"queue": "mail", "label": "customer=7"});
    assert_eq!(fake.asked()[0].json(), json!({"filter": filter}));
    assert_eq!(fake.asked()[1].json(), json!({"filter": filter, "cursor": "c"}));
    let sum = place.run(["cancel", "--all", "--json"]).code(1).json();
    assert_eq!(sum, json!({"cancelled": 2500, "maybe_started": 1, "too_late": 2}));
    assert_eq!(fake.asked()[2].json(), json!({"all": true}));
    place.run(["cancel"]).code(2);
    place.run(["cancel", "--all", "-Q", "mail"]).code(2);
    place.run(["cancel", "--all", &guid(1)]).code(2);
    assert_eq!(fake.asked().len(), 4);
}

#[test]
fn decisions_are_passed_on() {
    let place = Place::new();
    let fake = Fake::of(&place, |_, before| match before {
        0..4 => ok(record(1, "pending")),
        4 => problem(409, "not_pending", "the job has started", json!({"record": record(1, "started")})),
        _ => Answer::Lost,
    });
    let job = guid(1);
    place.run(["reschedule", &job, "--in", "3h"]).code(0);
    place.run(["reschedule", &job, "--at", "2027-01-01T09:00:00Z", "-q"]).code(0);
    place.run(["start-now", &job]).code(0);
    place.run(["resolve", &job, "failed", "--json"]).code(0);
    let bodies: Vec<_> = fake.asked().iter().map(|asked| asked.body.clone()).collect();
    let said = [r#"{"delay":"3h"}"#, r#"{"run_at":"2027-01-01T09:00:00.000000Z"}"#, "", r#"{"to":"failed"}"#];
    assert_eq!(bodies, said);
    let verbs =
        fake.lines().iter().map(|line| line.rsplit(':').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(verbs, ["reschedule", "reschedule", "start-now", "resolve"]);
    place.run(["start-now", &job]).code(1).stderr_has("the job has started");
    // What might do more the second time is not repeated.
    place.run(["resolve", &job, "pending"]).code(4).stderr_has("look before you ask again");
    assert_eq!(fake.asked().len(), 6);
    place.run(["reschedule", &job]).code(2);
    place.run(["resolve", &job, "gone"]).code(2);
}

#[test]
fn stats_are_a_table() {
    let place = Place::new();
    let _fake = Fake::of(&place, |_, _| {
        ok(json!({
            "counts": {"pending": 1200, "started": 3, "failed": 1},
            "queues": {"default": {"pending": 1200}, "mail": {"started": 3, "failed": 1}},
            "in_flight": 0, "next_due": "2027-01-01T12:00:00.000000Z", "oldest_overdue_seconds": 90.5,
            "durability": "disk", "version": "0.1.0", "uptime_seconds": 93600.0
        }))
    });
    insta::assert_snapshot!("client_stats", place.run(["stats"]).code(0).stdout);
    assert_eq!(place.run(["stats", "--json"]).code(0).json()["counts"]["pending"], 1200);
}

#[test]
fn queues_are_listed_and_held_to_limits() {
    let place = Place::new();
    let limits =
        json!({"max_in_flight": 8, "rate": {"starts": 100, "per": "1s", "burst": 20}, "paused": true});
    let mail = json!({"name": "mail", "limits": limits, "counts": {"pending": 1200, "failed": 2}});
    let plain = json!({"name": "a/b", "limits": {"max_in_flight": null, "rate": null, "paused": false}, "counts": {}});
    let fake = Fake::of(&place, move |asked, _| match asked.line.as_str() {
        "GET /v1/queues" => ok(json!({"queues": [plain, mail]})),
        "GET /v1/queues/new" => problem(404, "no_queue", "there is no such queue", json!({})),
        line if line.ends_with(":purge") => {
            ok(json!({"cancelled": 1, "maybe_started": 0, "too_late": 0, "next_cursor": null}))
        }
        _ => ok(&mail),
    });
    insta::assert_snapshot!("client_queues", place.run(["queue", "list"]).code(0).stdout);
    assert_eq!(place.run(["queue", "list", "-q"]).code(0).stdout, "a/b\nmail\n");
    for args in [
        &["show", "mail"][..],
        &["pause", "a/b"],
        &["resume", "mail"],
        &["forget", "mail"],
        &["purge", "mail"],
        &["set", "mail", "--max-in-flight", "none"],
        &["set", "new", "--rate", "5/1m"],
    ] {
        place.run(["queue"].iter().chain(args)).code(0);
    }
    insta::assert_snapshot!(
        "client_queue_calls",
        fake.asked()[2..].iter().map(|asked| format!("{} {}\n", asked.line, asked.body)).collect::<String>()
    );
    place.run(["queue", "show", "new"]).code(3).stderr_has("there is no such queue");
    place.run(["queue", "set", "mail"]).code(2);
    place.run(["queue", "set", "mail", "--rate", "fast"]).code(2).stderr_has("write it like 100/1s");
}
