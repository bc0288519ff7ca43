//! Lines, however they come: the daemon's reader and the command's against a plain one.

use std::io::BufReader;

use futures_util::{FutureExt, stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use sendoff::testing::fuzz::{parts, pieces};
use sha2::{Digest, Sha256};

use super::lines;
use crate::{
    api::BodyError,
    run::{Line, Lines, Reached},
};

/// Lengths of pieces, and behind 255 what comes in them.
pub(crate) fn lines(data: &[u8]) {
    let [lengths, text] = parts(data);
    let mut expected: Vec<&[u8]> = text.split(|&byte| byte == b'\n').collect();
    // Behind the last line feed there is a line only if it is not empty.
    if expected.last().is_some_and(|last| last.is_empty()) {
        expected.pop();
    }

    let come =
        pieces(text, lengths).map(|piece| Ok::<_, BodyError>(Frame::data(Bytes::copy_from_slice(piece))));
    let come: Vec<_> = come.collect();
    let mut reader = lines::Lines::new(StreamBody::new(stream::iter(come)).boxed());
    let mut plain = (1_u64..).zip(&expected).filter(|(_, line)| !line.trim_ascii().is_empty());
    while let Some(line) = reader.next().now_or_never().expect("all is there").expect("it does not break off")
    {
        let lines::Line::Text(line) = line else { panic!("none is too long") };
        assert_eq!(
            (reader.number(), &*line),
            plain.next().map(|(number, line)| (number, *line)).expect("a line")
        );
    }
    assert_eq!(plain.next(), None);

    let capacity = 1 + lengths.first().map_or(0, |&length| usize::from(length));
    let mut reader = Lines::new(BufReader::with_capacity(capacity, text), Reached::start());
    for (number, line) in (1_u64..).zip(&expected) {
        assert_eq!(reader.next().expect("memory is read"), Some(Line::Bytes(line)));
        assert_eq!(reader.reached().lines, number);
    }
    assert_eq!(reader.next().expect("memory is read"), None);
    let reached = reader.reached();
    assert_eq!(reached.bytes, text.len() as u64);
    assert_eq!(reached.hash(), <[u8; 32]>::from(Sha256::digest(text)));
    assert_eq!(reached.at_line_start, text.last().is_none_or(|&last| last == b'\n'));
}
