//! A daemon in a place of its own.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdout, Command},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::{
    Place,
    http::{Answer, Door},
};

/// A running `sendoff serve`; killed if the test ends before it.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Log>,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

/// What it writes to stderr, read as it comes so that it never waits for a reader.
#[derive(Default)]
struct Log {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

impl Daemon {
    /// Starts it with these flags and waits until it serves.
    pub(crate) fn start(place: &Place, flags: &[&str]) -> Self {
        Self::spawn(Self::command(place, flags))
    }

    /// The command that [`Daemon::spawn`] needs.
    pub(crate) fn command(place: &Place, flags: &[&str]) -> Command {
        place.command(["serve", "--json"].iter().chain(flags))
    }

    /// Starts this command and waits until it serves.
    pub(crate) fn spawn(command: Command) -> Self {
        let words = format!("{command:?}");
        Self::try_spawn(command)
            .unwrap_or_else(|(code, output)| panic!("{words} ended with {code:?}: {output}"))
    }

    /// The same, or its exit code and what it said if it ended instead.
    pub(crate) fn try_spawn(command: Command) -> Result<Self, (Option<i32>, String)> {
        let (mut daemon, stdout) = Self::launch(command);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        match serde_json::from_str(&line) {
            Ok(ready) => {
                daemon.ready = ready;
                Ok(daemon)
            }
            Err(_) => {
                let (code, log) = daemon.ended();
                Err((code, format!("{line}{log}")))
            }
        }
    }

    /// Starts this command and does not wait; where it will say that it serves.
    pub(crate) fn launch(mut command: Command) -> (Self, ChildStdout) {
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Log::default());
        let mut stderr = child.stderr.take().unwrap();
        let shared = log.clone();
        std::thread::spawn(move || shared.follow(&mut stderr));
        let stdout = child.stdout.take().unwrap();
        (Self { child, log, ready: Value::Null }, stdout)
    }

    /// Its unix socket.
    pub(crate) fn unix(&self) -> Door {
        Door::Unix(self.ready["socket"].as_str().unwrap().into())
    }

    /// Its first TCP address.
    pub(crate) fn tcp(&self) -> Door {
        Door::Tcp(self.address())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let url = self.ready["listen"][0].as_str().unwrap();
        url.split_once("://").unwrap().1.parse().unwrap()
    }

    /// One request over the unix socket.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let json: &[&str] = if body.is_empty() { &[] } else { &["Content-Type: application/json"] };
        self.unix().ask(method, path, json, body)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has held until now, in KiB.
    pub(crate) fn peak_memory(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits until its log contains this.
    #[track_caller]
    pub(crate) fn until_log(&self, words: &str) {
        self.log.until(words);
    }

    /// Ends it by SIGTERM; its exit code and all that it logged.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        self.ended()
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        (status.code(), self.log.all())
    }

    /// Ends it by SIGKILL; all that it logged.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log.all()
    }

    /// Waits until it dies by itself: by which signal.
    pub(crate) fn dead(mut self) -> Option<i32> {
        self.child.wait().unwrap().signal()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn follow(&self, stderr: &mut impl Read) {
        let mut bytes = [0; 4096];
        loop {
            let read = stderr.read(&mut bytes).unwrap_or(0);
            let mut held = self.text.lock().unwrap();
            held.0.push_str(&String::from_utf8_lossy(&bytes[..read]));
            held.1 = read == 0;
            self.grown.notify_all();
            if read == 0 {
                return;
            }
        }
    }

    /// Everything, once it has ended.
    fn all(&self) -> String {
        let held = self.text.lock().unwrap();
        self.grown.wait_while(held, |held| !held.1).unwrap().0.clone()
    }

    #[track_caller]
    fn until(&self, words: &str) {
        let held = self.text.lock().unwrap();
        let patience = Duration::from_secs(60);
        let missing = |held: &mut (String, bool)| !held.0.contains(words) && !held.1;
        let (held, _) = self.grown.wait_timeout_while(held, patience, missing).unwrap();
        assert!(held.0.contains(words), "the log lacks {words:?}: {}", held.0);
    }
}
