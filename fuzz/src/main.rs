//! One of the targets under libFuzzer: the one that `SENDOFF_TARGET` names.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use sendoff::testing::fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("SENDOFF_TARGET").unwrap_or_default();
    let names: Vec<_> = targets().map(|target| target.name).collect();
    targets().find(|target| target.name == name).unwrap_or_else(|| panic!("SENDOFF_TARGET is one of {names:?}"))
});

fn targets() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter()
}

fuzz_target!(|data: &[u8]| (TARGET.run)(data));
