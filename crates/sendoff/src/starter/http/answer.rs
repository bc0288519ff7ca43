//! The head of an answer: its status, what it says of trying again, and where its body ends.

use std::mem::MaybeUninit;

use http::{HeaderValue, StatusCode};
use httparse::{Header, ParserConfig, Status};

use super::rest::Rest;

/// The longest head of an answer, interim ones before it included, in bytes.
pub(super) const MAX_HEAD: usize = 32 * 1024;
/// The most headers that an answer may have.
const MAX_LINES: usize = 100;

/// What an answer says, as far as anybody asks.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// Both are read only of answers that are no success.
    pub(super) retry_after: Option<HeaderValue>,
    pub(super) date: Option<HeaderValue>,
}

/// A head that is complete.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) answer: Answer,
    /// How many bytes it took, with all before it.
    pub(super) length: usize,
    /// What is to come before another request can be sent; `None` if none can.
    pub(super) rest: Option<Rest>,
}

/// Reads heads from bytes that come bit by bit.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Where the head begins, behind interim ones.
    from: usize,
    /// How far there is no end of it.
    searched: usize,
}

impl HeadReader {
    /// The head of the final answer, once it is among `bytes`: all that came so far.
    ///
    /// # Errors
    /// They are no answer, for this reason.
    pub(super) fn read(&mut self, bytes: &[u8], to_head: bool) -> Result<Option<Head>, &'static str> {
        loop {
            // Most heads come in one piece. Others are parsed only where an end is seen, so that one
            // that trickles in is not parsed for each byte.
            let ended =
                self.searched == 0 || holds_end(&bytes[self.from.max(self.searched.saturating_sub(3))..]);
            let found = if ended { parse(&bytes[self.from..], to_head)? } else { None };
            match found {
                Some(mut head) => {
                    self.from += head.length;
                    head.length = self.from;
                    let status = head.answer.status;
                    if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                        return Ok(Some(head));
                    }
                }
                None if bytes.len() >= MAX_HEAD => return Err("its head is too long"),
                None => {
                    self.searched = bytes.len();
                    return Ok(None);
                }
            }
        }
    }
}

/// Whether an empty line ends a head here.
fn holds_end(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(3).any(|three| three == b"\n\r\n")
}

fn parse(bytes: &[u8], to_head: bool) -> Result<Option<Head>, &'static str> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_LINES];
    let mut response = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut lines);
    let length = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err("too many headers"),
        Err(httparse::Error::Version) => return Err("another version"),
        Err(_) => return Err("malformed head"),
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or("malformed status")?;
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.filter(|_| !status.is_success()).and_then(|header| HeaderValue::from_bytes(header.value).ok())
    };
    let answer = Answer { status, retry_after: header("retry-after"), date: header("date") };
    let rest = if response.version == Some(1) { rest(status, response.headers, to_head) } else { None };
    Ok(Some(Head { answer, length, rest }))
}

/// Where the body ends (RFC 9112, 6.3). Whatever two readers could read in two ways ends the
/// connection: the answer counts, and nothing that follows it does.
fn rest(status: StatusCode, headers: &[Header<'_>], to_head: bool) -> Option<Rest> {
    if status.is_informational() {
        return None;
    }
    let (mut length, mut chunked) = (None, false);
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            if length.is_some() {
                return None;
            }
            length = Some(read_length(header.value)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if chunked || !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return None;
            }
            chunked = true;
        } else if header.name.eq_ignore_ascii_case("connection")
            && header
                .value
                .split(|&byte| byte == b',')
                .any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"))
        {
            return None;
        }
    }
    match (length, chunked) {
        (Some(_), true) => None,
        _ if to_head || status == StatusCode::NOT_MODIFIED => Some(Rest::length(0)),
        // It has no body and must not announce one: who does may send it, too.
        _ if status == StatusCode::NO_CONTENT => {
            (!chunked && length.unwrap_or(0) == 0).then(|| Rest::length(0))
        }
        (None, true) => Some(Rest::chunked()),
        (Some(length), false) => Some(Rest::length(length)),
        // It ends with the connection.
        (None, false) => None,
    }
}

/// Digits and nothing else, of which 15 are more than anybody sends.
fn read_length(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value.trim_ascii()).ok()?;
    if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<Head>, &'static str> {
        HeadReader::default().read(text.as_bytes(), false)
    }

    fn head(text: &str) -> Head {
        read(text).unwrap().unwrap_or_else(|| panic!("incomplete: {text:?}"))
    }

    #[test]
    fn a_head_is_the_same_however_it_comes() {
        let text = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: </a>\r\n\r\n\
                    HTTP/1.1 503 Later\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\n";
        for step in 1..text.len() {
            let mut reader = HeadReader::default();
            for end in (step..text.len()).step_by(step) {
                assert!(reader.read(&text.as_bytes()[..end], false).unwrap().is_none(), "{end}");
            }
            let head = reader.read([text, "ok"].concat().as_bytes(), false).unwrap().unwrap();
            assert_eq!((head.answer.status.as_u16(), head.length), (503, text.len()));
            assert_eq!(head.answer.retry_after.unwrap(), "7");
            assert_eq!(head.rest, Some(Rest::length(2)));
        }
    }

    #[test]
    fn only_what_has_one_reading_keeps_its_connection() {
        for (status, headers, rest) in [
            ("200 OK", "content-length: 0\r\n", Some(Rest::length(0))),
            ("200 OK", "Content-Length:  12 \r\nconnection: keep-alive\r\n", Some(Rest::length(12))),
            ("200 OK", "Transfer-Encoding: Chunked\r\n", Some(Rest::chunked())),
            ("204 No Content", "", Some(Rest::length(0))),
            ("204 No Content", "connection: upgrade, keep-alive\r\n", Some(Rest::length(0))),
            ("204 No Content", "content-length: 0\r\n", Some(Rest::length(0))),
            ("304 Not Modified", "content-length: 7\r\n", Some(Rest::length(0))),
            ("200 OK", "", None),
            ("204 No Content", "Connection: Close\r\n", None),
            ("204 No Content", "connection: keep-alive, close\r\n", None),
            ("200 OK", "content-length: 1\r\ncontent-length: 1\r\n", None),
            ("200 OK", "content-length: 1, 1\r\n", None),
            ("200 OK", "content-length: +1\r\n", None),
            ("200 OK", "content-length: -1\r\n", None),
            ("200 OK", "content-length: 0x1\r\n", None),
            ("200 OK", "content-length: \r\n", None),
            ("200 OK", "content-length: 99999999999999999999\r\n", None),
            ("200 OK", "content-length: 1\r\ntransfer-encoding: chunked\r\n", None),
            ("204 No Content", "content-length: 1\r\ntransfer-encoding: chunked\r\n", None),
            ("204 No Content", "content-length: 1\r\n", None),
            ("204 No Content", "transfer-encoding: chunked\r\n", None),
            ("200 OK", "transfer-encoding: gzip, chunked\r\n", None),
            ("200 OK", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", None),
            ("200 OK", "transfer-encoding: identity\r\ncontent-length: 1\r\n", None),
            ("101 Switching Protocols", "content-length: 0\r\n", None),
        ] {
            let text = format!("HTTP/1.1 {status}\r\n{headers}\r\n");
            assert_eq!(head(&text).rest, rest, "{text}");
        }
        assert_eq!(head("HTTP/1.0 204 No Content\r\nconnection: keep-alive\r\n\r\n").rest, None);
        let to_head = HeadReader::default().read(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", true);
        assert_eq!(to_head.unwrap().unwrap().rest, Some(Rest::length(0)));
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for text in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nspace : before\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let lines = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert!(read(&lines(MAX_LINES)).unwrap().is_some());
        assert!(read(&lines(MAX_LINES + 1)).is_err());
        assert!(read(&format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(MAX_HEAD))).is_err());
        assert!(read(&"HTTP/1.1 100 Continue\r\n\r\n".repeat(MAX_HEAD / 25 + 1)).is_err());
    }

    /// Pieces of heads, well made and not.
    fn text() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 204\r\n",
            "HTTP/1.0 200 OK\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "content-length: 3\r\n",
            "Transfer-Encoding: chunked\r\n",
            "connection: close\r\n",
            "a: b\r\n",
            "\r\n",
            "\r\n\r\n",
            "\n",
            "\r",
            ":",
            " ",
            "x",
            "\0",
        ]);
        prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pieces_are_read_as_the_whole(text in text(), step in 1_usize..9) {
            let whole = read(&text);
            let mut reader = HeadReader::default();
            let mut end = 0;
            let pieces = loop {
                end = text.len().min(end + step);
                match reader.read(&text.as_bytes()[..end], false) {
                    Ok(None) if end < text.len() => {}
                    other => break other,
                }
            };
            // Where no head is complete, one that came at once may be known sooner to be none.
            if let Ok(Some(whole)) = whole {
                let pieces = pieces.expect("a head").expect("a complete one");
                prop_assert_eq!(whole.answer.status, pieces.answer.status);
                prop_assert_eq!((whole.length, whole.rest), (pieces.length, pieces.rest));
            }
        }
    }
}
