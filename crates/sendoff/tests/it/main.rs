//! The library as its users see it.

mod behaviours;
mod memory_store;
mod random_life;
