//! The committed inputs of the fuzz targets, and changes of them; `SENDOFF_FUZZ=100000` for longer.
//! `tools/fuzz` looks for new ones.

use std::path::Path;

use sendoff::testing::fuzz::{TARGETS, Trial, trials};

#[test]
fn whatever_is_read_is_read_soundly() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    trials(&[TARGETS], &corpus, Trial::of_environment(2_000));
}

/// Features take targets away.
#[cfg(all(feature = "sqlite", feature = "postgres", feature = "http"))]
#[test]
fn each_directory_of_inputs_is_a_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let given: std::collections::BTreeSet<_> = std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(given, TARGETS.iter().map(|target| target.name.to_owned()).collect());
}
