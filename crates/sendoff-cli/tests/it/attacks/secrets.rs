//! What a thief of files, of the log or of answers would find.

use std::{fs, path::Path};

use serde_json::json;

use super::{Attacked, JSON, bearer, trap::Trap};
use crate::harness::{Daemon, Place};

const FROM_VARIABLE: &str = "hunter2-from-a-variable";
const FROM_FILE: &str = "hunter3-from-a-file";

/// The files below a directory that hold these words.
fn holding(directory: &Path, words: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holding(&path, words, found);
        } else if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            if bytes.windows(words.len()).any(|window| window == words.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn secrets_go_to_their_target_and_nowhere_else() {
    let place = Place::new();
    let good = Trap::on("127.0.0.1", "HTTP/1.1 204 No Content\r\n\r\n");
    let bad = Trap::on("127.0.0.1", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    fs::create_dir(place.path("secrets")).unwrap();
    place.write("secrets/key", FROM_FILE);
    let file = format!("file:{}", place.text("secrets/key"));
    let flags = ["--listen", "127.0.0.1:0", "--log", "trace", "--allow-networks", "127.0.0.0/8"];
    let secrets = ["--allow-secrets", &format!("env:HOOK,{file}")];
    let token = bearer(&place, "eve", "submit,read");
    let mut command = Daemon::command(&place, &[&flags[..], &secrets].concat());
    command.env("HOOK", FROM_VARIABLE);
    let attacked = Attacked { daemon: Daemon::spawn(command), bearer: token };

    let headers =
        json!({"x-variable": {"secret": "env:HOOK", "prefix": "Bearer "}, "x-file": {"secret": file}});
    let mut seen = String::new();
    for trap in [&good, &bad] {
        let payload = json!({"url": format!("http://{}/", trap.address), "headers": headers});
        seen += &attacked.ended(&json!({"start": {"http": payload}})).to_string();
        let (_, heads) = trap.seen();
        assert!(heads[0].contains(FROM_VARIABLE) && heads[0].contains(FROM_FILE), "{heads:?}");
    }
    // What is not allowed is not looked up, and a refusal shows nothing.
    for other in ["env:PATH", "env:HOOK2", "file:/etc/passwd", &format!("{file}/../key")] {
        let payload = json!({"url": "http://127.0.0.1/", "headers": {"x": {"secret": other}}});
        let refused = attacked.submit(&json!({"start": {"http": payload}})).problem(400, "invalid_job");
        assert_eq!(refused.json()["field"], "start.http.headers.x.secret", "{other}: {refused:?}");
        seen += &refused.body;
    }
    for path in ["/v1/jobs", "/v1/stats", "/metrics", "/v1/queues"] {
        seen += &attacked.ask("GET", path, "").status(200).body;
    }
    let secret = attacked.bearer.split_once("sdo_").unwrap().1.to_owned();
    let wrong = format!("{}x", attacked.bearer);
    let post = |path: &str| attacked.daemon.tcp().ask("POST", path, &[&wrong, JSON], "{}");
    seen += &post("/v1/jobs").problem(401, "unauthorized").body;
    seen += &post(&format!("/v1/queues/sdo_{secret}:pause")).problem(401, "unauthorized").body;

    // While it runs, with its journal, and after it was killed.
    let mut places = Vec::new();
    for words in [FROM_VARIABLE, FROM_FILE, &secret] {
        holding(&place.path("state"), words, &mut places);
        assert!(!seen.contains(words), "{seen}");
    }
    let (code, log) = attacked.daemon.stop();
    assert_eq!(code, Some(0));
    for words in [FROM_VARIABLE, FROM_FILE, &secret] {
        holding(&place.path("state"), words, &mut places);
        assert!(!log.contains(words), "{log}");
    }
    assert!(places.is_empty(), "{places:?}");
}
