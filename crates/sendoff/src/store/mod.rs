//! The stores that come with sendoff.

pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod transfer;

pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresImport, PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};
