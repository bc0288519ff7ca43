//! What asks a command to end: Ctrl-C, SIGTERM, and the terminal that goes away.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// The signals, taken over from their default of ending the process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None under nohup: a signal that is ignored stays ignored.
    hangup: Option<Signal>,
}

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Received {
    /// Ctrl-C or SIGTERM.
    Stop,
    /// SIGHUP: the terminal went away, or a daemon is to read its configuration again.
    Hangup,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Failure> {
        let take =
            |kind| signal(kind).map_err(|err| Failure::not_all(format!("cannot listen for signals: {err}")));
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hangup: if ignores_hangup() { None } else { Some(take(SignalKind::hangup())?) },
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        self.received().await;
    }

    /// Waits for the next one and says which.
    pub(crate) async fn received(&mut self) -> Received {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => drop(hangup.recv().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => Received::Stop,
            _ = self.terminate.recv() => Received::Stop,
            () = hangup => Received::Hangup,
        }
    }
}

/// Whether SIGHUP, the first bit of the mask, is ignored; not if nobody can tell.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
