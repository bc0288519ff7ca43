//! Waits for the children that a starter has spawned, and for no others.

use std::{
    collections::HashMap,
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, Timespec, epoll, eventfd},
    io::Errno,
    process::{Pid, PidfdFlags, Resource, WaitId, WaitIdOptions, getrlimit, pidfd_open, waitid},
};

use crate::{
    ports::Running,
    time::{Clock, SystemClock},
};

/// How often children without a pidfd are looked at.
const SWEEP: Duration = Duration::from_millis(50);

/// The epoll datum of the descriptor that wakes the thread; no pid is 0.
const WAKE: u64 = 0;

/// A thread that reaps children as they end and gives their places back.
///
/// When it is dropped, the thread goes on until the last child has ended, so that none becomes a
/// zombie; then it ends too.
pub(super) struct Reaper(Arc<Shared>);

struct Shared {
    epoll: OwnedFd,
    wake: OwnedFd,
    /// More children than this are polled: a child must not cost its host the last descriptors.
    max_pidfds: usize,
    children: Mutex<Children>,
}

#[derive(Default)]
struct Children {
    watched: HashMap<Pid, Watched>,
    /// Children for which there was no pidfd.
    polled: Vec<(Pid, Running)>,
    closing: bool,
}

struct Watched {
    pidfd: OwnedFd,
    running: Running,
}

impl Reaper {
    /// Starts the thread.
    ///
    /// # Errors
    /// No descriptors or threads left.
    pub(super) fn start() -> io::Result<Self> {
        let half = getrlimit(Resource::Nofile).current.map_or(u64::MAX, |limit| limit / 2);
        Self::with_pidfds(usize::try_from(half).unwrap_or(usize::MAX))
    }

    fn with_pidfds(max_pidfds: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            max_pidfds,
            children: Mutex::default(),
        });
        let data = epoll::EventData::new_u64(WAKE);
        epoll::add(&shared.epoll, &shared.wake, data, epoll::EventFlags::IN)?;
        let thread = Arc::clone(&shared);
        thread::Builder::new().name("sendoff-reap".into()).spawn(move || thread.run())?;
        Ok(Self(shared))
    }

    /// Takes over a child that nobody has waited for: reaps it and drops `running` when it ends.
    pub(super) fn adopt(&self, pid: Pid, running: Running) {
        let mut children = self.0.lock();
        if let Some((pid, running)) = self.0.watch(&mut children, pid, running) {
            children.polled.push((pid, running));
            drop(children);
            self.0.wake();
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.0.lock().closing = true;
        self.0.wake();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Children> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Fails only if the counter is full, and then the thread is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Waits for the child by a pidfd, or gives it back if there is none to be had.
    fn watch(&self, children: &mut Children, pid: Pid, running: Running) -> Option<(Pid, Running)> {
        if children.watched.len() >= self.max_pidfds {
            return Some((pid, running));
        }
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return Some((pid, running)) };
        // One-shot, since closing the pidfd does not end its events as long as a child that is
        // being spawned elsewhere holds a copy.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        let data = epoll::EventData::new_u64(u64::from(pid.as_raw_nonzero().get().unsigned_abs()));
        if epoll::add(&self.epoll, &pidfd, data, flags).is_err() {
            return Some((pid, running));
        }
        children.watched.insert(pid, Watched { pidfd, running });
        None
    }

    fn run(&self) {
        let mut events = Vec::with_capacity(64);
        let mut ended = Vec::new();
        let mut swept = SystemClock.elapsed();
        loop {
            let timeout = {
                let children = self.lock();
                let polled = !children.polled.is_empty();
                if children.closing && children.watched.is_empty() && !polled {
                    return;
                }
                let sweep = Timespec { tv_sec: 0, tv_nsec: i64::from(SWEEP.subsec_nanos()) };
                polled.then_some(sweep)
            };
            events.clear();
            // Interrupted or not, what is there is looked at.
            let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref());
            self.take(&events, &mut ended);
            for (pid, child) in ended.drain(..) {
                if !has_ended(WaitId::PidFd(std::os::fd::AsFd::as_fd(&child.pidfd))) {
                    // A tracer has it; it is ours to reap when the tracer lets go.
                    self.lock().polled.push((pid, child.running));
                }
            }
            let now = SystemClock.elapsed();
            if timeout.is_some() && now.saturating_sub(swept) >= SWEEP {
                swept = now;
                self.sweep();
            }
        }
    }

    /// Removes the children that these events are about. Before they are reaped: afterwards their
    /// pids may come again.
    fn take(&self, events: &[epoll::Event], ended: &mut Vec<(Pid, Watched)>) {
        let mut children = self.lock();
        for event in events {
            // A field of a packed struct: copied before use.
            let data = event.data;
            if data.u64() == WAKE {
                let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
                continue;
            }
            let pid = i32::try_from(data.u64()).ok().and_then(Pid::from_raw);
            if let Some((pid, child)) = pid.and_then(|pid| children.watched.remove_entry(&pid)) {
                ended.push((pid, child));
            }
        }
    }

    /// Looks at each polled child, and gives it a pidfd if there is one now.
    fn sweep(&self) {
        let mut children = self.lock();
        let polled = std::mem::take(&mut children.polled);
        let mut ended = Vec::new();
        let mut pidfds = true;
        for (pid, running) in polled {
            if has_ended(WaitId::Pid(pid)) {
                ended.push(running);
                continue;
            }
            let left = if pidfds { self.watch(&mut children, pid, running) } else { Some((pid, running)) };
            if let Some(left) = left {
                pidfds = false;
                children.polled.push(left);
            }
        }
        drop(children);
        // Runs the host's code, so not under the lock.
        drop(ended);
    }
}

/// Reaps this child if it has ended. One that somebody else has reaped has ended, too.
fn has_ended(child: WaitId<'_>) -> bool {
    match rustix::io::retry_on_intr(|| waitid(child.clone(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)) {
        Ok(status) => status.is_some(),
        Err(err) => {
            debug_assert_eq!(err, Errno::CHILD, "waitid of a child");
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        process::{Child, Command, Stdio},
        sync::mpsc,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A child that ends when its standard input is closed, and that nobody waits for.
    fn child() -> (Child, Pid) {
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    fn place(ends: &mpsc::Sender<u32>, number: u32) -> Running {
        let ends = ends.clone();
        Running::new(move || {
            let _ = ends.send(number);
        })
    }

    fn state(pid: Pid) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    fn places_come_back_in_the_order_in_which_children_end(max_pidfds: usize) {
        let reaper = Reaper::with_pidfds(max_pidfds).unwrap();
        let (ends, ended) = mpsc::channel();
        let mut children: Vec<_> = (0..4).map(|_| child()).collect();
        for (number, (_, pid)) in children.iter().enumerate() {
            reaper.adopt(*pid, place(&ends, u32::try_from(number).unwrap()));
        }
        for number in [2, 0, 3, 1] {
            let (child, pid) = &mut children[number];
            drop(child.stdin.take());
            assert_eq!(ended.recv_timeout(LONG), Ok(u32::try_from(number).unwrap()));
            assert_eq!(state(*pid), None, "reaped before its place was given back");
        }
    }

    #[test]
    fn children_are_reaped_by_pidfd() {
        places_come_back_in_the_order_in_which_children_end(usize::MAX);
    }

    #[test]
    fn children_are_reaped_without_pidfds() {
        places_come_back_in_the_order_in_which_children_end(0);
    }

    #[test]
    fn polled_children_get_pidfds_as_they_become_free() {
        let reaper = Reaper::with_pidfds(1).unwrap();
        let (ends, ended) = mpsc::channel();
        let (mut first, pid) = child();
        reaper.adopt(pid, place(&ends, 1));
        let (mut second, pid) = child();
        reaper.adopt(pid, place(&ends, 2));
        assert_eq!(reaper.0.lock().polled.len(), 1);
        drop(first.stdin.take());
        assert_eq!(ended.recv_timeout(LONG), Ok(1));
        while !reaper.0.lock().polled.is_empty() {
            thread::yield_now();
        }
        assert!(reaper.0.lock().watched.contains_key(&pid));
        drop(second.stdin.take());
        assert_eq!(ended.recv_timeout(LONG), Ok(2));
    }

    #[test]
    fn a_child_that_the_host_has_reaped_gives_its_place_back() {
        let reaper = Reaper::with_pidfds(usize::MAX).unwrap();
        let (ends, ended) = mpsc::channel();
        let (mut child, pid) = child();
        drop(child.stdin.take());
        child.wait().unwrap();
        reaper.adopt(pid, place(&ends, 1));
        assert_eq!(ended.recv_timeout(LONG), Ok(1));
    }

    #[test]
    fn a_dropped_reaper_ends_after_its_last_child() {
        let reaper = Reaper::with_pidfds(usize::MAX).unwrap();
        let (ends, ended) = mpsc::channel();
        let (mut child, pid) = child();
        reaper.adopt(pid, place(&ends, 1));
        let shared = Arc::downgrade(&reaper.0);
        drop(reaper);
        drop(child.stdin.take());
        assert_eq!(ended.recv_timeout(LONG), Ok(1));
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
