//! What a node knows for certain about processes of its own machine.

use std::{fs, io};

use rustix::process::Pid;

/// A process, told apart from all others that ever ran under the same kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    /// New with each start of the kernel.
    pub(super) boot_id: String,
    /// Where its pid and its start time are counted.
    pub(super) namespace: String,
    pub(super) pid: i32,
    /// In ticks since the kernel started.
    pub(super) started: i64,
}

impl Process {
    /// This one.
    ///
    /// # Errors
    /// The operating system's, if `/proc` is not there.
    pub(super) fn this() -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let link = |name| fs::read_link(format!("/proc/self/ns/{name}"));
        let mut namespace = link("pid")?.to_string_lossy().into_owned();
        // Kernels before 5.6 have none: all processes count alike.
        if let Ok(time) = link("time") {
            namespace = format!("{namespace} {}", time.to_string_lossy());
        }
        let stat = Stat::of(pid)?.ok_or_else(|| io::Error::other("/proc/self/stat cannot be read"))?;
        Ok(Self {
            boot_id: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            namespace,
            pid,
            started: stat.started,
        })
    }

    /// Whether this process, seen from `here`, has ended for certain. One of another machine, of
    /// another namespace or of before a reboot never has: only its counter can tell.
    pub(super) fn is_gone(&self, here: &Self) -> bool {
        if self.boot_id != here.boot_id || self.namespace != here.namespace {
            return false;
        }
        if self.pid <= 0 {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.pid) else { return false };
        match rustix::process::test_kill_process(pid) {
            Err(rustix::io::Errno::SRCH) => true,
            // It is there, or may not be asked: `/proc` may hide other users' processes, so that a
            // missing entry would prove nothing.
            _ => Stat::of(self.pid)
                .ok()
                .flatten()
                .is_some_and(|stat| stat.started != self.started || stat.is_over()),
        }
    }
}

/// The name of this machine.
pub(super) fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "?".into(), |name| name.trim().to_owned())
}

/// Fields of `/proc/<pid>/stat`, proc_pid_stat(5).
struct Stat {
    state: char,
    threads: i64,
    started: i64,
}

impl Stat {
    fn of(pid: i32) -> io::Result<Option<Self>> {
        Ok(Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat"))?))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name before may hold anything, spaces and parentheses too.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        Some(Self {
            state: fields.first()?.chars().next()?,
            threads: fields.get(17)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }

    /// It has ended and only waits for its parent to notice.
    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = Stat::parse(
            "42 (a) Z 9 (b) R 1 42 42 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 7 0 123456 8192 0 18446744073709551615",
        )
        .unwrap();
        assert_eq!((stat.state, stat.threads, stat.started), ('R', 7, 123_456));
        assert!(Stat::parse("42 (a) R 1").is_none());
    }

    #[test]
    fn only_an_end_that_is_certain_counts() {
        let here = Process::this().unwrap();
        assert!(!here.is_gone(&here));
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process { pid, started: Stat::of(pid).unwrap().unwrap().started, ..here.clone() };
        assert!(!process.is_gone(&here));
        let reused = Process { started: process.started - 1, ..process.clone() };
        assert!(reused.is_gone(&here), "the pid names another process now");
        child.kill().unwrap();
        rustix::process::waitid(
            rustix::process::WaitId::Pid(Pid::from_raw(pid).unwrap()),
            rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT,
        )
        .unwrap();
        assert!(process.is_gone(&here), "a zombie");
        child.wait().unwrap();
        assert!(process.is_gone(&here));
        for elsewhere in [
            Process { boot_id: "other".into(), ..process.clone() },
            Process { namespace: "pid:[1]".into(), ..process.clone() },
            Process { pid: 0, ..process.clone() },
            Process { pid: -1, ..process.clone() },
        ] {
            assert!(!elsewhere.is_gone(&here), "{elsewhere:?}");
        }
    }
}
