//! The process starter with real children.
//!
//! Tests that need a process of their own (lowered limits, blocked signals, counting threads) run
//! this very binary again as [`Inner`].

#![cfg(all(feature = "process", target_os = "linux"))]

use std::{
    collections::BTreeMap,
    fs,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::{
    io::FdFlags,
    process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit},
};
use sendoff::{
    Delivery, Guid, Receipt,
    ports::{Attempt, Running, StartError, StartErrorClass, Starter},
    starter::{Process, ProcessEnv, ProcessOptions, ProcessStarter},
};
use serde_json::value::to_raw_value;

const LONG: Duration = Duration::from_secs(30);

fn attempt(process: &Process, running: Running) -> Attempt {
    Attempt::for_test(Guid::from_bytes([0xab; 16]), to_raw_value(process).unwrap(), running)
}

/// A place among those alive at once, and a channel that says when it is given back.
fn place() -> (Running, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let running = Running::new(move || {
        let _ = tell.send(());
    });
    (running, told)
}

async fn start(starter: &ProcessStarter, process: &Process) -> Result<Receipt, StartError> {
    starter.start(attempt(process, Running::unlimited())).await
}

/// Starts, and waits until the child has ended and been reaped.
async fn run(starter: &ProcessStarter, process: &Process) {
    let (running, ended) = place();
    starter.start(attempt(process, running)).await.unwrap();
    ended.recv_timeout(LONG).unwrap();
}

/// A child that sleeps until it is dropped, to look at from outside.
struct Sleeper(Pid);

impl Sleeper {
    async fn start(
        starter: &ProcessStarter,
        change: impl FnOnce(Process) -> Process,
        running: Running,
    ) -> Self {
        let process = change(Process::new("/bin/sleep").arg("600"));
        let receipt = starter.start(attempt(&process, running)).await.unwrap();
        Self(Pid::from_raw(receipt.pid.unwrap().try_into().unwrap()).unwrap())
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.0.as_raw_nonzero())
    }

    fn status(&self, field: &str) -> String {
        let status = fs::read_to_string(self.proc("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    }

    fn descriptors(&self) -> BTreeMap<u32, String> {
        let mut all = BTreeMap::new();
        for entry in fs::read_dir(self.proc("fd")).unwrap() {
            let entry = entry.unwrap();
            // One that the loader had open may be closed by now.
            if let Ok(target) = fs::read_link(entry.path()) {
                let number = entry.file_name().to_str().unwrap().parse().unwrap();
                all.insert(number, target.to_str().unwrap().to_owned());
            }
        }
        all
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::KILL);
    }
}

/// The fields of a process's stat after its name: state, parent, group, session, …
fn stat(pid: Pid) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

fn alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|stat| stat[0] != "Z")
}

/// Waits for what the system does in its own time; fails after [`LONG`].
#[expect(clippy::disallowed_methods, reason = "a limit for a hanging test, not a measurement")]
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::yield_now();
    }
}

/// This test again, in a process of its own.
struct Inner;

impl Inner {
    const MARK: &str = "SENDOFF_TEST_INNER";

    fn here() -> bool {
        std::env::var_os(Self::MARK).is_some()
    }

    /// Runs the test `name` by itself, its command line behind `wrapper`; its standard output.
    fn run(name: &str, wrapper: &[&str]) -> String {
        let own = std::env::current_exe().unwrap();
        let own = [own.to_str().unwrap(), "--exact", name, "--nocapture", "--test-threads=1"];
        let line = [wrapper, &own].concat();
        let output =
            Command::new(line[0]).args(&line[1..]).env(Self::MARK, "1").stdin(Stdio::null()).output();
        let output = output.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{line:?}\n{out}\n{err}");
        assert!(out.contains("1 passed"), "{line:?}\n{out}\n{err}");
        out.into_owned()
    }
}

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_contracts_defaults() {
    let starter = ProcessStarter::new();
    assert_eq!(starter.name(), "process");
    let defaults = starter.defaults();
    assert_eq!((defaults.delivery, defaults.max_attempts), (Delivery::AtMostOnce, 3));
    assert_eq!((defaults.max_running, defaults.abandonable), (Some(1024), false));
}

#[tokio::test]
async fn arguments_reach_the_program_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let out = path(directory.path(), "out");
    let args = ["%s\\n", "", "a b", "$HOME", "*", "\"quoted\"", "é\n"];
    let process = Process::new("/usr/bin/printf").args(args).stdout(out.as_str());
    run(&ProcessStarter::new(), &process).await;
    assert_eq!(fs::read_to_string(&out).unwrap(), "\na b\n$HOME\n*\n\"quoted\"\né\n\n");
}

#[tokio::test]
async fn the_environment_is_the_base_the_jobs_own_and_the_attempts() {
    let directory = tempfile::tempdir().unwrap();
    let out = path(directory.path(), "out");
    let base = [("A", "base"), ("B", "base")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let options = ProcessOptions::new().env(ProcessEnv::Only(BTreeMap::from(base)));
    let starter = ProcessStarter::with_options(options).unwrap();
    let process = Process::new("/usr/bin/env").env("B", "own").env("C", "x=y").stdout(out.as_str());
    let (running, ended) = place();
    let attempt = attempt(&process, running);
    let due_at = attempt.due_at;
    starter.start(attempt).await.unwrap();
    ended.recv_timeout(LONG).unwrap();

    let text = fs::read_to_string(&out).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    let due_at = format!("SENDOFF_DUE_AT={due_at}");
    let guid = "SENDOFF_GUID=abababab-abab-abab-abab-abababababab";
    assert_eq!(
        lines,
        ["A=base", "B=own", "C=x=y", "SENDOFF_ATTEMPT=1", due_at.as_str(), guid, "SENDOFF_QUEUE=default"]
    );
}

#[tokio::test]
async fn only_a_starter_that_inherits_passes_the_environment_on() {
    if !Inner::here() {
        Inner::run("process_starter::only_a_starter_that_inherits_passes_the_environment_on", &[]);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (env, passed) in [(ProcessEnv::Inherit, true), (ProcessEnv::Clean, false)] {
        let out = path(directory.path(), if passed { "inherit" } else { "clean" });
        let starter = ProcessStarter::with_options(ProcessOptions::new().env(env)).unwrap();
        run(&starter, &Process::new("/usr/bin/env").stdout(out.as_str())).await;
        let text = fs::read_to_string(&out).unwrap();
        assert!(text.lines().any(|line| line.starts_with("PATH=")), "{text}");
        assert_eq!(text.lines().any(|line| line.starts_with(Inner::MARK)), passed, "{text}");
    }
}

#[tokio::test]
async fn output_is_appended_and_both_streams_may_share_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let (out, err) = (path(directory.path(), "out"), path(directory.path(), "err"));
    let starter = ProcessStarter::new();
    let echo = |word: &str| Process::new("/bin/sh").args(["-c", "echo $0; echo $0 >&2", word]);
    run(&starter, &echo("one").stdout(out.as_str()).stderr(err.as_str())).await;
    run(&starter, &echo("two").stdout(out.as_str()).stderr(out.as_str())).await;
    run(&starter, &echo("three")).await;
    assert_eq!(fs::read_to_string(&out).unwrap(), "one\ntwo\ntwo\n");
    assert_eq!(fs::read_to_string(&err).unwrap(), "one\n");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_child_has_its_own_session_its_directory_and_three_descriptors() {
    // A file that any exec of this process would inherit.
    let leaky = tempfile::tempfile().unwrap();
    let leaky = rustix::io::fcntl_dupfd_cloexec(leaky.as_fd(), 100).unwrap();
    rustix::io::fcntl_setfd(&leaky, FdFlags::empty()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let cwd = directory.path().canonicalize().unwrap();
    let out = path(&cwd, "out");

    let starter = ProcessStarter::new();
    let change = |process: Process| process.cwd(cwd.to_str().unwrap()).stderr(out.as_str());
    let child = Sleeper::start(&starter, change, Running::unlimited()).await;
    let null = || "/dev/null".to_owned();
    let wanted = BTreeMap::from([(0, null()), (1, null()), (2, out.clone())]);
    // Its dynamic loader opens and closes libraries at first.
    eventually("0, 1 and 2 are open, and no others", || child.descriptors() == wanted);
    assert_eq!(fs::read_link(child.proc("cwd")).unwrap(), cwd);

    let pid = child.0.as_raw_nonzero().to_string();
    let stat = stat(child.0).unwrap();
    assert_eq!((stat[2].as_str(), stat[3].as_str()), (pid.as_str(), pid.as_str()), "group and session");
    assert_eq!(stat[4], "0", "no terminal");
}

#[test]
fn blocked_and_ignored_signals_do_not_reach_the_child() {
    if !Inner::here() {
        let wrapper = ["/usr/bin/env", "--ignore-signal=HUP", "--block-signal=USR1"];
        Inner::run("process_starter::blocked_and_ignored_signals_do_not_reach_the_child", &wrapper);
        return;
    }
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own = |field: &str| own.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_owned();
    let bits = |text: String| u64::from_str_radix(&text, 16).unwrap();
    assert_ne!(bits(own("SigBlk:")) & 1 << (Signal::USR1.as_raw() - 1), 0, "blocked here");
    assert_ne!(bits(own("SigIgn:")) & 1 << (Signal::HUP.as_raw() - 1), 0, "ignored here");
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        let child = Sleeper::start(&ProcessStarter::new(), |process| process, Running::unlimited()).await;
        assert_eq!((bits(child.status("SigBlk")), bits(child.status("SigIgn"))), (0, 0));
    });
}

#[tokio::test]
async fn failures_have_a_class_and_name_the_field() {
    use StartErrorClass::{NotStarted, Permanent};
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode: u32| {
        let path = path(directory.path(), name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let missing = path(directory.path(), "no/such");
    let folder = directory.path().to_str().unwrap().to_owned();
    let plain = file("plain", "#!/bin/sh\n", 0o644);
    let text = file("text", "hello\n", 0o755);
    let orphan = file("orphan", "#!/no/such/interpreter\n", 0o755);
    let link = path(directory.path(), "link");
    std::os::unix::fs::symlink(&plain, &link).unwrap();
    let fifo = path(directory.path(), "fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();

    let good = || Process::new("/bin/true").arg("hunter2").env("TOKEN", "hunter2");
    let program = |path: &str| Process { program: path.to_owned(), ..good() };
    let starter = ProcessStarter::new();
    for (process, class, words) in [
        (program(&missing), Permanent, format!("program: {missing:?}: No such file")),
        (program(&format!("{plain}/x")), Permanent, format!("program: \"{plain}/x\": Not a directory")),
        (
            program(&folder),
            Permanent,
            format!("program: {folder:?} is not a file that this user may execute"),
        ),
        (program(&plain), Permanent, format!("program: {plain:?} is not a file that this user may execute")),
        (program(&text), Permanent, format!("program: {text:?} is neither a binary")),
        (program(&orphan), Permanent, format!("program: {orphan:?} is there, but not the interpreter")),
        (program(&missing).cwd("/"), Permanent, format!("program: {missing:?}: No such file")),
        (good().cwd(missing.as_str()), Permanent, format!("cwd: {missing:?}: No such file")),
        (good().cwd(plain.as_str()), Permanent, format!("cwd: {plain:?}: Not a directory")),
        (good().stdout(missing.as_str()), Permanent, format!("stdout: {missing:?}: No such file")),
        (good().stderr(folder.as_str()), Permanent, format!("stderr: {folder:?}: Is a directory")),
        (good().stdout(link.as_str()), Permanent, format!("stdout: {link:?}: Too many levels")),
        (good().stderr(fifo.as_str()), NotStarted, format!("stderr: {fifo:?}: No such device")),
    ] {
        let (running, released) = place();
        let err = starter.start(attempt(&process, running)).await.unwrap_err();
        assert_eq!(err.class, class, "{err}");
        assert!(err.message.starts_with(&words), "{words}\n{err}");
        assert!(!err.message.contains("hunter2"), "{err}");
        released.recv_timeout(LONG).expect("the place of what did not start is given back");
    }
}

#[tokio::test]
async fn a_program_open_for_writing_is_pressure() {
    let directory = tempfile::tempdir().unwrap();
    let busy = path(directory.path(), "busy");
    fs::copy("/bin/true", &busy).unwrap();
    let starter = ProcessStarter::new();
    let writer = fs::OpenOptions::new().append(true).open(&busy).unwrap();
    let err = start(&starter, &Process::new(busy.as_str())).await.unwrap_err();
    assert_eq!(err.class, StartErrorClass::Pressure, "{err}");
    drop(writer);
    start(&starter, &Process::new(busy)).await.unwrap();
}

#[test]
fn what_can_never_start_is_refused_at_submit() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().to_str().unwrap();
    let starter = ProcessStarter::new();
    let check = |process: &Process| starter.check(&to_raw_value(process).unwrap(), None);
    for (process, field) in [
        (Process::new("true"), "program"),
        (Process::new(""), "program"),
        (Process::new(folder), "program"),
        (Process::new("/dev/null"), "program"),
        (Process::new("/bin/true\0"), "program"),
        (Process::new("/bin/true").args(["a", "b", "c\0"]), "args[2]"),
        (Process::new("/bin/true").env("A", "b\0"), "env.A"),
        (Process::new("/bin/true").cwd("tmp"), "cwd"),
        (Process::new("/bin/true").stdout("out"), "stdout"),
        (Process::new("/bin/true").args(vec!["x".repeat(100_000); 70]), "args"),
    ] {
        assert_eq!(check(&process).unwrap_err().field, field, "{process:?}");
    }
    assert_eq!(check(&Process::new("/bin/true").arg("x")).unwrap().destination, None);
    check(&Process::new("/not/installed/yet")).expect("it may be there by the time of the start");
}

#[test]
fn an_impossible_base_environment_is_refused() {
    let env = ProcessEnv::Only(BTreeMap::from([("A=b".to_owned(), "hunter2".to_owned())]));
    let err = ProcessStarter::with_options(ProcessOptions::new().env(env)).unwrap_err();
    assert!(err.is_invalid() && err.to_string().starts_with("env.A: "), "{err}");
}

#[tokio::test]
async fn a_place_is_given_back_when_its_child_ends_and_not_before() {
    let starter = ProcessStarter::new();
    let (running, ended) = place();
    let child = Sleeper::start(&starter, |process| process, running).await;
    // Another child's whole life passes meanwhile.
    run(&starter, &Process::new("/bin/true")).await;
    assert_eq!(ended.try_recv(), Err(mpsc::TryRecvError::Empty));
    let pid = child.0;
    drop(child);
    ended.recv_timeout(LONG).unwrap();
    assert_eq!(stat(pid), None, "reaped");
}

#[test]
fn no_zombies_threads_or_descriptors_are_left() {
    if !Inner::here() {
        Inner::run("process_starter::no_zombies_threads_or_descriptors_are_left", &[]);
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let threads = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.starts_with("sendoff-")).count()
    };
    let before = open();
    let starter = ProcessStarter::new();
    assert_eq!(threads(), 0, "none before the first start");
    runtime.block_on(async {
        let wave = || futures_util::future::join_all((0..100).map(|_| start(&starter, &TRUE)));
        let pids: Vec<_> = [wave().await, wave().await].concat();
        let pids: Vec<_> = pids.into_iter().map(|receipt| receipt.unwrap().pid.unwrap()).collect();
        eventually("all 200 are reaped", || {
            !pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists())
        });
    });
    assert!(threads() >= 2);
    let sleeper = runtime.block_on(Sleeper::start(&starter, |process| process, Running::unlimited()));
    drop(starter);
    eventually("only the reaper is left, as long as a child lives", || threads() == 1);
    assert!(alive(sleeper.0), "children survive the starter");
    let pid = sleeper.0;
    drop(sleeper);
    eventually("the last child is reaped", || stat(pid).is_none());
    eventually("and then the reaper ends", || threads() == 0 && open() == before);
}

static TRUE: std::sync::LazyLock<Process> = std::sync::LazyLock::new(|| Process::new("/bin/true"));

#[test]
fn children_outlive_the_process_that_started_them() {
    if Inner::here() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let starter = ProcessStarter::new();
        let sleeper = runtime.block_on(Sleeper::start(&starter, |process| process, Running::unlimited()));
        println!("\npid {}", sleeper.0.as_raw_nonzero());
        std::mem::forget(sleeper);
        return;
    }
    let out = Inner::run("process_starter::children_outlive_the_process_that_started_them", &[]);
    let pid = out.lines().find_map(|line| line.strip_prefix("pid ")).unwrap();
    let sleeper = Sleeper(Pid::from_raw(pid.parse().unwrap()).unwrap());
    assert!(alive(sleeper.0));
    assert_eq!(stat(sleeper.0).unwrap()[3], pid, "in the session that it began");
}

#[test]
fn without_descriptors_starts_are_pressure_or_succeed_and_are_reaped_all_the_same() {
    if !Inner::here() {
        let name = "without_descriptors_starts_are_pressure_or_succeed_and_are_reaped_all_the_same";
        Inner::run(&format!("process_starter::{name}"), &[]);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = path(directory.path(), "out");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    let exhaust = || {
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum }).unwrap();
        let files: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
        assert!(!files.is_empty());
        files
    };
    runtime.block_on(async {
        let starter = ProcessStarter::with_options(ProcessOptions::new().threads(1)).unwrap();
        let files = exhaust();
        let err = start(&starter, &TRUE).await.unwrap_err();
        assert_eq!(err.class, StartErrorClass::Pressure, "{err}");
        drop(files);
        run(&starter, &TRUE).await;

        let files = exhaust();
        run(&starter, &TRUE).await;
        let err = start(&starter, &TRUE.clone().stdout(out.as_str())).await.unwrap_err();
        assert_eq!(err.class, StartErrorClass::Pressure, "{err}");
        assert!(err.message.starts_with("stdout: "), "{err}");
        drop(files);
        run(&starter, &TRUE.clone().stdout(out)).await;
    });
}

#[tokio::test]
async fn a_start_whose_future_is_dropped_before_its_first_poll_does_not_happen() {
    let directory = tempfile::tempdir().unwrap();
    let mark = path(directory.path(), "mark");
    let starter = ProcessStarter::with_options(ProcessOptions::new().threads(1)).unwrap();
    drop(starter.start(attempt(&Process::new("/usr/bin/touch").arg(mark.as_str()), Running::unlimited())));
    run(&starter, &TRUE).await;
    assert!(!Path::new(&mark).exists());
}
