//! Programs over the network.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use serde_json::{Value, json};

use super::{Attacked, TCP, guid, refused};
use crate::harness::Place;

fn process(program: &str, more: Value) -> Value {
    let mut process = json!({"program": program});
    process.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"start": {"process": process}})
}

fn script(place: &Place, name: &str) -> String {
    place.write(name, format!("#!/bin/sh\necho ran >> {}\n", place.text("ran")));
    fs::set_permissions(place.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    place.text(name)
}

#[test]
fn nothing_runs_unless_it_is_allowed() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    for program in ["/bin/true", "/bin/sh", "true", "./true", ""] {
        attacked.submit(&process(program, json!({}))).problem(400, "invalid_job");
    }
}

#[test]
fn what_is_allowed_opens_nothing_else() {
    let place = Place::new();
    for name in ["bin", "work"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    let good = script(&place, "bin/good");
    script(&place, "evil");
    symlink(place.path("evil"), place.path("bin/link")).unwrap();
    symlink("/", place.path("bin/root")).unwrap();
    symlink("/", place.path("work/root")).unwrap();
    let (bin, work) = (place.text("bin"), place.text("work"));
    let allowed = [
        "--allow-programs",
        &bin,
        "--allow-directories",
        &work,
        "--allow-env",
        "MODE,APP_*",
        "--socket",
        "sock",
    ];
    let attacked = Attacked::start(&place, &[TCP, &allowed].concat());
    let beside = format!("{work}-beside");
    for (field, program, more) in [
        ("program", "/bin/sh".to_owned(), json!({"args": ["-c", "true"]})),
        ("program", place.text("evil"), json!({})),
        ("program", format!("{bin}/../evil"), json!({})),
        ("program", format!("{bin}/./../evil"), json!({})),
        ("program", format!("{bin}/link"), json!({})),
        ("program", format!("{bin}/root/bin/sh"), json!({})),
        ("program", "good".to_owned(), json!({})),
        ("program", "bin/good".to_owned(), json!({})),
        ("program", format!("{good}\0/bin/sh"), json!({})),
        ("cwd", good.clone(), json!({"cwd": "/"})),
        ("cwd", good.clone(), json!({"cwd": beside})),
        ("cwd", good.clone(), json!({"cwd": format!("{work}/../bin")})),
        ("cwd", good.clone(), json!({"cwd": format!("{work}/root/tmp")})),
        ("stdout", good.clone(), json!({"stdout": place.text("out")})),
        ("stdout", good.clone(), json!({"stdout": format!("{work}/root/etc/cron.d/x")})),
        ("stderr", good.clone(), json!({"stderr": format!("{work}/../out")})),
        ("stdout", good.clone(), json!({"stdout": "out"})),
        ("env.LD_PRELOAD", good.clone(), json!({"env": {"LD_PRELOAD": format!("{work}/evil.so")}})),
        ("env.PATH", good.clone(), json!({"env": {"PATH": work}})),
        ("env.BASH_ENV", good.clone(), json!({"env": {"BASH_ENV": "x"}})),
        ("env", good.clone(), json!({"env": {"MODE=1\0LD_PRELOAD": "x"}})),
    ] {
        let problem = attacked.submit(&process(&program, more.clone())).problem(400, "invalid_job").json();
        let named = problem["field"].as_str().unwrap_or_default();
        assert!(named.starts_with(&format!("start.process.{field}")), "{program:?} {more}: {problem}");
        assert!(!problem["detail"].as_str().unwrap().contains('\0'), "{problem}");
    }
    let more = json!({"cwd": work, "stdout": format!("{work}/out"), "env": {"MODE": "1", "APP_X": "2"}});
    let record = attacked.ended(&process(&good, more));
    assert_eq!(record["state"], "started", "{record}");
}

#[test]
fn a_program_that_became_a_link_is_refused_when_it_starts() {
    let place = Place::new();
    fs::create_dir(place.path("bin")).unwrap();
    let (good, evil) = (script(&place, "bin/good"), script(&place, "evil"));
    let attacked = Attacked::start(&place, &[TCP, &["--allow-programs", &place.text("bin")]].concat());
    let mut job = process(&good, json!({}));
    job["delay"] = "1h".into();
    let guid = guid(&attacked.submit(&job).status(201));
    fs::remove_file(&good).unwrap();
    symlink(evil, &good).unwrap();
    attacked.daemon.ask("POST", &format!("/v1/jobs/{guid}:start-now"), "").status(200);
    refused(&attacked.until_final(&guid), "program: ");
    assert!(!place.path("ran").exists());
}
