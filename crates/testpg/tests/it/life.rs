//! A server lives no longer than its owner.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use testpg::{Installation, Options, Server};

const VICTIM: &str = "TESTPG_VICTIM";

/// Not a test of its own: the process that the next one kills.
#[test]
fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let server = Server::start(&Installation::find().unwrap(), Options::new()).unwrap();
    println!("\nserver {} {}", server.pid().unwrap(), server.directory().display());
    loop {
        thread::park();
    }
}

fn is_gone(pid: &str, directory: &str) -> bool {
    !Path::new(directory).exists() && !Path::new("/proc").join(pid).exists()
}

#[test]
fn a_server_is_gone_after_its_owner_was_killed() {
    if !testpg::wanted() {
        return;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "life::victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(owner.stdout.take().unwrap()).lines();
    let line = said.find_map(|line| line.unwrap().strip_prefix("server ").map(str::to_owned)).unwrap();
    let (pid, directory) = line.split_once(' ').unwrap();
    assert!(!is_gone(pid, directory));
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!((0..6_000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        is_gone(pid, directory)
    }));
}

#[test]
fn a_dropped_server_is_gone_at_once_even_a_killed_one() {
    if !testpg::wanted() {
        return;
    }
    let server = Server::start(&Installation::find().unwrap(), Options::new()).unwrap();
    let standby = server.standby("standby").unwrap();
    server.kill().unwrap();
    let directories = [server.directory().to_owned(), standby.directory().to_owned()];
    let pid = standby.pid().unwrap().to_string();
    drop((server, standby));
    assert!(directories.iter().all(|directory| !directory.exists()));
    assert!(is_gone(&pid, &directories[1].to_string_lossy()));
}
