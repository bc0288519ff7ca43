//! The command as its users meet it: the built binary, its exit codes, what it prints.

mod client_batch;
mod client_connect;
mod client_fake;
mod client_jobs;
mod client_submit;
mod client_watch;
mod config;
mod described;
mod each_line;
mod endpoint;
mod generated;
mod harness;
mod input;
mod interrupt;
mod output;
mod proof;
mod reach;
mod resume;
mod serve_access;
mod serve_limits;
mod serve_start;
mod sink;
mod stores;
mod stream;
mod token;
mod walkthrough;
