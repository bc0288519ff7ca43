//! What an entry of a [`Reach`](crate::job::Reach) allows: pure matching, and the few questions to
//! the file system that paths need.

#[cfg(feature = "http")]
pub(super) mod address;
pub(super) mod names;
pub(super) mod paths;
