//! The live view, on a terminal that `script` makes.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use crate::harness::{Daemon, Place};

#[test]
fn a_live_view_is_drawn_until_ctrl_c() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("there is no `script` here: nothing was tried");
        return;
    }
    let place = Place::new();
    let _daemon = Daemon::start(&place, &["--store", "memory"]);
    let sendoff = env!("CARGO_BIN_EXE_sendoff");
    // For the environment of commands.
    let like = place.command(["watch"]);
    let mut command = Command::new("script");
    for (name, value) in like.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let words = format!("'{sendoff}' watch");
    command.args(["-qec", &words, "/dev/null"]).current_dir(place.path("."));
    command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut watching = place.spawn(command);
    let mut stdin = watching.stdin();
    let mut stdout = watching.stdout();
    let mut seen = String::new();
    let mut until = |words: &str, seen: &mut String| {
        let mut bytes = [0; 4096];
        while !seen.contains(words) {
            let read = stdout.read(&mut bytes).unwrap();
            assert_ne!(read, 0, "it ended after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    until("PENDING", &mut seen);
    let guid = place.run(["submit", "simulated", "1ms", "-q"]).code(0).stdout.trim().to_owned();
    until(&guid, &mut seen);
    assert!(seen.contains("\u{1b}["), "it is drawn over itself: {seen:?}");
    stdin.write_all(b"\x03").unwrap();
    let mut rest = String::new();
    let _ = stdout.read_to_string(&mut rest);
    let ended = watching.end();
    assert!(matches!(ended.code, Some(0 | 130)), "{ended}");
}
