//! `sendoff submit`.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::{
    client_fake::{Answer, Asked, Fake, guid, ok, problem, record},
    harness::Place,
};

/// A daemon that accepts everything as job 1.
fn accepting(place: &Place) -> Fake {
    Fake::of(place, |_, _| accepted())
}

fn accepted() -> Answer {
    let mut record = record(1, "pending");
    record["created"] = true.into();
    record["durability"] = "disk".into();
    Answer::Whole(201, "", record.to_string())
}

/// What was submitted, without its guid, which must be a new one of version 7.
fn sent(asked: &Asked) -> Value {
    assert_eq!(asked.line, "POST /v1/jobs");
    assert!(asked.headers.contains("content-type: application/json\n"), "{asked:?}");
    let mut job = asked.json();
    let guid = job.as_object_mut().unwrap().remove("guid").unwrap();
    assert_eq!(guid.as_str().unwrap().as_bytes()[14], b'7', "{guid}");
    job
}

#[test]
fn each_kind_of_start_has_its_words() {
    let place = Place::new();
    let fake = accepting(&place);
    place.write("body", "text");
    place.write("tool", "");
    std::fs::set_permissions(place.path("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let url = "http://127.0.0.1:8333/";
    for args in [
        &["submit", "http", url, "--data-json", r#"{"a":1.0}"#, "-H", "X-A: b", "-X", "PUT"][..],
        &["submit", "http", url, "--header-secret", "Authorization=Bearer env:HOOK", "--data-file", "body"],
        &["submit", "process", "--env", "A=b=c", "--cwd", "/tmp", "--stdout", "out", "--", "./tool", "-x"],
        &["submit", "simulated", "250ms"],
    ] {
        place.run(args).code(0);
    }
    place
        .run_with(r#"{"start":{"simulated":{"delay":"1ms"}},"queue":"a"}"#, ["submit", "job", "-", "-Q", "b"])
        .code(0);
    let jobs: Vec<_> = fake.asked().iter().map(sent).collect();
    let at = place.path(".").canonicalize().unwrap();
    let at = at.display();
    assert_eq!(
        jobs,
        [
            json!({"start": {"http": {"url": url, "method": "PUT", "headers": {"X-A": "b"}, "json": {"a": 1.0}}}}),
            json!({"start": {"http": {"url": url, "body": "text", "headers": {
                "Authorization": {"secret": "env:HOOK", "prefix": "Bearer "}
            }}}}),
            json!({"start": {"process": {
                "program": format!("{at}/./tool"), "args": ["-x"], "env": {"A": "b=c"}, "cwd": "/tmp",
                "stdout": format!("{at}/out")
            }}}),
            json!({"start": {"simulated": {"delay": "250ms"}}}),
            json!({"start": {"simulated": {"delay": "1ms"}}, "queue": "b"}),
        ]
    );
}

#[test]
fn options_say_when_and_how() {
    let place = Place::new();
    let fake = accepting(&place);
    let simulated = ["submit", "simulated", "1ms"];
    place
        .run(simulated.iter().chain(&[
            "--in",
            "3h",
            "-Q",
            "mail",
            "--priority",
            "3",
            "-l",
            "a=1",
            "-l",
            "b=2",
            "--retries",
            "0",
            "--at-most-once",
            "--expires-in",
            "24h",
            "--start-timeout",
            "5s",
        ]))
        .code(0);
    place
        .run(simulated.iter().chain(&[
            "--at",
            "2027-01-01T09:00[Europe/Paris]",
            "--at-least-once",
            "--expires-at",
            "2027-01-02T00:00:00Z",
            "--key",
            "k",
        ]))
        .code(0);
    let start = json!({"simulated": {"delay": "1ms"}});
    assert_eq!(
        sent(&fake.asked()[0]),
        json!({
            "start": start, "delay": "3h", "queue": "mail", "priority": 3, "labels": {"a": "1", "b": "2"},
            "retry": {"max_attempts": 1}, "delivery": "at_most_once", "expires_in": "24h", "start_timeout": "5s"
        })
    );
    // A key names the job as well as a guid does.
    assert_eq!(
        fake.asked()[1].json(),
        json!({
            "start": start, "run_at": "2027-01-01T08:00:00.000000Z", "delivery": "at_least_once",
            "expires_at": "2027-01-02T00:00:00.000000Z", "idempotency_key": "k"
        })
    );
    for wrong in [
        &["--in", "3h", "--at", "2027-01-01T00:00:00Z"][..],
        &["--at-most-once", "--at-least-once"],
        &["--priority", "10"],
        &["--guid", "x"],
        &["-l", "a"],
    ] {
        place.run(simulated.iter().chain(wrong)).code(2);
    }
}

#[test]
fn variables_of_a_started_process_are_no_options() {
    let place = Place::new();
    let fake = accepting(&place);
    let mut command = place.command(["submit", "simulated", "1ms"]);
    command.env("SENDOFF_GUID", guid(9)).env("SENDOFF_QUEUE", "of-the-parent");
    place.spawn(command).end().code(0);
    assert_eq!(sent(&fake.asked()[0]), json!({"start": {"simulated": {"delay": "1ms"}}}));
}

#[test]
fn it_prints_a_line_a_guid_or_the_record() {
    let place = Place::new();
    let _fake = accepting(&place);
    let submit = ["submit", "simulated", "1ms"];
    let line = place.run(submit).code(0).stdout;
    assert!(line.starts_with(&format!("{}  pending, due 2027-01-01T12:00:00Z", guid(1))), "{line}");
    assert_eq!(place.run(submit.iter().chain(&["-q"])).code(0).stdout, format!("{}\n", guid(1)));
    let json = place.run(submit.iter().chain(&["--json"])).code(0).json();
    assert_eq!(
        (&json["created"], &json["durability"], &json["queue"]),
        (&true.into(), &"disk".into(), &"mail".into())
    );
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_guid() {
    let place = Place::new();
    let fake = Fake::of(&place, |_, before| match before {
        0 => Answer::Lost,
        1 => Answer::Whole(503, "retry-after: 0\r\n", r#"{"type":"/problems/busy"}"#.into()),
        2 => problem(503, "commit_unknown", "nobody knows", json!({})),
        _ => accepted(),
    });
    place.run(["submit", "simulated", "1ms"]).code(0);
    let asked = fake.asked();
    assert_eq!(asked.len(), 4);
    assert!(asked.iter().all(|again| again.body == asked[0].body), "{asked:?}");
}

#[test]
fn refusals_are_told_and_not_repeated() {
    let place = Place::new();
    let fake = Fake::of(&place, |_, before| match before {
        0 => problem(
            400,
            "invalid_job",
            "start.http.url: it names no host",
            json!({"field": "start.http.url"}),
        ),
        1 => problem(409, "conflict", "the guid names another job", json!({})),
        2 => problem(503, "store_broken", "the store is broken", json!({})),
        _ => problem(507, "disk_full", "the disk is full", json!({})),
    });
    let submit = ["submit", "simulated", "1ms"];
    place.run(submit).code(2).stderr_has("sendoff: start.http.url: it names no host\n");
    place.run(submit).code(2).stderr_has("the guid names another job");
    place.run(submit).code(4).stderr_has("the store is broken");
    place.run(submit).code(4).stderr_has("the disk is full");
    assert_eq!(fake.asked().len(), 4);
    place.run(["submit", "process", "--", "no-such-program-anywhere"]).code(2).stderr_has("in PATH");
    place
        .run(["submit", "http", "http://x/", "--data-json", "{"])
        .code(2)
        .stderr_has("--data-json is not JSON");
    place
        .run(["submit", "http", "http://x/", "--header-secret", "A=hunter2"])
        .code(2)
        .stderr_has("env:VARIABLE");
    assert_eq!(fake.asked().len(), 4);
}

#[test]
fn it_can_wait_for_the_start() {
    for (state, wait, code) in [
        ("started", "--wait", 0),
        ("failed", "--wait=1h", 1),
        ("unknown", "--wait", 1),
        ("pending", "--wait=0s", 124),
    ] {
        let place = Place::new();
        let fake = Fake::of(&place, move |_, before| match before {
            0 => accepted(),
            _ => ok(record(1, state)),
        });
        place
            .run(["submit", "simulated", "1ms", wait])
            .code(code)
            .stdout_has(&format!("{}  {state}", guid(1)));
        assert!(
            fake.lines()[1].starts_with(&format!("GET /v1/jobs/{}?wait=", guid(1))),
            "{:?}",
            fake.lines()
        );
    }
}
