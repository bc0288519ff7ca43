//! The stores that come with sendoff.
