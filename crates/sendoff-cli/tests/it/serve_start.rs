//! Starting, stopping and reloading the daemon.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixListener, UnixStream},
    },
};

use rustix::process::Signal;

use crate::harness::{Daemon, Place};

const MEMORY: &[&str] = &["--store", "memory"];

#[test]
fn it_says_where_it_serves_and_only_its_user_can_get_there() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--listen", "127.0.0.1:0"]);
    let socket = place.path("runtime/sendoff/sendoff.sock");
    assert_eq!(daemon.ready["socket"], socket.to_str().unwrap());
    assert_eq!(daemon.ready["store"], place.text("state/sendoff/sendoff.db"));
    assert_eq!(daemon.ready["durability"], "disk");
    assert_ne!(daemon.address().port(), 0);
    let mode = |path: &str| fs::metadata(place.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("runtime/sendoff/sendoff.sock"), 0o600);
    assert_eq!(mode("runtime/sendoff"), 0o700);
    assert_eq!(mode("state/sendoff"), 0o700);
    daemon.until_log("there is no token; `sendoff token create` makes one");
    assert_eq!(daemon.stop().0, Some(0));
    assert!(!socket.exists());
}

#[test]
fn words_for_people_and_for_scripts() {
    let place = Place::new();
    let mut running = place.spawn(place.command(["serve", "--store", "memory", "--socket", "own.sock"]));
    let line = crate::harness::next_line(&mut running.stdout());
    assert_eq!(line, "serving on own.sock (store memory, durability memory)");
    running.signal(Signal::INT);
    running.end().code(0).stderr_has("the store is in memory");
}

#[test]
fn one_store_has_one_daemon() {
    let place = Place::new();
    let first = Daemon::start(&place, &[]);
    place.run(["serve"]).code(4).stderr_has("is in use by another sendoff");
    // The first one is still there.
    first.ask("GET", "/healthz", "");
    place.run(["serve", "--store", "memory"]).code(4).stderr_has("another daemon, with another store");
    first.kill();
    let third = Daemon::start(&place, &[]);
    assert_eq!(third.stop().0, Some(0));
}

#[test]
fn a_file_is_no_stale_socket() {
    let place = Place::new();
    place.write("file", "precious");
    let refused = place.run(["serve", "--store", "memory", "--socket", "file"]).code(4);
    refused.stderr_has("something that is no socket is there already");
    assert_eq!(place.read("file"), "precious");
    drop(UnixListener::bind(place.path("stale")).unwrap());
    let daemon = Daemon::start(&place, &["--store", "memory", "--socket", "stale"]);
    // Somebody else's socket in the same place is left alone.
    fs::remove_file(place.path("stale")).unwrap();
    let _other = UnixListener::bind(place.path("stale")).unwrap();
    assert_eq!(daemon.stop().0, Some(0));
    UnixStream::connect(place.path("stale")).unwrap();
}

#[test]
fn what_is_not_safe_is_refused() {
    let place = Place::new();
    let open = ["serve", "--store", "memory", "--listen", "0.0.0.0:0"];
    place.run(open).code(2).stderr_has("can be reached from other machines");
    let nothing = place.run(["serve", "--store", "memory", "--socket", "none"]).code(2);
    nothing.stderr_has("there is nothing to listen on");
    let flags = ["--store", "memory", "--listen", "0.0.0.0:0", "--insecure", "--socket", "none"];
    let daemon = Daemon::start(&place, &flags);
    assert!(daemon.ready["socket"].is_null());
    let taken = daemon.address().to_string();
    let again = place.run(["serve", "--store", "memory", "--insecure", "--listen", &taken]).code(4);
    again.stderr_has("something listens there already");
}

#[test]
fn the_service_manager_is_told() {
    let place = Place::new();
    let manager = UnixDatagram::bind(place.path("notify")).unwrap();
    let mut command = Daemon::command(&place, MEMORY);
    command.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "100000");
    let daemon = Daemon::spawn(command);
    let mut told = String::new();
    let mut hear = |words: &str| {
        while !told.contains(words) {
            let mut bytes = [0; 256];
            let read = manager.recv(&mut bytes).unwrap();
            told.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    daemon.signal(Signal::TERM);
    hear("STOPPING=1");
    assert_eq!(daemon.ended().0, Some(0));
}

#[test]
fn hangup_reads_the_configuration_again() {
    let place = Place::new();
    place.write("conf", "hosts = ['one.example']\n");
    let token = place.run(["token", "create", "t", "--scope", "read"]).code(0).stdout;
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let flags = ["--store", "memory", "--listen", "127.0.0.1:0", "--config", "conf"];
    let daemon = Daemon::start(&place, &flags);
    let named =
        |name: &str| daemon.tcp().ask("GET", "/v1/stats", &[&bearer, &format!("Host: {name}")], "").status;
    assert_ne!(named("one.example"), 403);
    assert_eq!(named("two.example"), 403);

    place.write("conf", "hosts = ['two.example']\n");
    daemon.signal(Signal::HUP);
    daemon.until_log("the configuration was read again");
    assert_eq!(named("one.example"), 403);
    assert_ne!(named("two.example"), 403);

    place.write("conf", "hosts = ['three.example']\nnonsense = 1\n");
    daemon.signal(Signal::HUP);
    daemon.until_log("the configuration stays as it was: conf, line 2: there is no key nonsense");
    assert_ne!(named("two.example"), 403);

    place.write("conf", "log_format = 'json'\n[limits]\nconnections = 7\n");
    daemon.signal(Signal::HUP);
    daemon.until_log("these keys need a restart: log_format, limits.connections");
    assert_eq!(daemon.stop().0, Some(0));
}
