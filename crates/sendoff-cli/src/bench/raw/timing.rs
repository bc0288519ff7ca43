//! What a machine can do about time: a timerfd that rings, and a write that reaches the disk.

use std::{
    fs::File,
    io::{self, Seek, Write},
    path::Path,
    time::Duration,
};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::bench::sample::{Times, clock, now};

/// How late a thread that reads a timerfd wakes at these instants of the wall clock.
pub(in crate::bench) fn alarms(at: &[Duration]) -> io::Result<Times> {
    let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::CLOEXEC)?;
    let mut times = Times::new();
    let mut rung = [0; 8];
    for at in at {
        let it_value = Timespec { tv_sec: at.as_secs().cast_signed(), tv_nsec: i64::from(at.subsec_nanos()) };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &Itimerspec { it_interval, it_value })?;
        rustix::io::read(&timer, &mut rung)?;
        times.add(clock(ClockId::Realtime).saturating_sub(*at));
    }
    Ok(times)
}

/// How long a write of `bytes` and its fdatasync take, so many times, with a pause before each.
pub(in crate::bench) fn syncs(folder: &Path, bytes: usize, count: u64, pause: Duration) -> io::Result<Times> {
    let mut file = File::create(folder.join("sync"))?;
    let content = vec![1; bytes];
    let mut times = Times::new();
    for _ in 0..count {
        std::thread::sleep(pause);
        let began = now();
        file.rewind()?;
        file.write_all(&content)?;
        file.sync_data()?;
        times.add(now() - began);
    }
    Ok(times)
}
