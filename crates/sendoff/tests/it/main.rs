//! What can be seen of the library from outside.

mod memory_store;
mod random_life;
#[cfg(feature = "sqlite")]
mod sqlite_file;
#[cfg(feature = "sqlite")]
mod sqlite_store;
