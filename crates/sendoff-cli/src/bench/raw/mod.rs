//! The limits: the same work by the shortest means. Nothing here uses sendoff.

pub(super) mod heap;
pub(super) mod http;
pub(super) mod postgres;
pub(super) mod process;
pub(super) mod sqlite;
pub(super) mod tasks;
pub(super) mod timing;
