//! sendoff starts jobs and forgets them: a scheduler for fire-and-forget job starts.

pub mod error;
mod guid;
mod job;
mod notice;
pub mod ports;
pub mod starter;
pub mod state;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;

pub use error::{Error, Result};
pub use guid::{Guid, GuidError};
pub use job::{
    Delivery, ErrorClass, Header, Job, JobId, JobRecord, JobSpec, Lane, LastError, Payload, Receipt, Retry,
    Start,
};
pub use notice::Notice;
pub use state::State;
