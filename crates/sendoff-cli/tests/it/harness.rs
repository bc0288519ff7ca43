//! A place of its own for each test, and the command in it.

mod daemon;
mod http;

use std::{
    ffi::OsStr,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

pub(crate) use daemon::Daemon;
pub(crate) use http::{Answer, Door, tls_client};

/// A directory with nothing in it, which is the command's working directory and state directory.
pub(crate) struct Place {
    dir: tempfile::TempDir,
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    command: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).unwrap();
        name.to_owned()
    }

    pub(crate) fn append(&self, name: &str, content: &str) {
        fs::OpenOptions::new()
            .append(true)
            .open(self.path(name))
            .unwrap()
            .write_all(content.as_bytes())
            .unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// The stores of runs that are there.
    pub(crate) fn stores(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("state/sendoff/runs")) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.extension() == Some(OsStr::new("db"))).collect()
    }

    /// The command with these arguments, in an environment without flags.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sendoff"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("SENDOFF_") {
                command.env_remove(name);
            }
        }
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ended {
        self.spawn(self.command(args)).end()
    }

    /// Runs it to its end with this input.
    pub(crate) fn run_with<A: AsRef<OsStr>>(
        &self,
        input: impl AsRef<[u8]>,
        args: impl IntoIterator<Item = A>,
    ) -> Ended {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        let mut running = self.spawn(command);
        let mut stdin = running.stdin();
        // It may end before it has read everything.
        let _ = stdin.write_all(input.as_ref());
        drop(stdin);
        running.end()
    }

    pub(crate) fn spawn(&self, mut command: Command) -> Running {
        let words = format!("{command:?}");
        Running { child: command.spawn().unwrap(), command: words }
    }
}

/// A command under way; killed if the test ends before it.
pub(crate) struct Running {
    child: Child,
    command: String,
}

impl Running {
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    /// Reads stderr up to a line that contains this.
    pub(crate) fn until_stderr(&mut self, words: &str) {
        // Byte by byte, so that nothing is taken that `end` should see.
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut seen = String::new();
        let mut byte = [0];
        while !seen.contains(words) {
            assert_eq!(stderr.read(&mut byte).unwrap(), 1, "{}: it ended after {seen:?}", self.command);
            seen.push(char::from(byte[0]));
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn end(mut self) -> Ended {
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let read = |stream: Option<Box<dyn Read + Send>>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                stream.map(|mut stream| stream.read_to_end(&mut bytes).unwrap());
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = read(stdout.map(|stream| Box::new(stream) as _));
        let stderr = read(stderr.map(|stream| Box::new(stream) as _));
        let status = self.child.wait().unwrap();
        Ended {
            code: status.code(),
            stdout: stdout.join().unwrap(),
            stderr: stderr.join().unwrap(),
            command: self.command.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Fails unless it ended with this code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn stderr_has(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "stderr lacks {words:?}\n{self}");
        self
    }

    #[track_caller]
    pub(crate) fn stdout_has(self, words: &str) -> Self {
        assert!(self.stdout.contains(words), "stdout lacks {words:?}\n{self}");
        self
    }

    /// Stdout as one JSON object.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|err| panic!("{err}\n{self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}\nended with {:?}", self.command, self.code)?;
        write!(f, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr)
    }
}

/// So many simulated jobs, one a line.
pub(crate) fn simulated(count: usize) -> String {
    let job = r#"{"start":{"simulated":{"delay":"1ms"}}}"#;
    format!("{job}\n").repeat(count)
}

/// A job that makes a file if it is started.
pub(crate) fn touch(path: &Path) -> String {
    format!("{}\n", serde_json::json!({"start": {"process": {"program": "touch", "args": [path]}}}))
}

/// So many jobs for an endpoint, with more fields as JSON (`,"delivery":…`).
pub(crate) fn http(address: std::net::SocketAddr, count: usize, more: &str) -> String {
    (0..count).fold(String::new(), |mut lines, number| {
        let start = format!(r#"{{"http":{{"url":"http://{address}/","json":{number}}}}}"#);
        let _ = writeln!(lines, r#"{{"start":{start}{more}}}"#);
        lines
    })
}

/// The lines of a reader, as long as they are asked for.
pub(crate) fn next_line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}
