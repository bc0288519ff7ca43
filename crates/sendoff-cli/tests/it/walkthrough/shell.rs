//! Commands as the page has them, run by the system's shell.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::harness::Place;

pub(super) struct Shell<'a> {
    place: &'a Place,
    /// What goes on behind: commands that end with `&`.
    behind: Vec<Child>,
}

impl<'a> Shell<'a> {
    pub(super) fn new(place: &'a Place) -> Self {
        Self { place, behind: Vec::new() }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.place.path("run/sendoff/sendoff.sock")
    }

    /// What the command prints, and its exit code if that is not 0.
    pub(super) fn run(&mut self, command: &str) -> String {
        if let Some(behind) = command.strip_suffix('&') {
            return self.leave(behind);
        }
        let output = self.command(&format!("{{ {command}\n}} 2>&1")).output().unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        if let Some(code) = output.status.code().filter(|code| *code != 0) {
            text.push_str(&format!("(exit {code})"));
        }
        let lines: Vec<_> = text.lines().map(str::trim_end).collect();
        lines.join("\n").trim_end().to_owned()
    }

    /// Starts a command that stays, and waits until it says that it listens.
    fn leave(&mut self, command: &str) -> String {
        let mut child = self.command(&format!("exec {command} 2>&1")).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        self.behind.push(child);
        for line in lines.by_ref() {
            if line.unwrap().contains("listening") {
                // It must not stop on a pipe that nobody reads.
                std::thread::spawn(move || lines.for_each(drop));
                return String::new();
            }
        }
        panic!("{command}: it ended");
    }

    fn command(&self, script: &str) -> Command {
        let built = PathBuf::from(env!("CARGO_BIN_EXE_sendoff"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SENDOFF_") {
                command.env_remove(name);
            }
        }
        command
            .args(["-c", script])
            .current_dir(self.place.path(""))
            .env("PATH", format!("{}:{path}", built.parent().unwrap().display()))
            .env("XDG_STATE_HOME", self.place.path("state"))
            .env("XDG_CONFIG_HOME", self.place.path("config"))
            .env("XDG_RUNTIME_DIR", self.place.path("run"))
            .env("COLUMNS", "100")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }
}

impl Drop for Shell<'_> {
    fn drop(&mut self) {
        for child in &mut self.behind {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
