//! The command as its users meet it: the built binary, its exit codes, what it prints.

mod client_batch;
mod client_connect;
mod client_fake;
mod client_jobs;
mod client_submit;
mod client_watch;
mod each_line;
mod endpoint;
mod generated;
mod harness;
mod input;
mod interrupt;
mod output;
mod resume;
mod sink;
mod stores;
mod stream;
