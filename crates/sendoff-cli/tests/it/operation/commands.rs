//! The commands that speak to a daemon, to a real one.

use serde_json::Value;

use super::{LATER, count};
use crate::{
    endpoint::Endpoint,
    harness::{Daemon, Ended, Place, next_line, simulated},
};

fn lines(ended: &Ended) -> Vec<String> {
    ended.stdout.lines().map(str::to_owned).collect()
}

fn guid(ended: &Ended) -> String {
    ended.stdout.trim().to_owned()
}

#[test]
fn a_job_from_its_submit_to_its_end() {
    let place = Place::new();
    let _daemon = Daemon::start(&place, &["--store", "memory"]);
    let later = ["submit", "simulated", "1ms", "--in", "1h", "-l", "team=blue", "-Q", "mail", "-q"];
    let first = guid(&place.run(later).code(0));
    let second = guid(&place.run(later).code(0));
    assert_eq!(lines(&place.run(["list", "-q", "-Q", "mail", "--oldest"]).code(0)), [&*first, &second]);
    assert_eq!(lines(&place.run(["list", "-q", "-l", "team=red"]).code(0)).len(), 0);
    // The end of a guid is enough.
    let shown = place.run(["show", "--json", &first[first.len() - 8..]]).code(0).json();
    assert_eq!((&shown["guid"], &shown["labels"]["team"]), (&first.as_str().into(), &"blue".into()));
    place.run(["wait", &first, "--timeout", "10ms"]).code(124);
    let moved = place.run(["reschedule", &first, "--in", "2h", "--json"]).code(0).json();
    assert_ne!(moved["run_at"], shown["run_at"]);
    place.run(["start-now", &first]).code(0);
    place.run(["wait", &first]).code(0).stdout_has("started");
    place.run(["cancel", &first]).code(1);
    place.run(["cancel", &second]).code(0);
    place.run(["wait", &second]).code(1).stdout_has("cancelled");
    place.run(["show", "019a0000-0000-7000-8000-000000000000"]).code(3);
    place.run(["reschedule", &second, "--in", "1h"]).code(1);
    // What one prints the other reads.
    let submitted = place.run(["submit", "simulated", "1ms", "-q"]).code(0);
    place.run_with(submitted.stdout, ["wait", "-"]).code(0).stdout_has("started");
    place.run(["submit", "simulated", "1ms", "--wait"]).code(0).stdout_has("started");
    place.run(["submit", "simulated", "1ms", "--in", "1h", "--wait=10ms"]).code(124);
    place.run(["stats"]).code(0).stdout_has("STARTED");
}

#[test]
fn queues_are_set_paused_and_purged() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--store", "memory"]);
    place.run(["queue", "set", "mail", "--max-in-flight", "2", "--rate", "10/1m"]).code(0);
    place.run(["queue", "pause", "mail"]).code(0);
    let limits = daemon.ask("GET", "/v1/queues/mail", "").status(200).json()["limits"].clone();
    assert_eq!((&limits["max_in_flight"], &limits["paused"]), (&2.into(), &true.into()), "{limits}");
    for _ in 0..3 {
        place.run(["submit", "simulated", "1ms", "-Q", "mail"]).code(0);
    }
    place.run(["queue", "list"]).code(0).stdout_has("mail");
    place.run(["queue", "purge", "mail"]).code(0).stdout_has("3");
    assert_eq!(count(&daemon, "cancelled"), 3);
    place.run(["queue", "resume", "mail"]).code(0);
    let limits = daemon.ask("GET", "/v1/queues/mail", "").status(200).json()["limits"].clone();
    assert_eq!((&limits["max_in_flight"], &limits["paused"]), (&2.into(), &false.into()), "{limits}");
    place.run(["queue", "pause", "no/such"]).code(2);
}

#[test]
fn a_long_batch_and_a_cancel_of_all_of_it() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--store", "memory"]);
    place.write("jobs", format!("{LATER}\n").repeat(20_000));
    let ended = place.run(["batch", "jobs", "-q"]).code(0);
    assert_eq!(lines(&ended).len(), 20_000);
    assert_eq!(count(&daemon, "pending"), 20_000);
    // All or nothing has a limit.
    place.run(["batch", "jobs", "--atomic"]).code(2).stderr_has("10,000");
    place.write("some", simulated(2) + "{}\n" + &simulated(1));
    place.run(["batch", "some"]).code(1).stderr_has("some:3: ");
    place.run(["cancel"]).code(2);
    place.run(["cancel", "--all"]).code(0).stdout_has("20,000");
    assert_eq!(count(&daemon, "cancelled"), 20_000);
}

#[test]
fn a_secret_is_looked_up_by_the_daemon() {
    let mut endpoint = Endpoint::answering(usize::MAX);
    let place = Place::new();
    let mut command = Daemon::command(&place, &[]);
    command.env("HOOK_TOKEN", "hunter2");
    let daemon = Daemon::spawn(command);
    let url = format!("http://{}/", endpoint.address);
    let submit = |secret: &str| {
        let header = format!("authorization={secret}");
        let args = ["submit", "http", &url, "--header-secret", &header, "--retries", "0", "--json", "--wait"];
        let mut command = place.command(args);
        command.env("CLIENTS_OWN", "hunter3");
        place.spawn(command).end()
    };
    let started = submit("env:HOOK_TOKEN").code(0).json();
    assert_eq!(started["state"], "started", "{started}");
    endpoint.wait_for(1);
    let failed = submit("env:CLIENTS_OWN").code(1).json();
    assert!(failed["last_error"]["message"].as_str().unwrap().contains("CLIENTS_OWN"), "{failed}");
    assert_eq!(daemon.stop().0, Some(0));
    for file in std::fs::read_dir(place.path("state/sendoff")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"hunter"));
    }
}

#[test]
fn over_tcp_with_a_token() {
    let place = Place::new();
    let token = place.run(["token", "create", "ci", "--scope", "submit"]).code(0).stdout.trim().to_owned();
    let daemon = Daemon::start(&place, &["--store", "memory", "--listen", "127.0.0.1:0", "--socket", "none"]);
    let url = format!("http://{}", daemon.address());
    let run = |args: &[&str], token: &str| {
        let mut command = place.command(args);
        command.env("SENDOFF_URL", &url).env("SENDOFF_TOKEN", token);
        place.spawn(command).end()
    };
    let ended = run(&["submit", "simulated", "1ms"], &token).code(0);
    assert!(!ended.stdout.contains(&token) && !ended.stderr.contains(&token));
    run(&["list"], &token).code(4).stderr_has("scope `read`");
    let refused = run(&["list"], "sdo_wrong").code(4);
    assert!(!refused.stderr.contains("sdo_wrong"), "{refused}");
    run(&["submit", "process", "--", "/bin/true"], &token).code(2).stderr_has("program");
}

#[test]
fn watch_tells_what_happens_to_a_pipe() {
    let place = Place::new();
    let _daemon = Daemon::start(&place, &["--store", "memory"]);
    let mut watching = place.spawn(place.command(["watch", "--json", "-Q", "mail"]));
    let mut stdout = watching.stdout();
    // It listens some time after it was started; until then it is told nothing.
    let told = std::thread::spawn(move || next_line(&mut stdout));
    while !told.is_finished() {
        place.run(["submit", "simulated", "1ms", "-Q", "mail", "--wait"]).code(0);
    }
    let event: Value = serde_json::from_str(&told.join().unwrap()).unwrap();
    assert_eq!(event["queue"], "mail", "{event}");
    watching.signal(rustix::process::Signal::INT);
}

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let place = Place::new();
    for args in [&["list"][..], &["stats"], &["submit", "simulated", "1ms"], &["watch"], &["queue", "list"]] {
        place.run(args).code(4).stderr_has("sendoff serve");
    }
}
