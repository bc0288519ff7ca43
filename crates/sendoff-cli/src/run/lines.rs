//! Reading lines in bounded memory, with a running hash of everything read.

use std::io::{self, BufRead};

use sendoff::JobSpec;
use sha2::{Digest, Sha256};

/// How far an input was read: between two lines, or after a last one without a newline.
#[derive(Clone)]
pub(crate) struct Reached {
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Lines read, blank ones too.
    pub(crate) lines: u64,
    /// The last byte read was a newline (or nothing was read).
    pub(crate) at_line_start: bool,
    hasher: Sha256,
}

impl Reached {
    /// The beginning.
    pub(crate) fn start() -> Self {
        Self { bytes: 0, lines: 0, at_line_start: true, hasher: Sha256::new() }
    }

    /// SHA-256 of everything read.
    pub(crate) fn hash(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
    }
}

/// One line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// It is longer than [`Lines::MAX`]; so many bytes.
    TooLong(u64),
}

/// A reader of lines.
pub(crate) struct Lines<R> {
    reader: R,
    reached: Reached,
    /// The input counts as ended after so many bytes.
    limit: u64,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// The longest line that is kept, in bytes.
    pub(crate) const MAX: usize = JobSpec::MAX_BYTES;

    /// Goes on at `reached`, to which `reader` is positioned.
    pub(crate) fn new(reader: R, reached: Reached) -> Self {
        Self { reader, reached, limit: u64::MAX, line: Vec::new() }
    }

    /// Takes the input as ended after so many bytes in all.
    pub(crate) fn limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// Takes the newline that was missing at the end of the last line, if it is there now. Whether
    /// the line was left as it was otherwise.
    pub(crate) fn finish_line(&mut self) -> io::Result<bool> {
        if self.reached.at_line_start {
            return Ok(true);
        }
        match self.reader.fill_buf()?.first() {
            None => Ok(true),
            Some(b'\n') => {
                self.reached.take(b"\n");
                self.reached.at_line_start = true;
                self.reader.consume(1);
                Ok(true)
            }
            Some(_) => Ok(false),
        }
    }

    /// How far it has read.
    pub(crate) fn reached(&self) -> &Reached {
        &self.reached
    }

    /// Whether another line is there without waiting for the input.
    pub(crate) fn has_line(&mut self) -> bool
    where
        R: Buffered,
    {
        self.reader.buffered().contains(&b'\n')
    }

    /// The next line, none at the end. A last line need not end in a newline.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut length = 0_u64;
        loop {
            let allowed = usize::try_from(self.limit - self.reached.bytes).unwrap_or(usize::MAX);
            let chunk = match self.reader.fill_buf() {
                _ if allowed == 0 => &[],
                Ok(chunk) => &chunk[..chunk.len().min(allowed)],
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err),
            };
            if chunk.is_empty() {
                if length == 0 {
                    return Ok(None);
                }
                self.reached.at_line_start = false;
                break;
            }
            let newline = chunk.iter().position(|&byte| byte == b'\n');
            let text = &chunk[..newline.unwrap_or(chunk.len())];
            length += text.len() as u64;
            if length <= Self::MAX as u64 {
                self.line.extend_from_slice(text);
            }
            let used = text.len() + usize::from(newline.is_some());
            self.reached.take(&chunk[..used]);
            self.reader.consume(used);
            if newline.is_some() {
                self.reached.at_line_start = true;
                break;
            }
        }
        self.reached.lines += 1;
        Ok(Some(if length > Self::MAX as u64 { Line::TooLong(length) } else { Line::Bytes(&self.line) }))
    }
}

/// A reader that tells what it holds already.
pub(crate) trait Buffered {
    /// The bytes at hand.
    fn buffered(&self) -> &[u8];
}

impl<R> Buffered for io::BufReader<R> {
    fn buffered(&self) -> &[u8] {
        self.buffer()
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn read(input: &[u8]) -> (Vec<Vec<u8>>, Reached) {
        // A buffer of 7 bytes, so that lines span several reads.
        let mut lines = Lines::new(BufReader::with_capacity(7, input), Reached::start());
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push(match line {
                Line::Bytes(bytes) => bytes.to_vec(),
                Line::TooLong(length) => format!("<{length}>").into_bytes(),
            });
        }
        (all, lines.reached)
    }

    #[test]
    fn lines_come_whole_and_the_last_needs_no_newline() {
        let (lines, reached) = read(b"one\n\nthe third line\nlast");
        assert_eq!(lines, [&b"one"[..], b"", b"the third line", b"last"]);
        assert_eq!((reached.lines, reached.bytes, reached.at_line_start), (4, 24, false));
        assert!(read(b"one\n").1.at_line_start);
        assert!(read(b"").0.is_empty());
    }

    #[test]
    fn the_hash_covers_every_byte_also_of_lines_that_are_too_long() {
        let mut input = vec![b'x'; Lines::<&[u8]>::MAX];
        input.extend_from_slice(b"\n");
        input.extend(std::iter::repeat_n(b'y', Lines::<&[u8]>::MAX + 1));
        input.extend_from_slice(b"\nend\n");
        let (lines, reached) = read(&input);
        assert_eq!(lines[0].len(), Lines::<&[u8]>::MAX);
        assert_eq!(lines[1], format!("<{}>", Lines::<&[u8]>::MAX + 1).as_bytes());
        assert_eq!(lines[2], b"end");
        let whole: [u8; 32] = Sha256::digest(&input).into();
        assert_eq!(reached.hash(), whole);
    }
}
