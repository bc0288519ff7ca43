//! Writing to stdout. A reader that went away (`| head`) is no reason to stop starting jobs.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

/// One line.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// One line of JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(&serde_json::to_string(value).expect("what is printed has a JSON form"))
}

/// One line on stderr. Nobody may be reading it, which is no reason to stop either.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// These bytes.
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    is_read(bytes).map(drop)
}

/// These bytes, for a command that has no purpose but to print them: whether somebody still reads.
pub(crate) fn is_read(bytes: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(err) => Err(Failure::not_all(format!("stdout cannot be written: {err}"))),
    }
}
