//! Lines of a body, in bounded memory.

use http_body_util::BodyExt;
use hyper::body::Bytes;
use sendoff::JobSpec;

use crate::api::{Body, BodyError};

/// A body as lines. Each that is longer than a job may be is passed over.
pub(super) struct Lines {
    body: Body,
    /// What has come and is not given out yet.
    data: Bytes,
    /// The beginning of a line whose end is still to come.
    partial: Vec<u8>,
    /// The line under way is too long: it is dropped up to its end.
    dropping: bool,
    ended: bool,
    /// Lines given out, blank ones too.
    number: u64,
}

/// One line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(Bytes),
    TooLong,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, data: Bytes::new(), partial: Vec::new(), dropping: false, ended: false, number: 0 }
    }

    /// The number of the line given out last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line that is not blank; none at the end. Loses nothing if dropped midway.
    pub(super) async fn next(&mut self) -> Result<Option<Line>, BodyError> {
        loop {
            while let Some(line) = self.take() {
                self.number += 1;
                if !matches!(&line, Line::Text(text) if text.trim_ascii().is_empty()) {
                    return Ok(Some(line));
                }
            }
            if self.ended {
                return Ok(None);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.data = frame.into_data().unwrap_or_default(),
                Some(Err(err)) => return Err(err),
                None => self.ended = true,
            }
        }
    }

    /// The next line of what has come.
    fn take(&mut self) -> Option<Line> {
        let end = self.data.iter().position(|&byte| byte == b'\n');
        let Some(end) = end else {
            let rest = std::mem::take(&mut self.data);
            self.keep(&rest);
            let last = self.ended && (self.dropping || !self.partial.is_empty());
            return last.then(|| self.finish(Bytes::new()));
        };
        let text = self.data.split_to(end + 1).split_to(end);
        Some(self.finish(text))
    }

    fn keep(&mut self, text: &[u8]) {
        if self.partial.len() + text.len() > JobSpec::MAX_BYTES {
            self.dropping = true;
            self.partial = Vec::new();
        } else if !self.dropping {
            self.partial.extend_from_slice(text);
        }
    }

    fn finish(&mut self, text: Bytes) -> Line {
        if self.partial.is_empty() && !self.dropping && text.len() <= JobSpec::MAX_BYTES {
            return Line::Text(text);
        }
        self.keep(&text);
        let whole = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.dropping) { Line::TooLong } else { Line::Text(whole.into()) }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    async fn read(text: &[u8], piece: usize) -> Vec<(u64, Line)> {
        let pieces: Vec<_> = text
            .chunks(piece)
            .map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::copy_from_slice(piece))))
            .collect();
        let mut lines = Lines::new(StreamBody::new(stream::iter(pieces)).boxed());
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            all.push((lines.number(), line));
        }
        all
    }

    #[tokio::test]
    async fn lines_are_the_same_however_they_come() {
        let text = b"one\n\n  \ntwo\r\nthree";
        let line = |text: &'static [u8]| Line::Text(Bytes::from_static(text));
        for piece in 1..=text.len() {
            let expected = [(1, line(b"one")), (4, line(b"two\r")), (5, line(b"three"))];
            assert_eq!(read(text, piece).await, expected, "{piece}");
        }
        assert!(read(b"", 1).await.is_empty());
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_one_line_and_is_not_kept() {
        let mut text = vec![b'x'; JobSpec::MAX_BYTES];
        text.extend_from_slice(b"\nshort\n");
        text.extend(vec![b'y'; 3 * JobSpec::MAX_BYTES]);
        text.extend_from_slice(b"\nend");
        for piece in [1_000, 70_000, text.len()] {
            let lines = read(&text, piece).await;
            assert!(matches!(&lines[0], (1, Line::Text(text)) if text.len() == JobSpec::MAX_BYTES));
            assert_eq!(lines[2], (3, Line::TooLong));
            assert_eq!(lines[3], (4, Line::Text(Bytes::from_static(b"end"))));
        }
    }
}
