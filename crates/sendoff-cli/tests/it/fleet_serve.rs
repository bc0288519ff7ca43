//! Two daemons on one PostgreSQL.

use std::{
    io::{BufRead, BufReader},
    process::Command,
    sync::Arc,
};

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};

use crate::harness::{Daemon, Place};

/// A job for this queue.
fn job(queue: &str) -> String {
    json!({ "start": { "simulated": { "delay": "1ms" } }, "queue": queue }).to_string()
}

/// A daemon on this database.
fn command(place: &Place, url: &str, flags: &[&str]) -> Command {
    let mut command = Daemon::command(place, flags);
    command.env("SENDOFF_STORE", url);
    command
}

fn submit(daemon: &Daemon, job: &str) -> String {
    let answer = daemon.ask("POST", "/v1/jobs", job).status(201).json();
    answer["guid"].as_str().unwrap().to_owned()
}

/// The record once it is final, as this daemon sees it.
fn ended(daemon: &Daemon, guid: &str) -> Value {
    daemon.ask("GET", &format!("/v1/jobs/{guid}?wait=1m"), "").status(200).json()
}

fn nodes(daemon: &Daemon) -> Vec<Value> {
    let answer = daemon.ask("GET", "/v1/nodes", "").status(200).json();
    answer["nodes"].as_array().unwrap().clone()
}

#[test]
fn each_node_starts_its_queues_and_takes_jobs_for_all() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().unwrap();
    let (here, there) = (Place::new(), Place::new());
    let gpu = Daemon::spawn(command(&here, &url, &["--queues", "gpu"]));
    let rest = Daemon::spawn(command(&there, &url, &["--queues", "default,mail", "--poll-interval", "1s"]));
    assert_eq!(nodes(&gpu).len(), 2);
    let name_of = |daemon: &Daemon| {
        nodes(daemon).into_iter().find(|node| node["this"] == true).unwrap()["node"].clone()
    };
    let (first, second) = (name_of(&gpu), name_of(&rest));
    assert_ne!(first, second);
    for (queue, node) in [("gpu", &first), ("mail", &second), ("default", &second)] {
        for daemon in [&gpu, &rest] {
            let record = ended(daemon, &submit(daemon, &job(queue)));
            assert_eq!((&record["state"], &record["node"]), (&json!("started"), node), "{queue}");
        }
    }
    let shown = here.run(["nodes", "-q"]).code(0).stdout;
    assert_eq!(shown.lines().collect::<Vec<_>>(), [first.as_str().unwrap(), second.as_str().unwrap()]);
    here.run(["nodes"]).code(0).stdout_has("default, mail");
    let stats = gpu.ask("GET", "/v1/stats", "").status(200).json();
    assert_eq!(stats["counts"]["started"], 6, "of both nodes");
    let metrics = rest.ask("GET", "/metrics", "").status(200).body;
    assert!(metrics.contains("\nsendoff_nodes_alive 2") && metrics.contains("\nsendoff_lease_held 1"));
    assert_eq!(rest.stop().0, Some(0));
    assert_eq!(nodes(&gpu).len(), 1, "who stops takes its leave");
    assert_eq!(gpu.stop().0, Some(0));
}

#[test]
fn a_database_that_goes_away_and_comes_back_needs_no_restart() {
    if !testpg::wanted() {
        return;
    }
    let installation = testpg::Installation::find().unwrap();
    let server = testpg::Server::start(&installation, testpg::Options::new()).unwrap();
    let url = server.new_database().unwrap();
    let place = Place::new();
    let daemon = Daemon::spawn(command(&place, &url, &[]));
    daemon.ask("GET", "/readyz", "").status(200);
    server.kill().unwrap();
    // While the loss is being noticed it may be that nobody knows what became of a write.
    while daemon.ask("POST", "/v1/jobs", &job("a")).status(503).json()["type"]
        != "/problems/store_unavailable"
    {}
    while daemon.ask("GET", "/readyz", "").status != 503 {}
    let health = daemon.ask("GET", "/healthz", "").status(200).json();
    assert_eq!((&health["status"], &health["store_reachable"]), (&json!("ok"), &json!(false)));
    server.restart().unwrap();
    while daemon.ask("GET", "/readyz", "").status != 200 {}
    // The connection that writes comes back by itself, too; the command waits for it.
    let guid = place.run(["submit", "simulated", "1ms", "-q"]).code(0).stdout;
    assert_eq!(ended(&daemon, guid.trim())["state"], "started");
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn at_most_once_is_refused_where_a_failover_could_forget_unless_that_is_accepted() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().unwrap();
    let (server, database) = url.rsplit_once('/').unwrap();
    let port = server.rsplit_once(':').unwrap().1;
    let url = format!("{server},127.0.0.1:{port}/{database}");
    let once =
        json!({ "start": { "simulated": { "delay": "1ms" } }, "delivery": "at_most_once" }).to_string();
    let place = Place::new();
    let daemon = Daemon::spawn(command(&place, &url, &[]));
    let refused = daemon.ask("POST", "/v1/jobs", &once).status(503);
    assert!(refused.body.contains("allow_async_failover"), "{refused:?}");
    submit(&daemon, &job("a"));
    let ready = daemon.ask("GET", "/readyz", "").status(200).json();
    assert_eq!((&ready["durability"], &ready["fleet"]["at_most_once"]), (&json!("disk"), &json!(false)));
    assert!(ready["degraded"].to_string().contains("at_most_once"), "{ready}");
    assert_eq!(daemon.stop().0, Some(0));
    let daemon = Daemon::spawn(command(&place, &url, &["--allow-async-failover"]));
    submit(&daemon, &once);
    let ready = daemon.ask("GET", "/readyz", "").status(200).json();
    assert_eq!((&ready["degraded"], &ready["fleet"]["at_most_once"]), (&json!([]), &json!(true)));
    assert_eq!(daemon.stop().0, Some(0));
}

#[test]
fn a_database_that_is_away_at_the_start_is_waited_for_and_no_password_is_shown() {
    if !testpg::wanted() {
        return;
    }
    let installation = testpg::Installation::find().unwrap();
    let server = testpg::Server::start(&installation, testpg::Options::new()).unwrap();
    let url = server.new_database().unwrap().replace("sendoff@", "sendoff:hush@");
    server.stop_fast().unwrap();
    let place = Place::new();
    let mut impatient = command(&place, &url, &[]).spawn().unwrap();
    let mut log = BufReader::new(impatient.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("trying again") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it waits for the database");
        assert!(!line.contains("hush"), "{line}");
    }
    rustix::process::kill_process(Pid::from_child(&impatient), Signal::TERM).unwrap();
    assert_eq!(impatient.wait().unwrap().code(), Some(0));
    let place = Arc::new(place);
    let waiting = {
        let (place, url) = (place.clone(), url.clone());
        std::thread::spawn(move || Daemon::spawn(command(&place, &url, &[])))
    };
    server.restart().unwrap();
    let daemon = waiting.join().unwrap();
    assert!(!daemon.ready.to_string().contains("hush"), "{}", daemon.ready);
    daemon.ask("GET", "/readyz", "").status(200);
    let (code, log) = daemon.stop();
    assert_eq!(code, Some(0));
    assert!(!log.contains("hush"), "{log}");
}
