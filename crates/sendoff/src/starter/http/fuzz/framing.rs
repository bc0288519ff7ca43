//! Answers: read in pieces as in one, and an end that has two readings is none.

use super::super::{
    answer::{Head, HeadReader, MAX_HEAD},
    rest::{Progress, Rest},
};
use crate::testing::fuzz::{parts, pieces};

/// The longest body that is read.
const CAP: u64 = 1024 * 1024;

/// The lengths of pieces, the first of them odd if the answer is one to HEAD, and behind 255 the
/// answer.
pub(crate) fn answer(data: &[u8]) {
    let [lengths, bytes] = parts(data);
    if bytes.len() >= MAX_HEAD {
        return;
    }
    let to_head = lengths.first().is_some_and(|length| length % 2 == 1);
    let whole = HeadReader::default().read(bytes, to_head);
    let piecewise = in_pieces(bytes, lengths, to_head);
    match (&whole, &piecewise) {
        (Ok(Some(whole)), Ok(Some(pieces))) => {
            assert_eq!((whole.length, &whole.rest), (pieces.length, &pieces.rest));
            assert_eq!(whole.answer.status, pieces.answer.status);
            assert_eq!(whole.answer.retry_after, pieces.answer.retry_after);
            assert_eq!(whole.answer.date, pieces.answer.date);
        }
        // One that came at once may be known sooner to be none.
        (Ok(None), Ok(None)) | (Err(_), Err(_) | Ok(None)) => {}
        _ => panic!("at once {whole:?}, in pieces {piecewise:?}"),
    }
    let Ok(Some(head)) = whole else { return };
    assert!((12..=bytes.len()).contains(&head.length));
    let (read, behind) = bytes.split_at(head.length);
    assert!(read.ends_with(b"\n\r\n") || read.ends_with(b"\n\n"), "a head ends with an empty line");
    let end = end(read, to_head);
    assert_eq!(head.rest, end.as_ref().map(Rest::from), "{:?}", read.escape_ascii().to_string());
    if let (Some(rest), Some(end)) = (head.rest, end) {
        body(rest, &end, behind, lengths);
    }
}

fn in_pieces(bytes: &[u8], lengths: &[u8], to_head: bool) -> Result<Option<Head>, &'static str> {
    let mut reader = HeadReader::default();
    let mut end = 0;
    for piece in pieces(bytes, lengths) {
        end += piece.len();
        if let Some(head) = reader.read(&bytes[..end], to_head)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// How the body of an answer ends, by the words of RFC 9112, 6.3.
#[derive(PartialEq, Eq)]
enum End {
    After(u64),
    Chunks,
}

impl From<&End> for Rest {
    fn from(end: &End) -> Self {
        match end {
            End::After(length) => Self::length(*length),
            End::Chunks => Self::chunked(),
        }
    }
}

/// Reads the last head again, in the plainest way; `None` if nothing may follow the answer.
fn end(heads: &[u8], to_head: bool) -> Option<End> {
    let text = String::from_utf8_lossy(heads).replace("\r\n", "\n");
    let last = text.trim_matches('\n').rsplit("\n\n").next().unwrap_or_default().trim_start_matches('\n');
    let mut lines = last.split('\n');
    let status_line = lines.next().unwrap_or_default();
    let fields: Vec<(String, &str)> = lines
        .map(|line| line.split_once(':').expect("a line of a head has a colon"))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim_matches([' ', '\t'])))
        .collect();
    let all = |name: &str| -> Vec<&str> {
        fields.iter().filter(|(other, _)| other == name).map(|(_, value)| *value).collect()
    };
    let (version, status) = status_line.split_once(' ').expect("a status line");
    let status: u16 = status.trim_start_matches(' ').get(..3)?.parse().expect("a status");
    let closes = |value: &&str| value.split(',').any(|word| word.trim_ascii().eq_ignore_ascii_case("close"));
    if version != "HTTP/1.1" || status < 200 || all("connection").iter().any(closes) {
        return None;
    }
    match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) if to_head || matches!(status, 204 | 304) => Some(End::After(0)),
        ([length], []) => {
            let plain = (1..=15).contains(&length.len()) && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| plain)?;
            match status {
                _ if to_head || status == 304 => Some(End::After(0)),
                204 if length > 0 => None,
                _ => Some(End::After(length)),
            }
        }
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => match status {
            _ if to_head || status == 304 => Some(End::After(0)),
            204 => None,
            _ => Some(End::Chunks),
        },
        _ => None,
    }
}

fn body(mut rest: Rest, end: &End, bytes: &[u8], lengths: &[u8]) {
    let whole = Rest::from(end).take(bytes, CAP);
    let mut progress = if bytes.is_empty() { rest.take(bytes, CAP) } else { Progress::More };
    for piece in pieces(bytes, lengths) {
        progress = match progress {
            Progress::More => rest.take(piece, CAP),
            // A kept connection that says something unasked is closed, and a closed one stays so.
            Progress::Done | Progress::Spoiled => Progress::Spoiled,
        };
    }
    assert_eq!(whole, progress, "at once, and in pieces");
    let length = match end {
        End::After(length) => Some(*length).filter(|length| *length <= CAP),
        End::Chunks => chunks(bytes),
    };
    let done = length == Some(bytes.len() as u64);
    assert_eq!(whole == Progress::Done, done, "{}", bytes.escape_ascii());
}

/// The length of a whole chunked body (RFC 9112, 7.1) at the beginning of `bytes`.
fn chunks(bytes: &[u8]) -> Option<u64> {
    let line = |from: usize| -> Option<(&[u8], usize)> {
        let length = bytes[from..].iter().position(|&byte| byte == b'\n')?;
        let line = bytes[from..from + length].strip_suffix(b"\r")?;
        (!line.contains(&b'\r') || line.is_empty()).then_some((line, from + length + 1))
    };
    let (mut at, mut data) = (0, 0_u64);
    loop {
        let (size, behind) = line(at)?;
        let digits = size.split(|&byte| byte == b';').next()?;
        if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            at = behind;
            break;
        }
        data += size;
        let end = behind.checked_add(usize::try_from(size).ok()?)?;
        if data > CAP || bytes.get(end..end + 2)? != b"\r\n" {
            return None;
        }
        at = end + 2;
    }
    loop {
        let (trailer, behind) = line(at)?;
        at = behind;
        if trailer.is_empty() {
            return Some(at as u64);
        }
    }
}
