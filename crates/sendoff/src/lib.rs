//! sendoff starts jobs and forgets them: a durable scheduler for fire-and-forget job starts.
//!
//! A caller submits a job and has its [`Guid`] at once. The start itself takes time (an endpoint
//! must answer, the system must hand out a process) and happens later, beside thousands of others,
//! on one event loop. Every job keeps an honest [`JobRecord`]; a [cancel](Scheduler::cancel) gets a
//! final answer; a start can wait for milliseconds or for years.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use sendoff::{JobSpec, Scheduler, starter::{Simulated, SimulatedStarter}, store::MemoryStore};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let scheduler = Scheduler::builder()
//!     .store(Arc::new(MemoryStore::new()))
//!     .starter(SimulatedStarter)
//!     .start()
//!     .await?;
//! let job = JobSpec::new(&Simulated::new(Duration::from_millis(1)));
//! let record = scheduler.submit(job)?.started().await?;
//! assert!(record.queued_at < record.started_at.unwrap());
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - **Durable when acknowledged.** Awaiting a [`Submission`] waits for the commit. What survives is
//!   said by [`Scheduler::durability`]. A crash leaves each call wholly done or wholly undone.
//! - **Delivery is chosen per job** ([`Delivery`]). Without crash or ambiguous outcome every job
//!   starts exactly once. After one, an at-least-once job is started again and says so
//!   (`possible_duplicate`), an at-most-once job becomes [`State::Unknown`].
//! - **A cancel is final.** Exactly one of claim and cancel wins, and the stored row decides.
//! - **Stamps are honest.** `queued_at < starting_at <= started_at`, whatever the wall clock does;
//!   a stamp that had to be moved says by how much.
//! - **Nobody waits for somebody else's limit**: a full, paused or starving queue and a dead
//!   destination delay no other.
//!
//! # Parts
//!
//! [`Scheduler`] is the handle. [`starter`] has what can be started: simulated delays, processes,
//! HTTP requests, handlers of this program; [`ports::Starter`] is the trait for more. [`store`] has
//! where jobs are kept: in memory and in SQLite; [`ports::Store`] is the contract.
//!
//! With the feature `schema`, what jobs, records and limits look like as JSON is described by their
//! `schemars::JsonSchema`.
//!
//! Linux only for now: alarms are timerfds, processes are watched by pidfds.

#[doc(hidden)]
#[macro_use]
pub mod crash;
#[macro_use]
mod mutant;

mod dispatcher;
pub mod error;
mod guid;
mod job;
mod notice;
pub mod ports;
mod scheduler;
#[cfg(feature = "schema")]
mod schema;
pub mod starter;
pub mod state;
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;

pub use error::{Error, Result};
pub use guid::{Guid, GuidError};
pub use job::{
    Caller, Delivery, ErrorClass, Grant, Header, Job, JobId, JobRecord, JobSpec, Lane, LastError, Payload,
    QueueLimits, Rate, Reach, Receipt, Retry, Start,
};
pub use notice::Notice;
pub use scheduler::{
    Accepted, Batch, Builder, Checker, DEFAULT_GRACE, Lagged, NotStarted, Notices, Scheduler, ShutdownReport,
    Submission, Verdict,
};
pub use state::State;
pub use time::Timestamp;

/// The program in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
