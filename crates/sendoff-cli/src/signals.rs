//! What asks a command to end: Ctrl-C, SIGTERM, and the terminal that goes away.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::failure::Failure;

/// The signals, taken over from their default of ending the process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None for a command under nohup: what ends it stays ignored.
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
    /// For a command that ends with its terminal.
    pub(crate) fn listen() -> Result<Self, Failure> {
        Self::with_hangup(!ignores_hangup())
    }

    /// For a daemon, which SIGHUP does not end, however it was started.
    pub(crate) fn listen_as_daemon() -> Result<Self, Failure> {
        Self::with_hangup(true)
    }

    fn with_hangup(hangup: bool) -> Result<Self, Failure> {
        let take =
            |kind| signal(kind).map_err(|err| Failure::not_all(format!("cannot listen for signals: {err}")));
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
            hangup: hangup.then(|| take(SignalKind::hangup())).transpose()?,
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
