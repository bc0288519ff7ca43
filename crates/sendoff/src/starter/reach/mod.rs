//! What an entry of a [`Reach`](crate::job::Reach) allows: pure matching, and the few questions to
//! the file system that paths need.

#[cfg(feature = "http")]
pub(super) mod address;
#[cfg_attr(not(all(feature = "http", feature = "process")), allow(dead_code, reason = "half is asked"))]
pub(super) mod names;
pub(super) mod paths;
