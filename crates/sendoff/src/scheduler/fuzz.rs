//! The way of a job from its submit to its start, without a store in between: for `testing::fuzz`.

use std::sync::Arc;

use super::{attempt, resolve::Resolver};
use crate::{
    error::Result,
    job::{Caller, Job, JobSpec},
    ports::Starter,
    time::Timestamp,
};

/// Resolves jobs for some starters.
pub(crate) struct Jobs(Resolver);

impl Jobs {
    pub(crate) fn with(starters: Vec<Arc<dyn Starter>>) -> Self {
        Self(Resolver::new(starters).expect("starters with different names"))
    }

    /// The job as it is kept, and the payload that its starter would get.
    pub(crate) fn resolve(&self, spec: &JobSpec, now: Timestamp) -> Result<(Job, String)> {
        let job = self.0.resolve(spec.clone(), now, &Caller::default())?;
        let payload = attempt::payload_of(&job.request);
        Ok((job, payload))
    }
}
