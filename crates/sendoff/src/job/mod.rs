//! Layer 1: jobs as submitted ([`JobSpec`]), as kept ([`Job`]) and as shown ([`JobRecord`]).

mod by_id;
mod grant;
mod kept;
mod queue;
mod record;
mod spec;

pub(crate) use by_id::ById;
pub use grant::{Caller, Grant, Reach};
pub(crate) use kept::labels;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use kept::read_labels;
pub use kept::{Header, Job, JobId, Lane};
pub use queue::{QueueLimits, Rate};
pub use record::{ErrorClass, JobRecord, LastError, Receipt};
pub use spec::{Delivery, JobSpec, Payload, Retry, Start};
