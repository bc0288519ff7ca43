//! The log on stderr.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    sync::atomic::{AtomicU64, Ordering},
};

use sendoff::time::{Clock, SystemClock};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::{config::LogFormat, failure::Failure};

/// For a command that ends: text, with colours on a terminal.
pub(crate) fn plain(filter: &str) -> Result<(), Failure> {
    tracing_subscriber::fmt()
        .with_env_filter(read(filter)?)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}

/// Changes what is logged from now on.
pub(crate) type SetFilter = Box<dyn Fn(&str) -> Result<(), Failure> + Send + Sync>;

/// For the daemon: nothing in it can be taken for another line or for a command to a terminal.
pub(crate) fn daemon(filter: &str, format: LogFormat) -> Result<SetFilter, Failure> {
    let (filter, handle) = reload::Layer::new(read(filter)?);
    let registry = tracing_subscriber::registry().with(filter);
    let set = match format {
        LogFormat::Text => registry.with(fmt::layer().with_writer(|| Escaped).with_ansi(false)).try_init(),
        LogFormat::Json => {
            registry.with(fmt::layer().with_writer(io::stderr).json().flatten_event(true)).try_init()
        }
    };
    let failed = |err: &dyn Display| Failure::usage(format!("the log cannot be set up: {err}"));
    set.map_err(|err| failed(&err))?;
    Ok(Box::new(move |filter| handle.reload(read(filter)?).map_err(|err| failed(&err))))
}

fn read(filter: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::try_new(filter).map_err(|err| Failure::usage(format!("--log {filter:?} is no filter: {err}")))
}

/// Stderr, where each write is one line and every other control character is shown as an escape.
struct Escaped;

impl Write for Escaped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(escaped(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn escaped(line: &str) -> String {
    let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
    let mut shown = String::with_capacity(line.len() + 1);
    for c in line.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown + end
}

/// Lets so many lines through in each second, so that nobody can fill the log.
pub(crate) struct Throttle {
    per_second: u64,
    /// The second, and how many in it: its low 16 bits.
    state: AtomicU64,
}

impl Throttle {
    pub(crate) const fn new(per_second: u64) -> Self {
        Self { per_second, state: AtomicU64::new(0) }
    }

    /// Whether one more line may be written now.
    pub(crate) fn allows(&self) -> bool {
        let second = SystemClock.elapsed().as_secs() << 16;
        let held = self.state.load(Ordering::Relaxed);
        let count = if held & !0xffff == second { held & 0xffff } else { 0 };
        // Two threads at once may count as one: this is a brake, not a meter.
        self.state.store(second | (count + 1).min(0xffff), Ordering::Relaxed);
        count < self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(escaped("a\u{1b}[31mb\nINFO c\u{7f}\u{9b}ü\n"), "a\\u{1b}[31mb\\nINFO c\\u{7f}\\u{9b}ü\n");
    }

    #[test]
    fn a_throttle_lets_some_through() {
        let throttle = Throttle::new(3);
        let through = (0..1_000).filter(|_| throttle.allows()).count();
        assert!((3..1_000).contains(&through), "{through}");
    }
}
