//! Attacks on the process policy: what is outside of what is allowed does not run and is not written.

#![cfg(all(feature = "process", target_os = "linux"))]

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use sendoff::{
    Grant, Guid, Reach,
    ports::{Attempt, Refusal, Running, StartError, StartErrorClass, Starter},
    starter::{Policy, Process, ProcessOptions, ProcessStarter, SharedPolicy},
};
use serde_json::value::to_raw_value;

const LONG: Duration = Duration::from_secs(30);

/// A place with directories `allowed` and `other`, and copies of `sh` and `true` in each.
struct Place {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for directory in ["allowed", "other"] {
            fs::create_dir(root.join(directory)).unwrap();
            for program in ["sh", "true"] {
                fs::copy(Path::new("/bin").join(program), root.join(directory).join(program)).unwrap();
            }
        }
        Self { _dir: dir, root }
    }

    fn path(&self, name: &str) -> String {
        self.root.join(name).to_str().unwrap().to_owned()
    }

    fn link(&self, to: &str, name: &str) -> String {
        symlink(self.root.join(to), self.root.join(name)).unwrap();
        self.path(name)
    }

    /// What these entries allow; those without a leading slash are in this place.
    fn reach(&self, programs: &[&str], directories: &[&str]) -> Reach {
        let paths = |list: &[&str]| list.iter().map(|name| self.root.join(name)).collect();
        Reach { programs: paths(programs), directories: paths(directories), ..Reach::default() }
    }

    fn starter(&self, programs: &[&str], directories: &[&str]) -> ProcessStarter {
        starter(Policy { everyone: self.reach(programs, directories), local: Reach::default() })
    }
}

fn starter(policy: Policy) -> ProcessStarter {
    let policy = SharedPolicy::new(policy).hint("ask the operator");
    ProcessStarter::with_options(ProcessOptions::new().policy(policy)).unwrap()
}

fn check(starter: &ProcessStarter, process: &Process) -> Result<(), Refusal> {
    starter.check(&to_raw_value(process).unwrap(), None).map(drop)
}

/// Starts, and waits until the child has ended.
async fn run(starter: &ProcessStarter, process: &Process, grant: Option<Grant>) -> Result<(), StartError> {
    let (tell, told) = mpsc::channel();
    let running = Running::new(move || {
        let _ = tell.send(());
    });
    let mut attempt = Attempt::for_test(Guid::from_bytes([7; 16]), to_raw_value(process).unwrap(), running);
    attempt.grant = grant.map(Arc::new);
    starter.start(attempt).await?;
    told.recv_timeout(LONG).unwrap();
    Ok(())
}

/// Refused at submit and, if it got there all the same, at the start.
async fn refused(starter: &ProcessStarter, process: &Process, field: &str) {
    let refusal = check(starter, process).unwrap_err();
    assert_eq!(refusal.field, field, "{refusal:?}");
    let error = run(starter, process, None).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
    assert!(error.message.starts_with(&format!("{field}: ")), "{error}");
}

#[tokio::test]
async fn programs_outside_are_refused() {
    let place = Place::new();
    fs::create_dir(place.root.join("allowed-evil")).unwrap();
    fs::copy("/bin/true", place.root.join("allowed-evil/true")).unwrap();
    let starter = place.starter(&["allowed"], &[]);
    run(&starter, &Process::new(place.path("allowed/true")), None).await.unwrap();
    for name in ["other/true", "allowed-evil/true", "/bin/true"] {
        refused(&starter, &Process::new(place.path(name)), "program").await;
    }
    let refusal = check(&starter, &Process::new("/bin/true")).unwrap_err();
    assert!(refusal.message.ends_with("is not among the programs allowed; ask the operator"), "{refusal:?}");
    let one = place.starter(&["allowed/true"], &[]);
    run(&one, &Process::new(place.path("allowed/true")), None).await.unwrap();
    refused(&one, &Process::new(place.path("allowed/sh")), "program").await;
    refused(&place.starter(&[], &["/"]), &Process::new("/bin/true"), "program").await;
}

#[tokio::test]
async fn going_up_is_refused_wherever_it_leads() {
    let place = Place::new();
    let starter = place.starter(&["allowed"], &["allowed"]);
    let good = Process::new(place.path("allowed/true"));
    for path in ["allowed/../other/true", "allowed/../allowed/true", "allowed/.."] {
        refused(&starter, &Process::new(place.path(path)), "program").await;
        refused(&starter, &good.clone().cwd(place.path(path)), "cwd").await;
        refused(&starter, &good.clone().stdout(place.path(path)), "stdout").await;
        refused(&starter, &good.clone().stderr(place.path(path)), "stderr").await;
    }
}

#[tokio::test]
async fn links_are_held_to_where_they_lead() {
    let place = Place::new();
    let starter = place.starter(&["allowed"], &[]);
    let out = place.link("other/true", "allowed/out");
    let outer = place.link("other", "allowed/outer");
    refused(&starter, &Process::new(out), "program").await;
    refused(&starter, &Process::new(format!("{outer}/true")), "program").await;
    let error = check(&starter, &Process::new(place.path("allowed/out"))).unwrap_err();
    assert!(error.message.contains("leads to a place that is not"), "{error:?}");
    assert!(!error.message.contains("other"), "where it leads is not told: {error:?}");
    // From outside to inside.
    run(&starter, &Process::new(place.link("allowed/true", "in")), None).await.unwrap();
    // An allowed link allows what it leads to, as /bin does on most systems.
    let linked = place.starter(&["link", "one"], &[]);
    place.link("allowed", "link");
    place.link("other/true", "one");
    run(&linked, &Process::new(place.path("link/true")), None).await.unwrap();
    run(&linked, &Process::new(place.path("allowed/true")), None).await.unwrap();
    run(&linked, &Process::new(place.path("one")), None).await.unwrap();
    run(&linked, &Process::new(place.path("other/true")), None).await.unwrap();
    refused(&linked, &Process::new(place.path("other/sh")), "program").await;
}

#[tokio::test]
async fn a_link_that_is_changed_after_submit_is_refused_at_the_start() {
    let place = Place::new();
    let starter = place.starter(&["allowed"], &[]);
    let process = Process::new(place.link("allowed/true", "allowed/link"));
    check(&starter, &process).unwrap();
    fs::remove_file(place.root.join("allowed/link")).unwrap();
    place.link("other/true", "allowed/link");
    let error = run(&starter, &process, None).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
    assert!(error.message.contains("leads to a place that is not among the programs allowed"), "{error}");
    // Not there yet: judged as written now, and by what is there then.
    check(&starter, &Process::new(place.path("allowed/later"))).unwrap();
    assert_eq!(check(&starter, &Process::new(place.path("other/later"))).unwrap_err().field, "program");
}

#[tokio::test]
async fn the_program_keeps_its_name_and_the_file_found_is_executed() {
    let place = Place::new();
    let starter = place.starter(&["allowed"], &["allowed"]);
    let name = place.link("allowed/sh", "allowed/called-so");
    let script = r#"tr '\0' '\n' < /proc/$$/cmdline | head -n1; readlink /proc/$$/exe"#;
    let process = Process::new(&name).args(["-c", script]).stdout(place.path("allowed/out"));
    run(&starter, &process, None).await.unwrap();
    let seen = fs::read_to_string(place.root.join("allowed/out")).unwrap();
    assert_eq!(seen, format!("{name}\n{}\n", place.path("allowed/sh")));
}

#[tokio::test]
async fn work_and_output_stay_in_allowed_directories() {
    let place = Place::new();
    let starter = place.starter(&["allowed"], &["allowed"]);
    let program = || Process::new(place.path("allowed/sh")).args(["-c", "pwd; echo e >&2"]);
    let good =
        program().cwd(place.path("allowed")).stdout(place.path("allowed/o")).stderr(place.path("allowed/e"));
    run(&starter, &good, None).await.unwrap();
    assert_eq!(fs::read_to_string(place.root.join("allowed/o")).unwrap(), place.path("allowed") + "\n");
    assert_eq!(fs::read_to_string(place.root.join("allowed/e")).unwrap(), "e\n");

    refused(&starter, &program().cwd(place.path("other")), "cwd").await;
    refused(&starter, &program().cwd("/"), "cwd").await;
    refused(&starter, &program().stdout(place.path("other/o")), "stdout").await;
    refused(&starter, &program().stderr(place.path("other/e")), "stderr").await;
    let outer = place.link("other", "allowed/outer");
    refused(&starter, &program().cwd(&outer), "cwd").await;
    refused(&starter, &program().stdout(format!("{outer}/o")), "stdout").await;
    // A file that is a link is not followed, wherever it leads.
    for to in ["other/o", "allowed/o"] {
        let link = place.link(to, "allowed/file-link");
        let error = run(&starter, &program().stdout(&link), None).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
        assert!(error.message.contains("symbolic link"), "{error}");
        fs::remove_file(link).unwrap();
    }
    assert!(!place.root.join("other/o").exists() && !place.root.join("other/e").exists());

    let none = place.starter(&["allowed"], &[]);
    run(&none, &Process::new(place.path("allowed/true")), None).await.unwrap();
    refused(&none, &good, "cwd").await;
}

#[tokio::test]
async fn variables_have_to_be_listed() {
    let place = Place::new();
    let with = |env: &[&str]| {
        let env = env.iter().map(|&name| name.to_owned()).collect();
        starter(Policy { everyone: Reach { env, ..place.reach(&["allowed"], &[]) }, local: Reach::default() })
    };
    let process = |name: &str| Process::new(place.path("allowed/true")).env(name, "hunter2");
    let some = with(&["LANG", "APP_*"]);
    for name in ["LANG", "APP_", "APP_A"] {
        run(&some, &process(name), None).await.unwrap();
    }
    for name in ["LD_PRELOAD", "PATH", "LANGUAGE", "lang", "XAPP_A"] {
        refused(&some, &process(name), &format!("env.{name}")).await;
        let refusal = check(&some, &process(name)).unwrap_err();
        assert!(!refusal.message.contains("hunter2"), "{refusal:?}");
    }
    refused(&with(&[]), &process("A"), "env.A").await;
    run(&with(&["*"]), &process("LD_BIND_NOW"), None).await.unwrap();
}

#[tokio::test]
async fn policy_and_grant_both_have_to_allow() {
    let place = Place::new();
    let reach = |programs: &[&str]| place.reach(programs, &[]);
    let starter = starter(Policy { everyone: reach(&["allowed/true"]), local: reach(&["/"]) });
    let [mine, others] =
        ["allowed/true", "allowed/sh"].map(|name| Process::new(place.path(name)).args(["-c", ":"]));
    for (grant, process, allowed) in [
        (None, &mine, true),
        (None, &others, false),
        (Some(Grant { local: false, reach: reach(&["/"]) }), &others, false),
        (Some(Grant { local: true, reach: reach(&["/"]) }), &others, true),
        (Some(Grant { local: true, reach: reach(&["allowed/true"]) }), &others, false),
        (Some(Grant { local: true, reach: reach(&["allowed/true"]) }), &mine, true),
        (Some(Grant::default()), &mine, false),
    ] {
        let payload = to_raw_value(process).unwrap();
        assert_eq!(starter.check(&payload, grant.as_ref()).is_ok(), allowed, "{grant:?}");
        assert_eq!(run(&starter, process, grant.clone()).await.is_ok(), allowed, "{grant:?}");
    }
}
