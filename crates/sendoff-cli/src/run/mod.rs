//! `sendoff run`.

mod check;
mod feed;
mod lines;
mod position;
mod program;
mod source;
