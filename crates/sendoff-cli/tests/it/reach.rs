//! What the HTTP jobs of a run may reach.

use crate::{endpoint::Endpoint, harness::Place};

fn job(url: &str) -> String {
    format!("{{\"start\":{{\"http\":{{\"url\":\"{url}\"}}}}}}\n")
}

#[test]
fn other_machines_of_a_private_network_are_refused_and_the_flag_is_named() {
    let place = Place::new();
    for url in ["http://10.1.2.3/", "http://169.254.169.254/", "http://[fd00:ec2::254]/", "http://0xa010203/"]
    {
        place.write("jobs", job(url));
        let words = "no allowed network holds it; --allow-network allows it";
        place.run(["run", "jobs"]).code(2).stderr_has("jobs:1: start.http.url: ").stderr_has(words);
    }
}

/// The second line keeps the first from being started.
#[test]
fn networks_are_allowed_by_flag_and_variable() {
    let place = Place::new();
    place.write("jobs", job("http://10.1.2.3/") + &job("http://[fd00::1]/") + "bad\n");
    for allowed in
        [&["--allow-network", "10.1.0.0/16", "--allow-network", "fd00::/8"][..], &["--allow-network=any"]]
    {
        let ended = place.run([&["run", "jobs"], allowed].concat()).code(2).stderr_has("jobs:3: ");
        assert!(!ended.stderr.contains("jobs:1: ") && !ended.stderr.contains("jobs:2: "), "{}", ended.stderr);
    }
    let mut command = place.command(["run", "jobs"]);
    command.env("SENDOFF_ALLOW_NETWORK", "10.1.2.3,192.168.0.0/16");
    let ended = place.spawn(command).end().code(2).stderr_has("jobs:2: ").stderr_has("jobs:3: ");
    assert!(!ended.stderr.contains("jobs:1: "), "{}", ended.stderr);
    place.run(["run", "jobs", "--allow-network", "10.0.0.0/33"]).code(2).stderr_has("is no network");
}

#[test]
fn secrets_of_the_environment_and_of_files_reach_this_machine_and_no_record() {
    let mut endpoint = Endpoint::answering(usize::MAX);
    let place = Place::new();
    place.write("token", "hunter2\n");
    let url = format!("http://{}/", endpoint.address);
    let file = place.path("token");
    let headers = format!(
        r#"{{"authorization":{{"secret":"env:TOKEN","prefix":"Bearer "}},"x-file":{{"secret":"file:{}"}}}}"#,
        file.display()
    );
    place.write("jobs", format!(r#"{{"start":{{"http":{{"url":"{url}","headers":{headers}}}}}}}"#));
    let mut command = place.command(["run", "jobs", "--records", "records", "--store", "store.db"]);
    command.env("TOKEN", "hunter3");
    place.spawn(command).end().code(0);
    endpoint.wait_for(1);
    assert!(!place.read("records").contains("hunter"));
    let store = std::fs::read(place.path("store.db")).unwrap();
    assert!(!store.windows(6).any(|bytes| bytes == b"hunter"));
}
