//! What tests of stores and engines share. Behind the feature `testing`; not for production builds.

pub mod conformance;
pub mod model;
