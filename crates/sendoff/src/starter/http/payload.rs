//! What an HTTP start is asked to send.

use std::{collections::BTreeMap, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::header::HttpHeader;
use crate::{
    error::{Error, Result},
    job::Payload,
};

/// A request that starts something: `{"http": {"url": "https://example.com/hook", "json": {…}}}`.
///
/// The target is *started* once it answers with a 2xx status; the answer's body is thrown away.
/// Beside what is given here it gets `Idempotency-Key` and `X-Sendoff-Guid` (the job's guid, the
/// same for each attempt), `X-Sendoff-Queue`, `X-Sendoff-Attempt` (from 1) and
/// `X-Sendoff-Due-At`.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("anyOf" = [
        {"properties": {"body": {"type": "null"}, "body_base64": {"type": "null"}, "json": false}},
        {
            "properties": {"method": {"not": {"enum": ["GET", "HEAD"]}}},
            "oneOf": [
                {"required": ["body"], "properties": {"body": {"type": "string"}}},
                {"required": ["body_base64"], "properties": {"body_base64": {"type": "string"}}},
                {"required": ["json"]},
            ],
        },
    ]))
)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Absolute, `http` or `https`, at most 8 KiB, without user and password. A fragment is not
    /// sent.
    #[cfg_attr(feature = "schema", schemars(length(max = 8_192), regex(pattern = "^https?://.")))]
    pub url: String,
    /// The method, in upper case. Default `POST`.
    #[serde(default = "post", skip_serializing_if = "is_post")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[A-Z]{1,32}$"), extend("not" = {"enum": ["CONNECT", "TRACE"]})))]
    pub method: String,
    /// Further headers, at most 32 KiB: a text, or a reference to a secret like
    /// `{"secret": "env:TOKEN", "prefix": "Bearer "}`. Those that frame the message and those that
    /// sendoff itself promises cannot be given.
    #[serde(default, deserialize_with = "unique", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HttpHeader>,
    /// The body as text; excludes `json` and `body_base64`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body as JSON, sent byte for byte as given, with `Content-Type: application/json` unless
    /// `headers` say otherwise; excludes `body` and `body_base64`.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<serde_json::Value>"))]
    pub json: Option<Box<RawValue>>,
    /// The body as bytes, in base64 with padding; excludes `body` and `json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Under at_most_once: believe a 429 or 503 with `Retry-After` that nothing was started, and
    /// try again. Without it such an answer leaves the job `unknown`. at_least_once tries again
    /// either way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trust_retry_after: bool,
}

impl Http {
    /// A POST to `url` without a body.
    pub fn post(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: post(),
            headers: BTreeMap::new(),
            body: None,
            json: None,
            body_base64: None,
            trust_retry_after: false,
        }
    }

    /// A GET of `url`.
    pub fn get(url: impl Into<String>) -> Self {
        Self::post(url).method("GET")
    }

    /// With this method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// With this header, instead of an earlier one of the same name: a text, or an
    /// [`HttpSecret`](super::HttpSecret).
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<HttpHeader>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// With this text as the body. No `Content-Type` is sent unless given as a header.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        (self.body, self.json, self.body_base64) = (Some(body.into()), None, None);
        self
    }

    /// With these bytes as the body. No `Content-Type` is sent unless given as a header.
    #[must_use]
    pub fn bytes(mut self, body: impl AsRef<[u8]>) -> Self {
        (self.body, self.json, self.body_base64) = (None, None, Some(BASE64_STANDARD.encode(body)));
        self
    }

    /// With `value` as a JSON body.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if `value` has no JSON form.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Result<Self> {
        let json = serde_json::value::to_raw_value(value)
            .map_err(|err| Error::invalid(format!("json: the value has no JSON form: {err}")))?;
        (self.body, self.json, self.body_base64) = (None, Some(json), None);
        Ok(self)
    }

    /// Sets [`trust_retry_after`](Self::trust_retry_after).
    #[must_use]
    pub fn trust_retry_after(mut self, trust: bool) -> Self {
        self.trust_retry_after = trust;
        self
    }
}

impl Payload for Http {
    const STARTER: &'static str = "http";
}

impl fmt::Debug for Http {
    /// Leaves out all but the method: URL, headers and body may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("method", &self.method).finish_non_exhaustive()
    }
}

fn post() -> String {
    "POST".to_owned()
}

fn is_post(method: &str) -> bool {
    method == "POST"
}

/// A body of `null` is one, too.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

/// Refuses what a map would silently swallow: a second value for the same header.
fn unique<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, HttpHeader>, D::Error> {
    struct Unique;

    impl<'de> Visitor<'de> for Unique {
        type Value = BTreeMap<String, HttpHeader>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of header names and values, like {\"x-a\": \"b\"}")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
            let mut headers = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                if headers.contains_key(&name) {
                    return Err(de::Error::custom(format!("header {name:?} is given twice")));
                }
                headers.insert(name, map.next_value()?);
            }
            Ok(headers)
        }
    }

    deserializer.deserialize_map(Unique)
}
