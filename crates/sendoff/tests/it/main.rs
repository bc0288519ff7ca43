//! What can be seen of the library from outside.

mod memory_store;
#[cfg(feature = "sqlite")]
mod sqlite_file;
#[cfg(feature = "sqlite")]
mod sqlite_store;
