//! An alarm on the wall clock by timerfd, driven by tokio's reactor.

use std::{
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Timer, Timestamp};

/// An absolute `CLOCK_REALTIME` timer that is cancelled, and so rings, when the clock is set
/// (timerfd_create(2), `TFD_TIMER_CANCEL_ON_SET`). After a suspend it rings at once if its time
/// has passed.
pub(super) struct TimerFd {
    fd: AsyncFd<OwnedFd>,
    /// The clock was set since the caller last looked at it.
    stepped: bool,
}

impl TimerFd {
    #[expect(
        deprecated,
        reason = "the newer call is unsafe, to rule out descriptors that change; an OwnedFd does not"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { fd: AsyncFd::with_interest(fd, Interest::READABLE)?, stepped: false })
    }
}

impl Timer for TimerFd {
    fn arm(&mut self, at: Option<Timestamp>) {
        let value = match at {
            // A zero value would disarm the timer: an instant at 1970 is long past, so 1 ns will do.
            Some(at) => Timespec {
                tv_sec: at.as_micros() / 1_000_000,
                tv_nsec: (at.as_micros() % 1_000_000 * 1_000).max(1),
            },
            None => Timespec { tv_sec: 0, tv_nsec: 0 },
        };
        let spec = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        // Fails only for a bad descriptor or value, neither of which can be; ECANCELED means that
        // the clock was set meanwhile, and the timer is armed all the same.
        if let Err(err) = timerfd_settime(self.fd.get_ref(), flags, &spec) {
            debug_assert_eq!(err, rustix::io::Errno::CANCELED);
            self.stepped = true;
        }
    }

    fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.stepped) {
            return Poll::Ready(());
        }
        loop {
            let Ok(mut guard) = ready!(self.fd.poll_read_ready(cx)) else {
                // The reactor is gone: the runtime is shutting down and nothing will ring again.
                return Poll::Pending;
            };
            let mut count = [0_u8; 8];
            match rustix::io::read(guard.get_inner(), &mut count) {
                Err(rustix::io::Errno::AGAIN) => guard.clear_ready(),
                Ok(_) | Err(rustix::io::Errno::CANCELED) => return Poll::Ready(()),
                Err(_) => return Poll::Ready(()),
            }
        }
    }
}
