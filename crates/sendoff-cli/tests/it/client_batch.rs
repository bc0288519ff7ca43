//! `sendoff batch`.

use serde_json::{Value, json};

use crate::{
    client_fake::{Answer, Asked, Fake, ok, problem},
    harness::{Place, simulated},
};

/// Accepts every job of a batch under the guid that it came with; `bad` queues are refused.
fn accept(asked: &Asked) -> Answer {
    let mut answer = String::new();
    let mut items = Vec::new();
    for (item, line) in (1..).zip(asked.body.lines()) {
        let job: Value = serde_json::from_str(line).unwrap();
        let verdict = if job["queue"] == "bad" {
            json!({"item": item, "problem": {"type": "/problems/invalid_job", "status": 400, "detail": "queue: no"}})
        } else {
            json!({"item": item, "guid": job["guid"], "created": true})
        };
        answer.push_str(&format!("{verdict}\n"));
        items.push(json!({"guid": job["guid"], "created": true}));
    }
    if asked.line.ends_with("atomic=true") {
        return ok(json!({"items": items, "created": items.len(), "existing": 0, "durability": "disk"}));
    }
    ok(format!(
        "{answer}{}\n",
        json!({"items": items.len(), "created": 0, "existing": 0, "refused": 0, "durability": "disk"})
    ))
}

/// The jobs of all requests.
fn sent(fake: &Fake) -> Vec<Value> {
    fake.asked()
        .iter()
        .flat_map(|asked| {
            asked.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_long_file_goes_out_in_pieces_and_its_guids_come_in_order() {
    let place = Place::new();
    let fake = Fake::of(&place, |asked, _| accept(asked));
    place.write("jobs", simulated(2_500));
    let guids = place.run(["batch", "-q", "jobs"]).code(0).stdout;
    let mut jobs = sent(&fake);
    assert_eq!((fake.asked().len(), jobs.len()), (3, 2_500));
    // The pieces travel beside each other, the jobs of each in order.
    jobs.sort_by_key(|job| job["guid"].as_str().unwrap().to_owned());
    let sorted: Vec<_> = jobs.iter().map(|job| job["guid"].as_str().unwrap()).collect();
    assert_eq!(guids.lines().collect::<Vec<_>>(), sorted);
    place.run(["batch", "jobs"]).code(0).stdout_has("2,500 jobs accepted\n");
}

#[test]
fn bad_lines_hinder_no_other() {
    let place = Place::new();
    let _fake = Fake::of(&place, |asked, _| accept(asked));
    let refused = r#"{"start":{"simulated":{"delay":"1ms"}},"queue":"bad"}"#;
    let text = format!("{}\nnot json\n{refused}\n{}", simulated(1), simulated(1));
    place.write("jobs", &text);
    let ended = place.run(["batch", "jobs"]).code(1).stdout_has("2 jobs accepted, 2 lines refused");
    assert!(ended.stderr.contains("jobs:3: expected"), "{ended}");
    assert!(ended.stderr.contains("jobs:4: queue: no\n"), "{ended}");
    let ended = place.run_with(&text, ["batch", "--json", "-"]).code(1);
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> = lines.iter().map(|line| line["line"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(3), Some(4), Some(5), None]);
    assert_eq!(lines[4], json!({"items": 4, "created": 2, "existing": 0, "refused": 2}));
    place.write("all bad", "x\ny\n");
    place.run(["batch", "all bad"]).code(2);
    place.write("empty", "\n");
    place.run(["batch", "empty"]).code(2).stderr_has("there is no job in it");
    place.run(["batch", "."]).code(2).stderr_has("it is a directory");
    place.run(["batch", "missing"]).code(2).stderr_has("missing: No such file");
}

#[test]
fn a_lost_answer_submits_nothing_twice_and_counts_as_new() {
    let place = Place::new();
    let fake = Fake::of(&place, |asked, before| match before {
        0 => Answer::Lost,
        _ => {
            let job: Value = serde_json::from_str(asked.body.trim()).unwrap();
            let item = json!({"item": 1, "guid": job["guid"], "created": false});
            ok(format!("{item}\n{}\n", json!({"items": 1, "created": 0, "existing": 1, "refused": 0})))
        }
    });
    place.write("jobs", simulated(1));
    let sum = place.run(["batch", "--json", "jobs"]).code(0).stdout;
    assert_eq!(fake.asked()[0].body, fake.asked()[1].body);
    assert!(sum.contains(r#""created":1,"existing":0"#), "{sum}");
    // A job that brings its own key may well have been there before.
    place.write("jobs", r#"{"start":{"simulated":{"delay":"1ms"}},"idempotency_key":"k"}"#);
    place.run(["batch", "jobs"]).code(4).stderr_has("has no guid");
}

#[test]
fn a_piece_that_met_a_store_out_of_reach_is_sent_again() {
    let place = Place::new();
    let away = json!({"type": "/problems/store_unavailable", "status": 503, "detail": "away"});
    let fake = Fake::of(&place, move |asked, before| match before {
        0 => ok(json!({"problem": away, "items": 0})),
        _ => accept(asked),
    });
    place.write("jobs", simulated(2));
    place.run(["batch", "jobs"]).code(0).stdout_has("2 jobs accepted");
    assert_eq!(fake.asked()[0].body, fake.asked()[1].body);
}

#[test]
fn an_answer_that_breaks_off_ends_it_and_says_what_was_accepted() {
    let place = Place::new();
    let _fake = Fake::of(&place, |asked, before| match before {
        0 => accept(asked),
        _ => ok(
            json!({"problem": {"type": "/problems/disk_full", "status": 507, "detail": "the disk is full"}, "items": 0}),
        ),
    });
    let mut command = place.command(["batch", "-q", "-"]);
    command.stdin(std::process::Stdio::piped());
    let mut running = place.spawn(command);
    let (mut stdin, mut stdout) = (running.stdin(), running.stdout());
    // What is there goes out although the input is open.
    std::io::Write::write_all(&mut stdin, simulated(1).as_bytes()).unwrap();
    assert_eq!(crate::harness::next_line(&mut stdout).len(), 36);
    std::io::Write::write_all(&mut stdin, simulated(1).as_bytes()).unwrap();
    running.end().code(4).stderr_has("the disk is full; 1 job accepted before");
    drop(stdin);
}

#[test]
fn all_or_none() {
    let place = Place::new();
    let fake = Fake::of(&place, |asked, before| match before {
        0 => accept(asked),
        _ => problem(400, "invalid_job", "start.http.url: no", json!({"item": 2, "line": 2})),
    });
    place.write("jobs", format!("{}\n\n{}", simulated(1), simulated(1)));
    place.run(["batch", "--atomic", "jobs"]).code(0).stdout_has("2 jobs accepted");
    assert_eq!(fake.lines(), ["POST /v1/jobs:batch?atomic=true"]);
    place
        .run(["batch", "--atomic", "jobs"])
        .code(2)
        .stderr_has("jobs:4: start.http.url: no; nothing was submitted");
    place.write("bad", format!("{}x\ny\n", simulated(1)));
    place
        .run(["batch", "--atomic", "bad"])
        .code(2)
        .stderr_has("bad:2: ")
        .stderr_has("bad:3: ")
        .stderr_has("bad: 2 bad lines, and nothing was submitted");
    place.write("long", simulated(10_001));
    place.run(["batch", "--atomic", "long"]).code(2).stderr_has("at most 10,000 jobs");
    assert_eq!(fake.asked().len(), 2);
}
