//! How far a run consumed its input: stored in the same transaction as the jobs that it led to, and
//! compared with the input when the run is resumed.

use std::io;

use serde::{Deserialize, Serialize};

use super::lines::{Buffered, Lines, Reached};

/// What a run stores under its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    /// The format of this record.
    version: u32,
    /// How often the run was started over, from 1.
    pub(crate) generation: u32,
    /// The run is being started over: records of the generation before are still there.
    pub(crate) clearing: bool,
    /// Which command the lines are for, with `--each-line`: a hash of its words.
    pub(crate) command: Option<String>,
    /// Bytes consumed.
    pub(crate) bytes: u64,
    /// Lines consumed.
    pub(crate) lines: u64,
    /// SHA-256 of the consumed bytes, hexadecimal.
    sha256: String,
    /// The input was read to its end.
    pub(crate) complete: bool,
    /// Lines consumed that led to no job because they were bad.
    pub(crate) skipped: u64,
    /// Lines consumed that repeat a job.
    pub(crate) repeats: u64,
    marks: Marks,
}

/// A line up to which the input was what it is: lines, and the first 8 bytes of the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark(u64, String);

/// Hashes at some earlier lines, so that a change is found within a narrow range. At most
/// [`Marks::MOST`]: when there are more, every second one goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Marks {
    stride: u64,
    at: Vec<Mark>,
}

impl Marks {
    const MOST: usize = 64;

    fn note(&mut self, reached: &Reached) {
        // A last line without its newline may get one later: no line to compare with.
        if !reached.at_line_start || !reached.lines.is_multiple_of(self.stride) {
            return;
        }
        if self.at.len() == Self::MOST {
            self.stride *= 2;
            let stride = self.stride;
            self.at.retain(|mark| mark.0.is_multiple_of(stride));
            if !reached.lines.is_multiple_of(stride) {
                return;
            }
        }
        self.at.push(Mark(reached.lines, short(reached)));
    }
}

fn short(reached: &Reached) -> String {
    hex(&reached.hash()[..8])
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why a run cannot go on with this input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changed {
    /// A line from `first` to `last` differs from what was consumed.
    Lines { first: u64, last: u64 },
    /// The input ends after line `lines`, earlier than what was consumed.
    Shorter { lines: u64 },
}

impl Position {
    const VERSION: u32 = 1;

    /// Nothing consumed.
    pub(crate) fn start(command: Option<String>) -> Self {
        let mut position = Self {
            version: Self::VERSION,
            generation: 1,
            clearing: false,
            command,
            bytes: 0,
            lines: 0,
            sha256: String::new(),
            complete: false,
            skipped: 0,
            repeats: 0,
            marks: Marks { stride: 1, at: Vec::new() },
        };
        position.reach(&Reached::start());
        position
    }

    /// The next generation, with nothing consumed and the records of this one to be deleted.
    pub(crate) fn again(&self, command: Option<String>) -> Self {
        Self { generation: self.generation.saturating_add(1), clearing: true, ..Self::start(command) }
    }

    /// Reads what was stored.
    ///
    /// # Errors
    /// In words: it is of a newer version, or no position.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match serde_json::from_slice::<Version>(bytes) {
            Ok(Version { version }) if version > Self::VERSION => {
                Err(format!("it was written by a newer sendoff (format {version}); use that one"))
            }
            _ => serde_json::from_slice(bytes).map_err(|err| format!("what it stored is no position: {err}")),
        }
    }

    /// What to store.
    pub(crate) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a position has a JSON form")
    }

    /// After each line: remembers the hash at some of them.
    pub(crate) fn note(&mut self, reached: &Reached) {
        self.marks.note(reached);
    }

    /// Consumed up to here.
    pub(crate) fn reach(&mut self, reached: &Reached) {
        self.bytes = reached.bytes;
        self.lines = reached.lines;
        self.sha256 = hex(&reached.hash());
    }

    /// Reads the consumed part from the beginning of the input and compares. A newline that has been
    /// added to the last line since is taken too.
    pub(crate) fn skip_consumed<R: io::BufRead + Buffered>(
        &self,
        lines: &mut Lines<R>,
    ) -> io::Result<Result<(), Changed>> {
        lines.limit(self.bytes);
        let mut marks = self.marks.at.iter().peekable();
        let mut same_until = 0;
        while lines.next()?.is_some() {
            let reached = lines.reached();
            if let Some(mark) = marks.next_if(|mark| mark.0 == reached.lines) {
                if mark.1 != short(reached) {
                    return Ok(Err(Changed::Lines { first: same_until + 1, last: mark.0 }));
                }
                same_until = mark.0;
            }
        }
        lines.limit(u64::MAX);
        let reached = lines.reached();
        if reached.bytes < self.bytes {
            return Ok(Err(Changed::Shorter { lines: reached.lines }));
        }
        let same = reached.lines == self.lines && hex(&reached.hash()) == self.sha256;
        if same && lines.finish_line()? {
            return Ok(Ok(()));
        }
        let first = if same { self.lines } else { same_until + 1 };
        Ok(Err(Changed::Lines { first, last: self.lines.max(first) }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::{super::lines::Line, *};

    fn consume(input: &str) -> Position {
        let mut position = Position::start(None);
        let mut lines = Lines::new(BufReader::new(input.as_bytes()), Reached::start());
        while lines.next().unwrap().is_some() {
            position.note(lines.reached());
        }
        position.reach(lines.reached());
        Position::read(&position.write()).unwrap()
    }

    fn resume(position: &Position, input: &str) -> Result<Vec<String>, Changed> {
        let mut lines = Lines::new(BufReader::with_capacity(5, input.as_bytes()), Reached::start());
        position.skip_consumed(&mut lines).unwrap()?;
        let mut rest = Vec::new();
        while let Some(Line::Bytes(line)) = lines.next().unwrap() {
            rest.push(String::from_utf8(line.to_vec()).unwrap());
        }
        Ok(rest)
    }

    #[test]
    fn what_was_appended_is_the_rest() {
        let position = consume("a\nb\n");
        assert_eq!(resume(&position, "a\nb\n"), Ok(vec![]));
        assert_eq!(resume(&position, "a\nb\nc\nd"), Ok(vec!["c".into(), "d".into()]));
    }

    #[test]
    fn a_last_line_may_get_its_newline_later_but_not_more_text() {
        let position = consume("a\nb");
        assert_eq!(resume(&position, "a\nb"), Ok(vec![]));
        assert_eq!(resume(&position, "a\nb\n"), Ok(vec![]));
        assert_eq!(resume(&position, "a\nb\nc\n"), Ok(vec!["c".into()]));
        assert_eq!(resume(&position, "a\nbc\n"), Err(Changed::Lines { first: 2, last: 2 }));
        let mut lines = Lines::new(BufReader::new(&b"a\nb\nc\n"[..]), Reached::start());
        position.skip_consumed(&mut lines).unwrap().unwrap();
        let mut later = position;
        while lines.next().unwrap().is_some() {
            later.note(lines.reached());
        }
        later.reach(lines.reached());
        assert_eq!(resume(&later, "a\nb\nc\nd\n"), Ok(vec!["d".into()]));
    }

    #[test]
    fn a_change_is_named_by_its_line() {
        let position = consume("a\nb\nc\n");
        assert_eq!(resume(&position, "a\nX\nc\n"), Err(Changed::Lines { first: 2, last: 2 }));
        assert_eq!(resume(&position, "a\nbc\nc\n"), Err(Changed::Lines { first: 2, last: 2 }));
        assert_eq!(resume(&position, "a\nb\nX\n"), Err(Changed::Lines { first: 3, last: 3 }));
        assert_eq!(resume(&position, "a\nb\n"), Err(Changed::Shorter { lines: 2 }));
        assert_eq!(resume(&position, ""), Err(Changed::Shorter { lines: 0 }));
    }

    #[test]
    fn in_a_long_input_the_range_is_a_64th_to_a_32nd_and_the_position_stays_small() {
        let text = |change: Option<u64>| {
            let mut text = String::new();
            for line in 1..=10_000_u64 {
                text.push_str(&format!("{}{line}\n", if change == Some(line) { "LINE" } else { "line" }));
            }
            text
        };
        let position = consume(&text(None));
        assert!(position.write().len() < 4_096);
        assert_eq!(resume(&position, &text(None)), Ok(vec![]));
        for line in [1, 5_000, 10_000] {
            let Err(Changed::Lines { first, last }) = resume(&position, &text(Some(line))) else { panic!() };
            assert!(first <= line && line <= last && last - first < 10_000 / 32, "{first} {line} {last}");
        }
    }

    #[test]
    fn a_newer_position_is_refused_and_says_so() {
        assert!(Position::read(br#"{"version":2,"what":"ever"}"#).unwrap_err().contains("newer"));
        assert!(Position::read(b"{}").unwrap_err().contains("no position"));
    }
}
