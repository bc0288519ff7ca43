//! The library as its users see it. One binary for all integration tests: it links once.

mod behaviours;
mod fuzz;
#[cfg(feature = "http")]
mod http_starter;
mod layers;
mod memory_store;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod migration;
#[cfg(feature = "postgres")]
mod postgres_away;
#[cfg(feature = "postgres")]
mod postgres_fleet;
#[cfg(feature = "postgres")]
mod postgres_flights;
#[cfg(feature = "postgres")]
mod postgres_pooler;
#[cfg(feature = "postgres")]
mod postgres_store;
#[cfg(feature = "postgres")]
mod postgres_writer;
#[cfg(feature = "process")]
mod process_policy;
#[cfg(feature = "process")]
mod process_starter;
mod random_life;
mod scheduler;
#[cfg(feature = "schema")]
mod schema;
mod simulation;
#[cfg(feature = "sqlite")]
mod sqlite_file;
#[cfg(feature = "sqlite")]
mod sqlite_schema;
#[cfg(feature = "sqlite")]
mod sqlite_store;
