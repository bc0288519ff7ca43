//! `sendoff watch` where no terminal is.

use serde_json::json;

use crate::{
    client_fake::{Answer, Fake, guid, problem},
    harness::{Place, next_line},
};

fn event(id: u32, number: u32, state: &str, attempt: u32) -> String {
    let at = "2027-01-01T12:00:00.000000Z";
    let data = json!({"guid": guid(number), "queue": "mail", "state": state, "attempt": attempt, "at": at});
    format!(":\n\nid: {id}\nevent: job\ndata: {data}\n\n")
}

/// Two events, a lost connection, then a gap and another event, then a refusal.
fn telling(place: &Place) -> Fake {
    Fake::of(place, |_, before| match before % 3 {
        0 => Answer::Events(event(7, 1, "starting", 1) + &event(8, 1, "started", 2)),
        1 => Answer::Events(format!(
            "id: 9\nevent: lagged\ndata: {{\"missed\":3}}\n\n{}",
            event(10, 2, "failed", 1)
        )),
        _ => problem(403, "forbidden", "this needs the scope read", json!({})),
    })
}

#[test]
fn events_are_lines_and_a_lost_connection_is_taken_up_where_it_broke() {
    let place = Place::new();
    let fake = telling(&place);
    let ended = place.run(["watch", "-Q", "mail", "--state", "started", "--job", &guid(1)]).code(4);
    insta::assert_snapshot!("client_watch", format!("{}{}", ended.stdout, ended.stderr));
    let asked = fake.asked();
    assert_eq!(asked[0].line, format!("GET /v1/events?queue=mail&state=started&guid={}", guid(1)));
    let last: Vec<_> = asked
        .iter()
        .map(|asked| {
            asked.headers.lines().find_map(|line| line.strip_prefix("last-event-id: ")).map(str::to_owned)
        })
        .collect();
    assert_eq!(last, [None, Some("8".into()), Some("10".into())]);
}

#[test]
fn events_are_json_lines_or_guids() {
    let place = Place::new();
    let _fake = telling(&place);
    let ended = place.run(["watch", "--json"]).code(4);
    let states: Vec<_> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["state"].clone())
        .collect();
    assert_eq!(states, ["starting", "started", "failed"]);
    let quiet = place.run(["watch", "-q"]).code(4).stdout;
    assert_eq!(quiet, format!("{0}\n{0}\n{1}\n", guid(1), guid(2)));
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let place = Place::new();
    let _fake = Fake::of(&place, |_, _| Answer::Events(event(1, 1, "started", 1).repeat(100)));
    let mut running = place.spawn(place.command(["watch"]));
    let mut stdout = running.stdout();
    assert!(next_line(&mut stdout).contains("started"));
    drop(stdout);
    running.end().code(0);
}
