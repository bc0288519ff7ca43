//! Sick surroundings: disks that are full, fail or forget, too few resources, stores that somebody
//! touched, endpoints that misbehave, a database that is away, a clock that steps. Each is made around
//! the real daemon, which is judged from outside. Short here; the long runs are
//!
//! `SENDOFF_CUTS=1000 cargo test --release -p sendoff-cli --test it proof::sick::cut -- --nocapture`
//! `SENDOFF_ERRORS=200 cargo test --release -p sendoff-cli --test it proof::sick::errors -- --nocapture`
//! `SENDOFF_ROUNDS=100 cargo test --release -p sendoff-cli --test it proof::sick::full -- --nocapture`
//! `SENDOFF_AWAY=600 SENDOFF_JOBS=100000 cargo test --release -p sendoff-cli --test it proof::sick::away -- --nocapture`
//! `SENDOFF_ROUNDS=100 cargo test --release -p sendoff-cli --test it proof::sick::clock -- --nocapture`
//! `SENDOFF_STARTS=64 cargo test --release -p sendoff-cli --test it proof::sick::endpoint -- --nocapture`
//!
//! What is shown elsewhere: little room and a damaged file in `operation::trouble`, endpoints byte by byte
//! in the library's `http_starter`, hostile callers in `attacks`, a primary that dies in `failover`, a
//! network that breaks in `partition`, a row that cannot be decoded in the library's `sqlite_file`.

mod away;
mod clock;
mod cut;
mod disk;
mod endpoint;
mod errors;
mod file;
mod full;
mod limits;
mod shim;

pub(super) use shim::{Field, Shim};

/// A clock that steps is this far ahead of the machine's, in microseconds: see `ring` in shim.c.
pub(super) const YEARS_AHEAD: i64 = 11 * 365 * 24 * 3_600_000_000;
