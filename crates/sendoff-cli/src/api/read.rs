//! Reading a request: its query, its headers, its body within limits.

use std::{borrow::Cow, sync::Arc};

use http::{HeaderMap, HeaderName, header};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Bytes};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Body, BodyError,
    problem::{
        BUSY, INVALID_BODY, INVALID_PARAMETER, INVALID_PATH, Problem, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
        nearest,
    },
};

/// The longest body of a call that is no submit, in bytes.
pub(crate) const SMALL: usize = 64 * 1024;

/// Bytes that bodies of batches may take at once, in all.
pub(crate) const ROOM: usize = 64 * 1024 * 1024;
const KIBIBYTE: usize = 1024;

/// What a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    NdJson,
}

/// A request's query: each parameter at most once, all of them known to the route.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Refuses what the route does not know.
    pub(crate) fn parse(
        query: Option<&str>,
        known: impl Iterator<Item = &'static str> + Clone,
    ) -> Result<Self, Problem> {
        let mut parsed: Vec<(String, String)> = Vec::new();
        for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = |raw: &str| decode(&raw.replace('+', " ")).map(Cow::into_owned);
            let (Some(name), Some(value)) = (text(name), text(value)) else {
                return Err(bad_parameter(pair, "it is not percent-encoded UTF-8"));
            };
            if !known.clone().any(|known| known == name) {
                let why = match nearest(&name, known.clone()) {
                    Some(near) => format!("there is no such parameter; did you mean `{near}`?"),
                    None => "there is no such parameter here".to_owned(),
                };
                return Err(bad_parameter(&name, &why));
            }
            if parsed.iter().any(|(other, _)| *other == name) {
                return Err(bad_parameter(&name, "it is given twice"));
            }
            parsed.push((name, value));
        }
        Ok(Self(parsed))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value as `read` understands it.
    pub(crate) fn read<T, E: std::fmt::Display>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        self.get(name)
            .map(|value| read(value).map_err(|err| bad_parameter(name, &err.to_string())))
            .transpose()
    }
}

/// A query parameter or header is wrong.
pub(crate) fn bad_parameter(name: &str, why: &str) -> Problem {
    INVALID_PARAMETER.says(format!("{name}: {why}")).with("parameter", name)
}

/// A variable part of the path.
pub(crate) fn path_part(raw: &str) -> Result<String, Problem> {
    decode(raw)
        .map(Cow::into_owned)
        .ok_or_else(|| INVALID_PATH.says("a part of the path is not percent-encoded UTF-8"))
}

/// The text behind percent-encoding; none if it is malformed, no UTF-8, or has a NUL.
fn decode(raw: &str) -> Option<Cow<'_, str>> {
    if !raw.contains('%') {
        return Some(Cow::Borrowed(raw));
    }
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            u8::try_from(digit()? * 16 + digit()?).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).map(Cow::Owned)
}

/// The one value of a header, as text.
pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad_parameter(name.as_str(), "it is given twice"));
    }
    let text = std::str::from_utf8(value.as_bytes());
    text.map(Some).map_err(|_| bad_parameter(name.as_str(), "it is not UTF-8"))
}

/// What the body is written in; without a Content-Type it is taken for JSON.
pub(crate) fn media(headers: &HeaderMap, ndjson: bool) -> Result<Media, Problem> {
    let wanted = if ndjson { "application/x-ndjson or application/json" } else { "application/json" };
    let refused = |why: String| UNSUPPORTED_MEDIA_TYPE.says(format!("{why}; send {wanted}"));
    if let Some(coding) = headers.get(header::CONTENT_ENCODING)
        && !coding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        return Err(refused(format!("Content-Encoding {coding:?} is not read")));
    }
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(Media::Json) };
    let text = given.to_str().unwrap_or("");
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let media = match essence.trim().to_ascii_lowercase().as_str() {
        "application/json" => Media::Json,
        "application/x-ndjson" if ndjson => Media::NdJson,
        _ => return Err(refused(format!("Content-Type {given:?} is not read here"))),
    };
    for parameter in parameters.split(';').map(str::trim).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if name.eq_ignore_ascii_case("charset") && !value.trim_matches('"').eq_ignore_ascii_case("utf-8") {
            return Err(refused(format!("the charset {value:?} is not read, only utf-8")));
        }
    }
    Ok(media)
}

/// The whole body, of at most `limit` bytes; one that says it is longer is not read at all.
pub(crate) async fn whole(body: Body, limit: usize) -> Result<Bytes, Problem> {
    // Nothing is set aside for a length that nobody said.
    let said = body.size_hint().exact().map_or(0, |_| longest(&body, limit));
    gather(body, limit, said).await
}

/// The whole body. If it comes in pieces, its buffer begins with `room`: one that is copied as it grows
/// holds the body twice, and what nobody writes to takes no memory yet.
async fn gather(mut body: Body, limit: usize, room: usize) -> Result<Bytes, Problem> {
    let too_large =
        || TOO_LARGE.says(format!("the body is longer than the {limit} bytes allowed")).with("limit", limit);
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if first.len() + all.len() + data.len() > limit {
            return Err(too_large());
        }
        // Most bodies come in one piece and need no copy.
        if first.is_empty() && all.is_empty() {
            first = data;
        } else {
            all.reserve_exact(room.saturating_sub(all.len()));
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// Bytes that come at most before this limit is passed.
fn longest(body: &Body, limit: usize) -> usize {
    let said = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    said.unwrap_or(limit).min(limit)
}

/// Room in memory for long bodies, of all callers together.
pub(crate) struct Room(Arc<Semaphore>);

impl Room {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(ROOM / KIBIBYTE)))
    }

    /// As [`whole`], with the room that the body takes until it is let go of. It is asked for before
    /// anything is read: who waited for more of it midway might wait for others that do the same.
    pub(crate) async fn whole(
        &self,
        body: Body,
        limit: usize,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
        let longest = longest(&body, limit);
        let kibibytes = longest.div_ceil(KIBIBYTE);
        let room = self.0.clone().try_acquire_many_owned(u32::try_from(kibibytes).unwrap_or(u32::MAX));
        let room = room.map_err(|_| {
            BUSY.says("there is no room for so many long bodies at once; try again, or send shorter ones")
        })?;
        Ok((gather(body, limit, longest).await?, room))
    }
}

/// The body as JSON of this type.
pub(crate) async fn json<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    media(headers, false)?;
    from_json(&whole(body, SMALL).await?)
}

/// As [`json`], or the default if the body is empty.
pub(crate) async fn json_or_none<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Body,
) -> Result<T, Problem> {
    let bytes = whole(body, SMALL).await?;
    if bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    media(headers, false)?;
    from_json(&bytes)
}

/// Refuses a body where none is read: what it says would be ignored.
pub(crate) async fn nothing(body: Body) -> Result<(), Problem> {
    let bytes = whole(body, SMALL).await?;
    match bytes.trim_ascii() {
        b"" | b"{}" => Ok(()),
        _ => Err(INVALID_BODY.says("this call reads no body; leave it out")),
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    if bytes.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
        return Err(INVALID_BODY.says("the body must be a JSON object"));
    }
    // No body that is read here has a list anywhere, and a derived reader would take one for an
    // object, field by field.
    if serde_json::from_slice(bytes).is_ok_and(|value| has_list(&value)) {
        return Err(INVALID_BODY.says("the body holds a list where an object or a text belongs"));
    }
    serde_json::from_slice(bytes).map_err(|err| Problem::of_field(&INVALID_BODY, &err.to_string()))
}

fn has_list(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(members) => members.values().any(has_list),
        _ => false,
    }
}

/// A body that broke off: as whoever carries it says, or as the client's doing.
pub(crate) fn broken(err: BodyError) -> Problem {
    match err.downcast::<Problem>() {
        Ok(problem) => *problem,
        Err(err) => INVALID_BODY.says(format!("the body broke off: {err}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_read_strictly() {
        assert_eq!(decode("a%2Fb%20%c3%a9").as_deref(), Some("a/b é"));
        for bad in ["%", "%2", "%zz", "%00", "%ff", "%c3%28", "%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_query_is_read_strictly() {
        let known = ["queue", "state"].into_iter();
        let query = Query::parse(Some("queue=a+b&state=%70ending"), known.clone()).unwrap();
        assert_eq!((query.get("queue"), query.get("state")), (Some("a b"), Some("pending")));
        for (bad, words) in [
            ("quue=1", "did you mean `queue`?"),
            ("queue=1&queue=2", "given twice"),
            ("queue=%ff", "percent-encoded"),
            ("other", "no such parameter"),
        ] {
            let problem = Query::parse(Some(bad), known.clone()).unwrap_err();
            assert!(problem.detail.contains(words), "{bad}: {problem}");
        }
    }
}
