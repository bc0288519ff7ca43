//! The shell that every server is a child of. It reads commands from a pipe that this process holds; when the
//! pipe closes, however this process ended, it stops the server and removes its directory.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use crate::{
    error::{Context, Error, Result},
    place,
};

/// It outlives a reader of its answers, hence the trap. A server ignores SIGQUIT in its first moments, hence the
/// repetition. `ended`: a server that was killed leaves a piece of System V shared memory, which the seventh line of its lock
/// file names.
const SCRIPT: &str = r#"
trap '' PIPE
directory=$1 pid= stop=QUIT
ended() {
    wait "$pid"
    pid=
    [ -f "$directory/data/postmaster.pid" ] || return 0
    set -- $(sed -n 7p "$directory/data/postmaster.pid")
    [ -z "$2" ] || ipcrm -m "$2"
}
while IFS= read -r line; do
    eval "$line"
    echo "$? $pid"
done
if [ -n "$pid" ]; then
    while kill "-$stop" "$pid" && kill -CONT "$pid"; do sleep 0.1; done &
    stopper=$!
    ended
    kill "$stopper"
fi
for attempt in 1 2 3 4 5; do
    rm -rf "$directory" && break
    sleep 0.2
done
"#;

pub(crate) struct Watchdog {
    shell: Child,
    /// Closed to end it.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    directory: PathBuf,
}

impl Watchdog {
    /// Watches over a directory, and from now on owns it.
    pub(crate) fn start(directory: &Path) -> Result<Self> {
        let mut shell = place::command("/bin/sh")
            .args(["-c", SCRIPT, "testpg-watchdog"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C at a terminal is for the test alone.
            .process_group(0)
            .spawn()
            .context("cannot run /bin/sh")?;
        let commands = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("its output was piped above"));
        Ok(Self { shell, commands, answers, directory: directory.to_owned() })
    }

    /// Runs a program to its end; what it says goes to the server's log.
    pub(crate) fn run(&mut self, program: &Path, arguments: &[&str]) -> Result<()> {
        match self.tell(&self.line(program, arguments))? {
            (0, _) => Ok(()),
            (status, _) => {
                let (program, log) = (program.display(), log(&self.directory));
                Err(Error::new(format!("{program} failed with status {status}; the log:\n{log}")))
            }
        }
    }

    /// Starts the server in the background; the answer is its process id.
    pub(crate) fn start_server(&mut self, program: &Path, arguments: &[&str]) -> Result<u32> {
        let line = self.line(program, arguments) + " & pid=$!";
        self.tell(&line)?.1.ok_or_else(|| Error::new("the watchdog did not say the server's process id"))
    }

    /// The signal that ends the server, instead of QUIT.
    pub(crate) fn stop_by(&mut self, signal: &str) -> Result<()> {
        self.tell(&format!("stop={signal}")).map(drop)
    }

    /// Takes note that the server has ended. Until then its process id cannot become another's.
    pub(crate) fn forget_server(&mut self) -> Result<()> {
        self.tell("ended").map(drop)
    }

    /// A command whose output goes to the server's log.
    fn line(&self, program: &Path, arguments: &[&str]) -> String {
        let mut line = quoted(&program.to_string_lossy());
        for argument in arguments {
            line.push(' ');
            line.push_str(&quoted(argument));
        }
        let log = self.directory.join("log");
        line + &format!(" >>{} 2>&1 </dev/null", quoted(&log.to_string_lossy()))
    }

    fn tell(&mut self, line: &str) -> Result<(i32, Option<u32>)> {
        let gone = || Error::new("the watchdog of a server is gone");
        let commands = self.commands.as_mut().ok_or_else(gone)?;
        commands.write_all(format!("{line}\n").as_bytes()).map_err(|_| gone())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(|_| gone())?;
        let mut words = answer.split_whitespace();
        let status = words.next().and_then(|word| word.parse().ok()).ok_or_else(gone)?;
        Ok((status, words.next().and_then(|word| word.parse().ok())))
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.commands.take());
        // Its last steps may fail only with the machine; a test that ends cannot act on that.
        let _ = self.shell.wait();
    }
}

/// What the server of this directory, and the programs run for it, have said so far.
pub(crate) fn log(directory: &Path) -> String {
    fs::read(directory.join("log")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

/// The text as one word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
