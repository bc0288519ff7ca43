//! From a payload to a request: the checks at submit and the bytes at start come from one place, so
//! that what was accepted is what is sent.

use std::net::IpAddr;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderName, HeaderValue, Method, header,
    uri::{Authority, InvalidUri, PathAndQuery},
};
use rustls::pki_types::ServerName;
use url::{Host, Position, Url};

use super::{
    connect::{self, Endpoint},
    header::HttpHeader,
    payload::Http,
    secret::Reference,
};
use crate::{
    ports::{Refusal, StartError},
    starter::policy::Bounds,
};

/// The longest URL, in bytes.
const MAX_URL: usize = 8 * 1024;
/// The most that a job's headers may take on the wire, in bytes.
const MAX_HEADERS: usize = 32 * 1024;

/// What a header of one letter and no value takes: `a: ` and a line break.
const MIN_HEADER: usize = 5;

/// Names that frame the message, that steer the connection, or that sendoff promises itself.
const FORBIDDEN: &[&str] = &[
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "idempotency-key",
];
const FORBIDDEN_PREFIXES: &[&str] = &["proxy-", "x-sendoff-"];

/// A payload that can be sent, but for its URL.
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    secrets: Vec<Secret>,
    pub(super) body: Vec<u8>,
    pub(super) trust_retry_after: bool,
}

/// What one of the headers still lacks at its end.
struct Secret {
    header: usize,
    /// The header, as the job names it.
    field: String,
    reference: Reference,
}

/// A URL that can be started.
pub(super) struct Place {
    url: Url,
    /// Path and query, as the request line has them.
    pub(super) target: PathAndQuery,
}

/// Checks `payload` but for its URL and takes it apart.
pub(super) fn prepare(payload: Http) -> Result<Prepared, Refusal> {
    let method = read_method(&payload.method)?;
    // Each is compared with all before it.
    let count = payload.headers.len();
    if count > MAX_HEADERS / MIN_HEADER {
        let why =
            format!("{count} headers are more than fit into the {MAX_HEADERS} bytes allowed; use the body");
        return Err(Refusal::new("headers", why));
    }
    let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::with_capacity(payload.headers.len());
    let mut secrets = Vec::new();
    for (name, content) in &payload.headers {
        let field = || format!("headers.{name}");
        let name = read_name(name)?;
        if headers.iter().any(|(other, _)| *other == name) {
            return Err(Refusal::new(field(), "given twice; header names do not depend on case"));
        }
        let text = match content {
            HttpHeader::Text(text) => text,
            HttpHeader::Secret(secret) => {
                let reference =
                    Reference::parse(&secret.secret).map_err(|why| Refusal::new(field() + ".secret", why))?;
                secrets.push(Secret { header: headers.len(), field: field(), reference });
                &secret.prefix
            }
        };
        let value = header_value(text.as_bytes())
            .ok_or_else(|| Refusal::new(field(), format!("its value holds {UNSENDABLE}; encode it")))?;
        headers.push((name, value));
    }
    fit(&headers).map_err(|why| Refusal::new("headers", why + "; use the body"))?;
    let field = body_field(&payload)?;
    if let Some(field) = field
        && (method == Method::GET || method == Method::HEAD)
    {
        // It has no meaning there (RFC 9110, 9.3.1), and some proxies drop it on the way: better no
        // start than one that lost its content.
        return Err(Refusal::new(field, format!("a {method} has no body; use POST")));
    }
    if payload.json.is_some() && !headers.iter().any(|(name, _)| *name == header::CONTENT_TYPE) {
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    }
    let trust_retry_after = payload.trust_retry_after;
    let body = read_body(payload)?;
    Ok(Prepared { method, headers, secrets, body, trust_retry_after })
}

fn read_url(text: &str) -> Result<Url, Refusal> {
    let refuse = |message: &str| Err(Refusal::new("url", message));
    if text.len() > MAX_URL {
        return refuse(&format!("{} bytes are more than the {MAX_URL} allowed; use the body", text.len()));
    }
    // The parser forgives these, each in its own way; a target should be what everybody reads.
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
        return refuse("holds a space, a control character or a backslash; percent-encode it");
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return refuse("is not absolute; write it like https://example.com/path");
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return refuse("only http and https can be started");
    }
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if authority.is_empty() {
        return refuse("names no host; write it like https://example.com/path");
    }
    if authority.contains('@') {
        return refuse("holds a user or password; send them in an Authorization header");
    }
    let mut url = match Url::parse(text) {
        Ok(url) => url,
        Err(err) => return refuse(&format!("is not a URL: {err}")),
    };
    url.set_fragment(None);
    let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
        return refuse("names no host; write it like https://example.com/path");
    };
    if port == 0 {
        return refuse("port 0 is no port");
    }
    // The parser lets quotes and backquotes through, which stand for other things in a Host header.
    if url[Position::BeforeHost..Position::AfterPort].parse::<Authority>().is_err() {
        return refuse("its host holds a character that no name has");
    }
    let literal = match host {
        Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
        Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
        Host::Domain(_) => None,
    };
    if let Some(Err(why)) = literal.map(|ip| connect::admit(ip, None)) {
        return refuse(&why);
    }
    Ok(url)
}

fn target(url: &Url) -> Result<PathAndQuery, InvalidUri> {
    PathAndQuery::try_from(&url[Position::BeforePath..Position::AfterQuery])
}

fn read_method(text: &str) -> Result<Method, Refusal> {
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Refusal::new("method", "methods are written in upper case, like POST"));
    }
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => {
            Err(Refusal::new("method", "CONNECT and TRACE start nothing; use POST"))
        }
        Ok(method) if text.len() <= 32 => Ok(method),
        _ => Err(Refusal::new("method", "is not an HTTP method; use one like POST")),
    }
}

fn read_name(text: &str) -> Result<HeaderName, Refusal> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        return Err(Refusal::new("headers", format!("{text:?} is not a header name")));
    };
    let lower = name.as_str();
    if FORBIDDEN.contains(&lower) || FORBIDDEN_PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) {
        let message = "sendoff sets this header itself or not at all; leave it out";
        return Err(Refusal::new(format!("headers.{text}"), message));
    }
    Ok(name)
}

/// What [`header_value`] does not take. Receivers disagree on how to read bytes beyond ASCII.
const UNSENDABLE: &str = "a line break, a control character or one outside ASCII";

pub(super) fn header_value(bytes: &[u8]) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_bytes(bytes).ok().filter(|_| bytes.is_ascii())?;
    value.set_sensitive(true);
    Some(value)
}

fn fit(headers: &[(HeaderName, HeaderValue)]) -> Result<(), String> {
    let line = |(name, value): &(HeaderName, HeaderValue)| name.as_str().len() + value.len() + ": \r\n".len();
    let size: usize = headers.iter().map(line).sum();
    if size <= MAX_HEADERS {
        return Ok(());
    }
    Err(format!("{size} bytes of headers are more than the {MAX_HEADERS} allowed"))
}

/// The field that gives the body, if one does.
fn body_field(payload: &Http) -> Result<Option<&'static str>, Refusal> {
    let given = [
        ("body", payload.body.is_some()),
        ("json", payload.json.is_some()),
        ("body_base64", payload.body_base64.is_some()),
    ];
    let mut given = given.into_iter().filter_map(|(field, given)| given.then_some(field));
    let first = given.next();
    match (first, given.next()) {
        (Some(first), Some(second)) => {
            Err(Refusal::new(second, format!("there is a `{first}` already; give one of them")))
        }
        _ => Ok(first),
    }
}

fn read_body(payload: Http) -> Result<Vec<u8>, Refusal> {
    if let Some(text) = payload.body {
        return Ok(text.into_bytes());
    }
    if let Some(json) = payload.json {
        return Ok(String::from(Box::<str>::from(json)).into_bytes());
    }
    let Some(base64) = payload.body_base64 else { return Ok(Vec::new()) };
    BASE64_STANDARD
        .decode(base64)
        .map_err(|err| Refusal::new("body_base64", format!("is not base64 with padding: {err}")))
}

impl Place {
    /// Checks a URL.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        let url = read_url(text)?;
        match target(&url) {
            Ok(target) => Ok(Self { url, target }),
            Err(_) => Err(Refusal::new(
                "url",
                "its path or query holds a character that HTTP does not allow; percent-encode it",
            )),
        }
    }

    /// Scheme, host and port: what a connection can be reused for.
    pub(super) fn origin(&self) -> &str {
        &self.url[..Position::BeforePath]
    }

    /// Where it goes.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Refusal> {
        let refused = || Refusal::new("url", "its host is no name that a certificate could hold");
        let url = &self.url;
        let (host, port) = (url.host().ok_or_else(refused)?, url.port_or_known_default().unwrap_or(0));
        let tls = match host {
            _ if url.scheme() != "https" => None,
            Host::Domain(name) => Some(ServerName::try_from(name.to_owned()).map_err(|_| refused())?),
            Host::Ipv4(ip) => Some(ServerName::from(IpAddr::from(ip))),
            Host::Ipv6(ip) => Some(ServerName::from(IpAddr::from(ip))),
        };
        let host_header = HeaderValue::from_str(&url[Position::BeforeHost..Position::AfterPort]);
        Ok(Endpoint {
            destination: format!("{host}:{port}"),
            host: host.to_owned(),
            port,
            tls,
            host_header: host_header.map_err(|_| refused())?,
        })
    }
}

impl Prepared {
    /// Refuses secrets that the job may not name.
    pub(super) fn admit(&self, bounds: &Bounds<'_>) -> Result<(), Refusal> {
        for Secret { field, reference, .. } in &self.secrets {
            reference.admit(bounds).map_err(|why| Refusal::new(format!("{field}.secret"), why))?;
        }
        Ok(())
    }

    pub(super) fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// Looks up its secrets.
    pub(super) async fn reveal(&mut self, bounds: Option<&Bounds<'_>>) -> Result<(), StartError> {
        for Secret { header, field, reference } in self.secrets.drain(..) {
            let at = |mut err: StartError| {
                err.message.insert_str(0, &format!("{field}: "));
                err
            };
            let read = reference.read(bounds).await.map_err(at)?;
            let value = &mut self.headers[header].1;
            let whole = header_value(&[value.as_bytes(), &read].concat());
            *value = whole.ok_or_else(|| {
                at(StartError::permanent(format!("the secret {reference} holds {UNSENDABLE}")))
            })?;
        }
        fit(&self.headers).map_err(|why| StartError::permanent(format!("headers: {why}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> Refusal {
        let payload = serde_json::value::RawValue::from_string(json.to_owned()).unwrap();
        Refusal::read(&payload).and_then(check).err().unwrap_or_else(|| panic!("accepted: {json}"))
    }

    fn check(payload: Http) -> Result<(Place, Prepared), Refusal> {
        Ok((Place::read(&payload.url)?, prepare(payload)?))
    }

    fn accepted(payload: Http) -> (Place, Prepared) {
        check(payload).unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
    }

    #[test]
    fn urls_that_can_never_start_are_refused() {
        for (url, words) in [
            ("", "not absolute"),
            ("/path", "not absolute"),
            ("example.com", "not absolute"),
            ("ftp://example.com/", "only http and https"),
            ("file:///etc/passwd", "only http and https"),
            ("http://", "names no host"),
            ("http:///path", "names no host"),
            ("http://:80/", "is not a URL"),
            ("http://user:pw@example.com/", "Authorization header"),
            ("http://@example.com/", "Authorization header"),
            ("http://example.com:0/", "port 0"),
            ("http://example.com:99999/", "invalid port"),
            ("http://exa mple.com/", "a space"),
            ("http://example.com/a\r\nb: c", "a space"),
            ("http://example.com\\@evil.example/", "backslash"),
            ("http://[::1/", "is not a URL"),
            ("http://a\"b/", "no name has"),
            ("http://a`b/", "no name has"),
            ("http://0.0.0.0/", "no address"),
            ("http://[::]/", "no address"),
            ("http://224.0.0.1/", "multicast"),
        ] {
            let refusal = refused(&serde_json::json!({ "url": url }).to_string());
            assert_eq!(refusal.field, "url", "{url}");
            assert!(refusal.message.contains(words), "{url}: {}", refusal.message);
            assert!(!refusal.message.contains("pw"), "{}", refusal.message);
        }
        let long = format!("http://example.com/{}", "x".repeat(MAX_URL));
        assert!(refused(&serde_json::json!({ "url": long }).to_string()).message.contains("more than"));
    }

    #[test]
    fn destinations_are_lower_case_with_their_port() {
        for (url, origin, destination) in [
            ("HTTP://Example.COM/A?b#c", "http://example.com", "example.com:80"),
            ("https://example.com:443", "https://example.com", "example.com:443"),
            ("http://[0:0::1]:8080/", "http://[::1]:8080", "[::1]:8080"),
            ("http://127.1/", "http://127.0.0.1", "127.0.0.1:80"),
        ] {
            let (place, _) = accepted(Http::post(url));
            assert_eq!(
                (place.origin(), place.endpoint().unwrap().destination.as_str()),
                (origin, destination)
            );
        }
        assert_eq!(accepted(Http::post("http://e.com/a%20b?c={d}`|é#f")).0.target, "/a%20b?c={d}`|%C3%A9");
        assert_eq!(accepted(Http::post("http://e.com")).0.target, "/");
    }

    #[test]
    fn refusals_name_the_field() {
        let url = r#""url":"http://example.com/""#;
        for (rest, field, words) in [
            (r#""method":"post""#, "method", "upper case"),
            (r#""method":"CONNECT""#, "method", "start nothing"),
            (r#""method":"TRACE""#, "method", "start nothing"),
            (r#""method":"A B""#, "method", "not an HTTP method"),
            (r#""method":"""#, "method", "not an HTTP method"),
            (r#""headers":{"a b":"c"}"#, "headers", "not a header name"),
            (r#""headers":{"":"c"}"#, "headers", "not a header name"),
            (r#""headers":{"x-a":"b\r\nc: d"}"#, "headers.x-a", "line break"),
            (r#""headers":{"x-a":"b\u0000"}"#, "headers.x-a", "control character"),
            (r#""headers":{"x-a":"é"}"#, "headers.x-a", "outside ASCII"),
            (r#""headers":{"x-a":"1","X-A":"2"}"#, "headers.x-a", "given twice"),
            (r#""headers":{"x-a":"1","x-a":"2"}"#, "headers", "given twice"),
            (r#""headers":{"x-a":7}"#, "headers.x-a", "expected a string"),
            (r#""body":"a","json":1"#, "json", "there is a `body` already"),
            (r#""json":null,"body_base64":"""#, "body_base64", "there is a `json` already"),
            (r#""body_base64":"a""#, "body_base64", "not base64"),
            (r#""method":"GET","body":"""#, "body", "a GET has no body"),
            (r#""method":"HEAD","json":{}"#, "json", "a HEAD has no body"),
            (r#""metod":"GET""#, "metod", "unknown field `metod`"),
        ] {
            let refusal = refused(&format!("{{{url},{rest}}}"));
            assert_eq!(refusal.field, field, "{rest}: {}", refusal.message);
            assert!(refusal.message.contains(words), "{rest}: {}", refusal.message);
        }
        assert!(refused("{}").message.contains("missing field `url`"));
    }

    #[test]
    fn headers_that_frame_the_message_or_are_promised_are_refused() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "TE",
            "Trailer",
            "Expect",
            "Proxy-Authorization",
            "X-Sendoff-Guid",
            "x-sendoff-anything",
            "Idempotency-Key",
        ] {
            let refusal = prepare(Http::post("http://example.com/").header(name, "1")).err().unwrap();
            assert_eq!(refusal.field, format!("headers.{name}"));
        }
        let many = (0..40).fold(Http::post("http://example.com/"), |payload, n| {
            payload.header(format!("x-{n}"), "y".repeat(1_000))
        });
        assert!(prepare(many).err().unwrap().message.contains("more than the 32768 allowed"));
        let countless = (0..100_000)
            .fold(Http::post("http://example.com/"), |payload, n| payload.header(format!("x{n}"), ""));
        assert!(prepare(countless).err().unwrap().message.contains("100000 headers are more"));
    }

    #[test]
    fn what_the_builder_makes_reads_back() {
        let payload = Http::post("http://example.com/").header("x-a", "b").bytes(b"\x00\xff");
        let json = serde_json::to_string(&payload).unwrap();
        assert_eq!(json, r#"{"url":"http://example.com/","headers":{"x-a":"b"},"body_base64":"AP8="}"#);
        let read: Http = serde_json::from_str(&json).unwrap();
        assert_eq!(accepted(read).1.body, &b"\x00\xff"[..]);
        let null = Http::post("http://example.com/").json(&()).unwrap();
        let read: Http = serde_json::from_str(&serde_json::to_string(&null).unwrap()).unwrap();
        assert_eq!(accepted(read).1.body, b"null");
    }
}
