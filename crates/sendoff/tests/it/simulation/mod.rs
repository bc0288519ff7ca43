//! The engine in worlds drawn from seeds: one to five schedulers over a store in memory and targets
//! that are models, on one thread and a clock that jumps. Calls of the store fail, get lost, come late
//! or take the node along; nodes are killed, paused, cut off, declared dead, stopped and started again;
//! the wall clock is set by seconds and by years; clients ask again. While the faults go on nothing
//! may happen that the contract rules out (safety); once they stop, everything due ends within a bound
//! (liveness). The ledger, outside of the nodes, and the judge know what is wrong.
//!
//! `SENDOFF_SEED=17` plays one seed and shows its events, `SENDOFF_SEEDS=1000000` so many of them from
//! `SENDOFF_FIRST` (0) on.

mod client;
mod clock;
mod judge;
mod ledger;
mod life;
mod mutants;
mod nemesis;
mod play;
mod seeds;
mod starter;
mod store;
mod swarm;
mod world;
