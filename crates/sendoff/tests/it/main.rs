//! Integration tests: one binary, one module for each subject.

#[cfg(feature = "http")]
mod http_starter;
