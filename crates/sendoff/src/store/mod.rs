//! The stores that come with sendoff.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod codes;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod statements;
pub mod transfer;

pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres::{PostgresImport, PostgresOptions, PostgresStore};
#[cfg(feature = "sqlite")]
pub use sqlite::{SqliteOptions, SqliteStore};
