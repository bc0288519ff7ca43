//! sendoff starts jobs and forgets them: a scheduler for fire-and-forget job starts.

mod dispatcher;
pub mod error;
mod guid;
mod job;
mod notice;
pub mod ports;
mod scheduler;
pub mod starter;
pub mod state;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;

pub use dispatcher::{Limits, QueueLimits, Rate};
pub use error::{Error, Result};
pub use guid::{Guid, GuidError};
pub use job::{
    Delivery, ErrorClass, Header, Job, JobId, JobRecord, JobSpec, Lane, LastError, Payload, Receipt, Retry,
    Start,
};
pub use notice::Notice;
pub use scheduler::{
    Accepted, Batch, Builder, Checker, DEFAULT_GRACE, Lagged, NotStarted, Notices, Scheduler, ShutdownReport,
    Submission, Verdict,
};
pub use state::State;
pub use time::Timestamp;
