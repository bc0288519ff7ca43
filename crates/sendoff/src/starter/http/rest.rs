//! What follows the head of an answer: read only to find its end, so that the connection can be used
//! again.

/// The most that the sizes and extensions of chunks and the trailers may take, in bytes.
const MAX_OVERHEAD: usize = 16 * 1024;

/// What is left of an answer's body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// So many bytes.
    Length(u64),
    /// Chunks, up to the last one and its trailers.
    Chunked(Chunks),
}

/// Where the reader of chunks (RFC 9112, 7.1) is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    at: At,
    /// Bytes of this chunk; while its size is read, the digits so far.
    left: u64,
    /// Bytes of all chunks.
    data: u64,
    overhead: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Size {
        digits: u8,
    },
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    /// The begin of a line of the trailers, or of the empty one that ends all.
    Trailer,
    InTrailer,
    TrailerEnd,
    End,
    Ended,
}

/// How far the rest has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// More of it is to come.
    More,
    /// That was all of it, and nothing followed.
    Done,
    /// It is longer than the cap, malformed, or followed by what nobody asked for.
    Spoiled,
}

impl Rest {
    pub(super) const fn length(length: u64) -> Self {
        Self::Length(length)
    }

    pub(super) const fn chunked() -> Self {
        Self::Chunked(Chunks { at: At::Size { digits: 0 }, left: 0, data: 0, overhead: 0 })
    }

    /// Takes the next bytes. A body of more than `cap` bytes is not worth its connection.
    pub(super) fn take(&mut self, bytes: &[u8], cap: u64) -> Progress {
        match self {
            Self::Length(left) if *left > cap => Progress::Spoiled,
            Self::Length(left) => match left.checked_sub(bytes.len() as u64) {
                None => Progress::Spoiled,
                Some(0) => Progress::Done,
                Some(rest) => {
                    *left = rest;
                    Progress::More
                }
            },
            Self::Chunked(chunks) => chunks.take(bytes, cap),
        }
    }
}

impl Chunks {
    fn take(&mut self, mut bytes: &[u8], cap: u64) -> Progress {
        while let Some((&byte, behind)) = bytes.split_first() {
            if self.at == At::Data {
                let here = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= here as u64;
                if self.left == 0 {
                    self.at = At::DataReturn;
                }
                bytes = &bytes[here..];
                continue;
            }
            self.overhead += 1;
            match self.step(byte) {
                Some(at) if self.overhead <= MAX_OVERHEAD && self.data <= cap => self.at = at,
                _ => return Progress::Spoiled,
            }
            bytes = behind;
        }
        if self.at == At::Ended { Progress::Done } else { Progress::More }
    }

    /// Where one byte that is no data leads; `None` if it may not come here. Stricter than a server
    /// may expect: all that is lost is a connection.
    fn step(&mut self, byte: u8) -> Option<At> {
        Some(match (self.at, byte) {
            (At::Size { digits: 1.. }, b'\r') | (At::Extension, b'\r') => At::SizeEnd,
            (At::Size { digits: 1.. }, b';') => At::Extension,
            (At::Size { digits: digits @ 0..15 }, _) => {
                let digit = char::from(byte).to_digit(16)?;
                self.left = self.left << 4 | u64::from(digit);
                At::Size { digits: digits + 1 }
            }
            (At::Extension, byte) if byte != b'\n' => At::Extension,
            (At::SizeEnd, b'\n') if self.left == 0 => At::Trailer,
            (At::SizeEnd, b'\n') => {
                self.data = self.data.saturating_add(self.left);
                At::Data
            }
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => At::Size { digits: 0 },
            (At::Trailer, b'\r') => At::End,
            (At::InTrailer, b'\r') => At::TrailerEnd,
            (At::TrailerEnd, b'\n') => At::Trailer,
            (At::Trailer | At::InTrailer, byte) if byte != b'\n' => At::InTrailer,
            (At::End, b'\n') => At::Ended,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str, cap: u64) -> Progress {
        let whole = Rest::chunked().take(text.as_bytes(), cap);
        let mut piecemeal = Rest::chunked();
        let mut last = Progress::More;
        for byte in text.bytes() {
            if last != Progress::Spoiled {
                last = piecemeal.take(&[byte], cap);
            }
        }
        assert_eq!(whole, last, "{text:?}");
        whole
    }

    #[test]
    fn a_length_is_met_exactly() {
        for (length, bytes, progress) in [
            (0, "", Progress::Done),
            (2, "ab", Progress::Done),
            (2, "a", Progress::More),
            (2, "abc", Progress::Spoiled),
            (0, "a", Progress::Spoiled),
            (11, "", Progress::Spoiled),
        ] {
            assert_eq!(Rest::length(length).take(bytes.as_bytes(), 10), progress, "{length} {bytes}");
        }
        let mut rest = Rest::length(3);
        assert_eq!(rest.take(b"ab", 10), Progress::More);
        assert_eq!(rest.take(b"c", 10), Progress::Done);
    }

    #[test]
    fn chunks_end_where_they_say() {
        for done in [
            "0\r\n\r\n",
            "000\r\n\r\n",
            "3\r\nabc\r\n0\r\n\r\n",
            "A;name=\"v\"\r\n0123456789\r\n0;x\r\nx-t: 1\r\ny: 2\r\n\r\n",
            "1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(taken(done, 10), Progress::Done, "{done:?}");
            for end in 0..done.len() {
                assert_eq!(taken(&done[..end], 10), Progress::More, "{:?}", &done[..end]);
            }
            assert_eq!(taken(&format!("{done}x"), 10), Progress::Spoiled);
        }
        for bad in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1;a\nb",
            "1\ra",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\rb",
            "0\r\n\n",
            "0\r\na: b\n",
            "0\r\na: b\rc",
            "0\r\n\rx",
            "1000000000000000\r\n",
            "b\r\n",
            "6\r\nabcdef\r\n5\r\n",
        ] {
            assert_eq!(taken(bad, 10), Progress::Spoiled, "{bad:?}");
        }
        assert_eq!(taken(&format!("0\r\na: {}", "x".repeat(MAX_OVERHEAD)), 10), Progress::Spoiled);
        assert_eq!(taken(&"1;a=b\r\nx\r\n".repeat(MAX_OVERHEAD / 9 + 1), u64::MAX), Progress::Spoiled);
    }
}
