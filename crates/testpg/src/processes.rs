//! A look at processes and their end. Only ids that we started come here.

use std::{fs, thread, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Context, Error, Result};

const PAUSE: Duration = Duration::from_millis(10);
/// A minute of pauses.
const PAUSES: u32 = 6_000;

/// Asks again and again until there is an answer, for at least a minute.
pub(crate) fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    for _ in 0..PAUSES {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        thread::sleep(PAUSE);
    }
    Err(Error::new(format!("gave up waiting after a minute: {what}")))
}

/// Whether the process runs; one that has ended but is not yet waited for does not.
pub(crate) fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// Sends one signal; a process that is gone already is no error.
pub(crate) fn signal(pid: u32, signal: Signal) -> Result<()> {
    let target =
        i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| Error::new("not a process id"))?;
    match kill_process(target, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context(format_args!("cannot signal process {pid}")),
    }
}

/// Kills a process and its children as a power cut would: the parent is halted first, so that it neither sees
/// its children die nor starts new ones.
pub(crate) fn kill_family(parent: u32) -> Result<()> {
    signal(parent, Signal::STOP)?;
    wait_for("a server to halt", || {
        Ok(stat(parent).is_none_or(|stat| "TtZX".contains(stat.state)).then_some(()))
    })?;
    let children = children(parent)?;
    for &child in &children {
        signal(child, Signal::KILL)?;
    }
    signal(parent, Signal::KILL)?;
    wait_for("killed processes to end", || {
        Ok((!runs(parent) && children.iter().all(|&child| !runs(child))).then_some(()))
    })
}

struct Stat {
    state: char,
    parent: u32,
}

fn stat(pid: u32) -> Option<Stat> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in brackets, which may hold blanks and brackets itself.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some(Stat { state, parent: fields.next()?.parse().ok()? })
}

fn children(parent: u32) -> Result<Vec<u32>> {
    let listing = fs::read_dir("/proc").context("cannot list /proc")?;
    let ids = listing.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    Ok(ids.filter(|&id: &u32| stat(id).is_some_and(|stat| stat.parent == parent)).collect())
}
