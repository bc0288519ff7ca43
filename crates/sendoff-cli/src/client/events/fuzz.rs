//! Event streams, however they come.

use sendoff::testing::fuzz::{parts, pieces};

use super::{Event, LONGEST, Reader};

/// Lengths of pieces, and behind 255 the stream.
pub(crate) fn events(data: &[u8]) {
    let [lengths, stream] = parts(data);
    if stream.len() > LONGEST {
        return;
    }
    let at_once = read([stream]);
    let in_pieces = read(pieces(stream, lengths));
    assert_eq!(at_once, in_pieces);
    let (events, last_id, _) = at_once;
    for event in &events {
        if let Event::Job(change, data) = event {
            assert_eq!(serde_json::from_str::<super::Change>(data).ok().as_ref(), Some(change));
        }
    }
    // It goes back to the daemon in a header, which has one line.
    assert!(last_id.is_none_or(|id| !id.contains('\n')));
}

/// The events up to the first that is none, the last id, and whether all were.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Event>, Option<String>, bool) {
    let mut reader = Reader::default();
    let mut events = Vec::new();
    for piece in pieces {
        reader.take(piece).expect("it is short");
        loop {
            match reader.next() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(failure) => {
                    assert!(!failure.message.is_empty());
                    return (events, reader.last_id, false);
                }
            }
        }
    }
    (events, reader.last_id, true)
}
