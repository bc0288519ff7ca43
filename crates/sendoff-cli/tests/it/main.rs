//! The command as its users meet it: the built binary, its exit codes, what it prints.

mod each_line;
mod endpoint;
mod generated;
mod harness;
mod input;
mod interrupt;
mod output;
mod proof;
mod resume;
mod sink;
mod stores;
mod stream;
mod walkthrough;
