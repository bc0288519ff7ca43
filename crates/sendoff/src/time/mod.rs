//! Layer 0: instants, durations and the one place that reads clocks.

mod clock;
mod span;
#[cfg(target_os = "linux")]
mod timerfd;
mod timestamp;

pub use clock::{Clock, SystemClock, Timer, TokioClock};
pub use span::{Span, SpanError};
pub use timestamp::{Timestamp, TimestampError};
