//! The bytes of a request.

use std::{fmt, io::Write};

use http::{HeaderValue, Method, header};

use super::{pool::Known, prepare::Prepared};
use crate::{
    job::Delivery,
    ports::{Attempt, StartError},
};

/// Up to this size, in bytes, a body is sent as one piece with the head.
const SMALL: usize = 4 * 1024;
/// What the lines that every request has take, and then some.
const USUAL_HEAD: usize = 512;

/// A request as it goes over the wire.
pub(super) struct Request {
    /// With the body if that is small.
    pub(super) head: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// It is a HEAD, whose answer has no body whatever its headers say.
    pub(super) to_head: bool,
}

impl Request {
    /// The request of one attempt.
    ///
    /// # Errors
    /// Permanent if the queue's name cannot be sent.
    pub(super) fn new(
        prepared: Prepared,
        attempt: &Attempt,
        known: &Known,
        user_agent: &HeaderValue,
    ) -> Result<Self, StartError> {
        let Prepared { method, headers, mut body, .. } = prepared;
        let queue = attempt.queue.as_bytes();
        // A queue's name may hold anything; a line break in it must not reach the wire.
        if queue.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
            return Err(StartError::permanent(
                "the queue's name holds a control character: no header can carry it",
            ));
        }
        let own_agent = headers.iter().find(|(name, _)| *name == header::USER_AGENT);
        let mut head = Lines(Vec::with_capacity(USUAL_HEAD + known.target.len() + body.len().min(SMALL)));
        head.text(method.as_str());
        head.text(" ");
        head.text(&known.target);
        head.line(" HTTP/1.1\r\nhost: ", known.origin.host_header());
        head.line("\r\nuser-agent: ", own_agent.map_or(user_agent, |(_, value)| value));
        // Said even of an empty body where one is usual: some servers answer 411 otherwise.
        let to_head = method == Method::HEAD;
        if !body.is_empty() || (method != Method::GET && !to_head) {
            head.shown("\r\ncontent-length: ", body.len());
        }
        if attempt.delivery == Delivery::AtMostOnce {
            head.text("\r\nconnection: close");
        }
        let guid = head.0.len() + "\r\nidempotency-key: ".len();
        head.shown("\r\nidempotency-key: ", attempt.guid);
        let guid = guid..head.0.len();
        head.text("\r\nx-sendoff-guid: ");
        head.0.extend_from_within(guid);
        head.line("\r\nx-sendoff-queue: ", queue);
        head.shown("\r\nx-sendoff-attempt: ", attempt.number);
        head.shown("\r\nx-sendoff-due-at: ", attempt.due_at);
        for (name, value) in headers.iter().filter(|(name, _)| *name != header::USER_AGENT) {
            head.text("\r\n");
            head.text(name.as_str());
            head.line(": ", value);
        }
        head.text("\r\n\r\n");
        let mut head = head.0;
        if body.len() <= SMALL {
            head.append(&mut body);
        }
        Ok(Self { head, body, to_head })
    }

    /// What is left to send after so many bytes: of the head, and of the body.
    pub(super) fn after(&self, sent: usize) -> (&[u8], &[u8]) {
        match self.head.get(sent..) {
            Some(head) => (head, &self.body),
            None => (&[], &self.body[sent - self.head.len()..]),
        }
    }
}

/// A head being written, each line behind the break that ends the one before. What goes in has been
/// checked to fit into its line.
struct Lines(Vec<u8>);

impl Lines {
    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn line(&mut self, start: &str, value: impl AsRef<[u8]>) {
        self.text(start);
        self.0.extend_from_slice(value.as_ref());
    }

    fn shown(&mut self, start: &str, value: impl fmt::Display) {
        self.text(start);
        write!(self.0, "{value}").expect("memory takes everything");
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use proptest::prelude::*;

    use super::*;
    use crate::{
        guid::Guid,
        ports::Running,
        starter::http::{
            Http,
            connect::Connector,
            lookup::Lookup,
            pool::{Limits, Pool},
            prepare::prepare,
        },
    };

    fn pool() -> Arc<Pool> {
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
        let time = Duration::from_secs(5);
        let limits = Limits { idle_per_origin: 1, idle_time: time, body_cap: 1 };
        Pool::new(Connector::new(time, Lookup::System, Arc::new(tls)), limits)
    }

    /// What a start would send; `None` if it is refused.
    fn written(pool: &Arc<Pool>, payload: Http, queue: &str) -> Option<Request> {
        let mut attempt = Attempt::for_test(
            Guid::from_bytes([7; 16]),
            serde_json::value::to_raw_value(&payload).unwrap(),
            Running::unlimited(),
        );
        attempt.queue = queue.into();
        let known = pool.place(&payload.url).ok()?;
        Request::new(prepare(payload).ok()?, &attempt, &known, &HeaderValue::from_static("us")).ok()
    }

    #[tokio::test]
    async fn a_queue_that_no_header_can_carry_is_not_sent() {
        let pool = pool();
        for queue in ["a\r\nb: c", "a\nb", "a\rb", "a\0", "\u{7f}"] {
            assert!(written(&pool, Http::post("http://h/"), queue).is_none(), "{queue:?}");
        }
        assert!(written(&pool, Http::post("http://h/"), "a b\tü").is_some());
    }

    #[tokio::test]
    async fn hosts_are_named_as_in_the_url() {
        let pool = pool();
        for (url, host) in [
            ("http://Example.com:80/", "example.com"),
            ("https://example.com:443/", "example.com"),
            ("http://example.com:443/", "example.com:443"),
            ("http://[0:0::1]/", "[::1]"),
            ("http://[::1]:8080/", "[::1]:8080"),
            ("http://127.1:81/", "127.0.0.1:81"),
        ] {
            let head = written(&pool, Http::post(url), "q").unwrap().head;
            let head = String::from_utf8(head).unwrap();
            assert!(head.starts_with(&format!("POST / HTTP/1.1\r\nhost: {host}\r\n")), "{url}: {head}");
        }
    }

    #[tokio::test]
    async fn what_is_left_begins_where_the_rest_was_sent() {
        for length in [0, SMALL, SMALL + 1] {
            let request = written(&pool(), Http::post("http://h/").body("y".repeat(length)), "q").unwrap();
            let whole = [&request.head[..], &request.body].concat();
            assert!(whole.ends_with(&[&b"\r\n\r\n"[..], &b"y".repeat(length)].concat()));
            for sent in 0..=whole.len() {
                let (head, body) = request.after(sent);
                assert_eq!([head, body].concat(), whole[sent..]);
            }
        }
    }

    /// Text made of what could break a line, a URL or a header, and of what could not.
    fn text() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "a",
            "B",
            "0",
            "-",
            "_",
            ".",
            "/",
            "//",
            "?",
            "#",
            "@",
            ":",
            "[",
            "]",
            "%0d%0a",
            "%",
            "\\",
            " ",
            "\t",
            "\r",
            "\n",
            "\r\n",
            "\r\nx: y",
            "\0",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "é",
            "\"",
            " HTTP/1.1\r\n\r\n",
        ]);
        prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// Whatever a job holds, a reader finds one request with the lines that were meant.
        #[test]
        fn no_job_can_write_lines_of_its_own(
            method in prop_oneof![Just("PUT".to_owned()), text()],
            after in prop_oneof![Just("/".to_owned()), text()],
            name in prop_oneof![Just("x-a".to_owned()), text()],
            value in prop_oneof![Just("v".to_owned()), text()],
            agent in prop_oneof![Just("me".to_owned()), text()],
            queue in prop_oneof![Just("q".to_owned()), text()],
            body in text(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _entered = runtime.enter();
            let given = Http::post(format!("http://h{after}"))
                .method(method)
                .header(name, value)
                .header("user-agent", agent)
                .body(body.clone());
            if let Some(request) = written(&pool(), given, &queue) {
                let mut lines = [httparse::EMPTY_HEADER; 16];
                let mut read = httparse::Request::new(&mut lines);
                let length = read.parse(&request.head).unwrap().unwrap();
                prop_assert_eq!(&request.head[length..], body.as_bytes());
                prop_assert_eq!(request.head.windows(2).filter(|two| two == b"\r\n").count()
                    - body.matches("\r\n").count(), read.headers.len() + 2);
                prop_assert_eq!(read.headers.iter().filter(|line| line.name == "host").count(), 1);
                prop_assert!(read.path.unwrap().starts_with('/'));
                // Eight that every request with a body has, and the one given.
                prop_assert!((8..=9).contains(&read.headers.len()), "{:?}", read.headers);
            }
        }
    }
}
