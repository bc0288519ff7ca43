//! URLs, and requests as they go over the wire.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::{HeaderName, HeaderValue};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::runtime::Runtime;

use super::super::{
    connect::Connector,
    lookup::Lookup,
    payload::Http,
    pool::{Known, Limits, Pool},
    prepare::{Place, Prepared, header_value, prepare},
    request::Request,
};
use crate::{
    guid::Guid,
    job::Delivery,
    ports::{Attempt, Refusal, Running},
    testing::fuzz::texts,
};

/// A URL.
pub(crate) fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Place::read(text) {
        Ok(place) => accepted(text, &place),
        Err(refusal) => {
            assert_eq!(refusal.field, "url");
            // It may hold a secret.
            assert!(text.len() < 40 || !refusal.message.contains(text), "{}", refusal.message);
        }
    }
}

fn accepted(text: &str, place: &Place) {
    let (origin, target) = (place.origin(), place.target.as_str());
    assert!(
        target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'),
        "{target}"
    );
    let Ok(endpoint) = place.endpoint() else { return };
    let host = endpoint.host_header.to_str().expect("visible ASCII");
    assert!(
        !host.contains(['/', '@', '?', '#', ' ', '\\']) && !host.is_empty() && endpoint.port != 0,
        "{host}"
    );
    assert_eq!(endpoint.tls.is_some(), origin.starts_with("https://"));
    assert_eq!(endpoint.destination, endpoint.destination.to_lowercase());

    // What is sent is read as the same again.
    let whole = format!("{origin}{target}");
    let again = Place::read(&whole).unwrap_or_else(|refusal| panic!("{whole}: {}", refusal.message));
    assert_eq!((again.origin(), again.target.as_str()), (origin, target));
    // Another reader finds the same host and port in it.
    let uri: http::Uri = whole.parse().unwrap_or_else(|err| panic!("{whole}: {err}"));
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    assert_eq!(format!("{}:{port}", uri.host().expect("a host")), endpoint.destination);

    // Nothing but its spelling is changed, where it is plain.
    let (_, rest) = text.split_once("://").expect("an absolute URL");
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
    let plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    if plain(name) && !name.ends_with(|last: char| last.is_ascii_hexdigit() || last == '.') {
        assert_eq!(endpoint.host.to_string(), name.to_ascii_lowercase());
        assert!(port.is_empty() || port.parse() == Ok(endpoint.port), "{text}");
    }
}

/// Method, the URL behind its host, a header's name and value, the user agent, the queue, and the
/// body, each as text.
pub(crate) fn request(data: &[u8]) {
    secret(data);
    let Some([method, after, name, value, agent, queue, body]) = texts(data) else { return };
    let mut payload = Http::post(format!("http://h{after}")).method(method).header(name, value);
    if !agent.is_empty() {
        payload = payload.header("user-agent", agent);
    }
    if !body.is_empty() {
        payload = payload.body(body);
    }
    for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
        // As it comes from the store.
        let stored = serde_json::value::to_raw_value(&payload).expect("a payload has a JSON form");
        let read: Http = Refusal::read(&stored).unwrap_or_else(|refusal| panic!("{refusal:?}"));
        let Ok(prepared) = prepare(read) else { return };
        let mut attempt = Attempt::for_test(Guid::from_bytes([7; 16]), stored, Running::unlimited());
        (attempt.queue, attempt.delivery) = (queue.into(), delivery);
        let Some((request, known)) = written(&payload.url, prepared, &attempt) else { return };
        sent(&request, &known, &attempt, [method, name, value, agent, body]);
    }
}

fn written(url: &str, prepared: Prepared, attempt: &Attempt) -> Option<(Request, Arc<Known>)> {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime")
    });
    static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let tls = tls.with_safe_default_protocol_versions().expect("ring knows TLS");
        Arc::new(tls.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    });
    RUNTIME.block_on(async {
        let time = Duration::from_secs(5);
        let limits = Limits { idle_per_origin: 1, idle_time: time, body_cap: 1 };
        let pool = Pool::new(Connector::new(time, Lookup::System, TLS.clone()), limits);
        let known = pool.place(url).ok()?;
        drop(pool);
        // What the pool had under way ends now.
        tokio::task::yield_now().await;
        let request = Request::new(prepared, attempt, &known, &HeaderValue::from_static("us")).ok()?;
        Some((request, known))
    })
}

/// Whatever a job holds, a reader finds one request with the lines that were meant.
fn sent(request: &Request, known: &Known, attempt: &Attempt, [method, name, value, agent, body]: [&str; 5]) {
    let wire = [&request.head[..], &request.body].concat();
    let mut lines = [httparse::EMPTY_HEADER; 16];
    let mut read = httparse::Request::new(&mut lines);
    let shown = wire.escape_ascii().to_string();
    let length = read.parse(&wire).unwrap_or_else(|err| panic!("{err}: {shown}")).unwrap();
    assert_eq!(
        (read.method, read.path, read.version),
        (Some(method), Some(&*known.target), Some(1)),
        "{shown}"
    );
    assert_eq!(&wire[length..], body.as_bytes(), "{shown}");

    // A line ends with CR LF, and there is none but those that a reader found.
    let head = &wire[..length];
    let count = |what: u8| head.iter().filter(|&&byte| byte == what).count();
    assert_eq!(head.windows(2).filter(|two| two == b"\r\n").count(), read.headers.len() + 2, "{shown}");
    assert_eq!((count(b'\r'), count(b'\n')), (read.headers.len() + 2, read.headers.len() + 2), "{shown}");

    let all = |name: &str| -> Vec<&[u8]> {
        read.headers
            .iter()
            .filter(|line| line.name.eq_ignore_ascii_case(name))
            .map(|line| line.value)
            .collect()
    };
    assert_eq!(all("host"), [known.origin.host_header().as_bytes()], "{shown}");
    assert!(
        all("transfer-encoding").is_empty() && all("te").is_empty() && all("upgrade").is_empty(),
        "{shown}"
    );
    let announced = all("content-length");
    let expected = (!body.is_empty() || !matches!(method, "GET" | "HEAD")).then(|| body.len().to_string());
    assert_eq!(announced, expected.iter().map(String::as_bytes).collect::<Vec<_>>(), "{shown}");
    let close: &[&[u8]] = if attempt.delivery == Delivery::AtMostOnce { &[b"close"] } else { &[] };
    assert_eq!(all("connection"), close, "{shown}");
    let guid = attempt.guid.to_string();
    assert_eq!(
        (all("idempotency-key"), all("x-sendoff-guid")),
        (vec![guid.as_bytes()], vec![guid.as_bytes()])
    );
    assert_eq!(all("x-sendoff-queue"), [trimmed(&attempt.queue)], "{shown}");
    assert_eq!((all("x-sendoff-attempt").len(), all("x-sendoff-due-at").len()), (1, 1), "{shown}");
    let named: HeaderName = name.parse().expect("it was sent");
    let sent_agent = if named == "user-agent" {
        // Given twice, under spellings that sort before and behind each other, it is refused.
        if agent.is_empty() || name == "user-agent" { value_of(agent, value) } else { "" }
    } else if agent.is_empty() {
        "us"
    } else {
        agent
    };
    assert_eq!(all("user-agent"), [trimmed(sent_agent)], "{shown}");
    let own = usize::from(named != "user-agent");
    assert_eq!(all(named.as_str()).len(), 1, "{shown}");
    if own == 1 {
        assert_eq!(all(named.as_str()), [trimmed(value)], "{shown}");
    }
    let usual = 7 + usize::from(expected.is_some()) + close.len();
    assert_eq!(read.headers.len(), usual + own, "{shown}");
}

fn value_of<'a>(agent: &'a str, value: &'a str) -> &'a str {
    if agent.is_empty() { value } else { agent }
}

/// Blanks around a value are no part of it.
fn trimmed(value: &str) -> &[u8] {
    value.trim_matches([' ', '\t']).as_bytes()
}

/// A secret goes into a header as it is, or not at all.
fn secret(bytes: &[u8]) {
    let sendable = bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    let value = header_value(bytes);
    assert_eq!(value.is_some(), sendable, "{}", bytes.escape_ascii());
    assert!(value.is_none_or(|value| value.is_sensitive() && value.as_bytes() == bytes));
}
