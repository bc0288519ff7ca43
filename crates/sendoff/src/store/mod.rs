//! The stores that come with sendoff.

pub mod memory;

pub use memory::MemoryStore;
