//! A loop around posix_spawn, with the attributes and file actions that sendoff gives its children.

use std::{
    collections::VecDeque,
    ffi::{CStr, CString},
    fs::File,
    os::{fd::AsRawFd, unix::ffi::OsStringExt},
    sync::atomic::{AtomicU64, Ordering},
};

use nix::{
    errno::Errno,
    spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn},
    sys::{signal::SigSet, wait::waitpid},
    unistd::Pid,
};

use crate::bench::sample::{Meter, Sample, Times, now};

/// POSIX_SPAWN_SETSID of glibc and musl, which nix does not name.
const SETSID: PosixSpawnFlags = PosixSpawnFlags::from_bits_retain(0x80);

/// Starts `program` so often from two threads, so many alive at once. The times are those of the
/// calls.
pub(in crate::bench) fn spawns(program: &CStr, starts: u64, alive: usize) -> Result<Sample, Errno> {
    let left = AtomicU64::new(starts);
    let null = File::options().read(true).write(true).open("/dev/null").map_err(|err| errno(&err))?;
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut entry = name.into_vec();
            entry.push(b'=');
            entry.extend(value.into_vec());
            CString::new(entry).ok()
        })
        .collect();
    let meter = Meter::start();
    let threads: Vec<Result<Times, Errno>> = std::thread::scope(|scope| {
        let work = || spawn_some(program, &env, &null, &left, alive.div_ceil(2));
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.map(|thread| thread.join().expect("a loop does not panic")).into()
    });
    let sample = meter.stop(starts);
    let mut times = Times::new();
    for thread in threads {
        times.merge(&thread?);
    }
    Ok(sample.with_times(times))
}

fn spawn_some(
    program: &CStr,
    env: &[CString],
    null: &File,
    left: &AtomicU64,
    alive: usize,
) -> Result<Times, Errno> {
    let mut attributes = PosixSpawnAttr::init()?;
    attributes.set_flags(
        SETSID | PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK,
    )?;
    attributes.set_sigmask(&SigSet::empty())?;
    attributes.set_sigdefault(&SigSet::all())?;
    let mut actions = PosixSpawnFileActions::init()?;
    for standard in 0..3 {
        actions.add_dup2(null.as_raw_fd(), standard)?;
    }
    let mut times = Times::new();
    let mut children: VecDeque<Pid> = VecDeque::with_capacity(alive);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        if children.len() == alive
            && let Some(oldest) = children.pop_front()
        {
            waitpid(oldest, None)?;
        }
        let began = now();
        children.push_back(posix_spawn(program, &actions, &attributes, &[program], env)?);
        times.add(now() - began);
    }
    for child in children {
        waitpid(child, None)?;
    }
    Ok(times)
}

fn errno(err: &std::io::Error) -> Errno {
    Errno::from_raw(err.raw_os_error().unwrap_or_default())
}
