//! Commands as the page has them, typed into one shell.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::Place;

/// The page's home directory.
const HOME: &str = "/home/ada";
/// How the shell says that a command is done.
const DONE: &str = "=== done ";
/// What no command takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(100);

/// A shell, and what it started; killed at the end.
pub(super) struct Shell {
    child: Child,
    lines: Receiver<String>,
    home: PathBuf,
}

impl Shell {
    pub(super) fn new(place: &Place) -> Self {
        let home = place.path("");
        let built = PathBuf::from(env!("CARGO_BIN_EXE_sendoff"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("SENDOFF_") || name.starts_with("XDG_") {
                command.env_remove(&*name);
            }
        }
        let mut child = command
            .current_dir(&home)
            .env("HOME", &home)
            .env("PATH", format!("{}:{path}", built.parent().unwrap().display()))
            .env("COLUMNS", "100")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, lines) = channel();
        std::thread::spawn(move || printed.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, home }
    }

    /// The daemon's.
    pub(super) fn socket(&self) -> PathBuf {
        self.home.join(".local/state/sendoff/sendoff.sock")
    }

    /// What the command prints, and its exit code if that is not 0. One that goes on behind is let go
    /// when it has said where it listens.
    pub(super) fn run(&mut self, command: &str) -> String {
        let script = format!("{{ {command}\n}} 2>&1 < /dev/null; echo '{DONE}'$?\n");
        self.child.stdin.as_mut().unwrap().write_all(script.as_bytes()).unwrap();
        let mut speaks = command.ends_with('&') && !command.contains(" > ");
        let mut printed: Vec<String> = Vec::new();
        let mut code = None;
        while code.is_none() || speaks {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|err| panic!("{command}: {err} after {printed:#?}"));
            let (line, ended) =
                line.split_once(DONE).map_or((&*line, None), |(line, ended)| (line, Some(ended)));
            if let Some(ended) = ended {
                code = Some(ended.to_owned());
            }
            if ended.is_none() || !line.is_empty() {
                speaks = false;
                printed
                    .push(line.trim_end().replace(self.home.to_str().unwrap().trim_end_matches('/'), HOME));
            }
        }
        if let Some(code) = code.filter(|code| code != "0") {
            printed.push(format!("(exit {code})"));
        }
        printed.join("\n").trim_end().to_owned()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
