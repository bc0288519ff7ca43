//! What a caller submits.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use crate::{
    error::{Error, Result},
    guid::Guid,
    time::{Span, Timestamp},
};

/// A job to submit: what to start, when, and how careful to be. Its JSON form is one line of a job
/// file; a field left out takes its default when the job is accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend(
        "allOf" = [
            {"not": {
                "required": ["run_at", "delay"],
                "properties": {"run_at": {"type": "string"}, "delay": {"type": "string"}},
            }},
            {"not": {
                "required": ["expires_in", "expires_at"],
                "properties": {"expires_in": {"type": "string"}, "expires_at": {"type": "string"}},
            }},
        ],
        "examples" = [
            {"start": {"http": {"url": "https://example.com/start", "json": {"order": 17}}}},
            {
                "start": {"process": {"program": "/usr/bin/true"}},
                "queue": "reports",
                "delay": "1h30m",
                "idempotency_key": "report-2027-01",
                "labels": {"customer": "4711"},
            },
            {"start": {"simulated": {"delay": "1ms"}}, "delivery": "at_most_once", "expires_in": "1m"},
        ],
    ))
)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// The starter and what it is to start.
    pub start: Start,
    /// A guid of the caller's choosing; by default sendoff makes one (version 7).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guid: Option<Guid>,
    /// The queue, whose limits apply. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,99}$")))]
    pub queue: Option<String>,
    /// Start not before this instant; one that has passed means now. Excludes `delay`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at: Option<Timestamp>,
    /// Start not before this long after acceptance. Excludes `run_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// 0 to 9, higher first among the due jobs of a queue. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 9)))]
    pub priority: Option<u8>,
    /// What a crash or an ambiguous outcome leads to. The default is the starter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// How often and how soon a start that did not happen is tried again.
    #[serde(default, deserialize_with = "object", skip_serializing_if = "Retry::is_default")]
    pub retry: Retry,
    /// How long one attempt may take: more than 0 s and at most 24 h. Default 30 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Span>,
    /// The start must begin within this long after `run_at`. Excludes `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Span>,
    /// The start must begin before this instant. Excludes `expires_in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// A second submit with this key gets the first one's guid, as long as its record lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(regex(pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,255}$")))]
    pub idempotency_key: Option<String>,
    /// Free text for finding the job again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(extend(
            "maxProperties" = 64,
            "propertyNames" = {"pattern": "^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,99}$"},
            "additionalProperties" = {"type": "string", "maxLength": 1_024},
        ))
    )]
    pub labels: BTreeMap<String, String>,
}

/// A starter's name and the JSON that it reads: `{"http": {"url": …}}`.
#[derive(Clone)]
pub struct Start {
    /// The starter's registered name.
    pub starter: String,
    /// What it is to start, in its own format.
    pub payload: Box<RawValue>,
}

/// The typed form of a starter's payload.
pub trait Payload: Serialize {
    /// The name of the starter that reads it.
    const STARTER: &'static str;
}

/// Whether a start that may have happened is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Never: after a crash or an ambiguous outcome the job is `unknown`.
    AtMostOnce,
    /// Yes, and the record says so (`possible_duplicate`).
    AtLeastOnce,
}

/// How a start that did not happen is tried again: full-jitter exponential backoff.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, at least 1. The default is the starter's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1_000)))]
    pub max_attempts: Option<u32>,
    /// Upper bound of the first wait. Default 1 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_backoff: Option<Span>,
    /// Upper bound of any wait. Default 1 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<Span>,
}

impl Retry {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl JobSpec {
    /// The longest accepted request in bytes of JSON.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// A job that starts `payload`, now.
    ///
    /// # Panics
    /// If `payload` fails to serialise, which the payload types of this crate never do.
    pub fn new<P: Payload>(payload: &P) -> Self {
        let payload = serde_json::value::to_raw_value(payload).expect("a payload serialises");
        Self::raw(P::STARTER, payload)
    }

    /// A job for the starter of this name with the JSON that it reads.
    pub fn raw(starter: impl Into<String>, payload: Box<RawValue>) -> Self {
        Self {
            start: Start { starter: starter.into(), payload },
            guid: None,
            queue: None,
            run_at: None,
            delay: None,
            priority: None,
            delivery: None,
            retry: Retry::default(),
            start_timeout: None,
            expires_in: None,
            expires_at: None,
            idempotency_key: None,
            labels: BTreeMap::new(),
        }
    }

    /// Reads one job from JSON.
    ///
    /// # Errors
    /// [`Error::is_invalid`], naming the field and the column.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        if json.len() > Self::MAX_BYTES {
            return Err(Error::invalid(format!(
                "a job of {} bytes is longer than the {} allowed; put large data elsewhere and pass a reference",
                json.len(),
                Self::MAX_BYTES
            )));
        }
        let text = std::str::from_utf8(json)
            .map_err(|err| Error::invalid(format!("not UTF-8 after byte {}", err.valid_up_to())))?;
        // A derived reader would take an array for an object, field by field.
        if text.trim_ascii_start().starts_with('[') {
            return Err(Error::invalid("expected an object, one job a line, not an array"));
        }
        let mut reader = serde_json::Deserializer::from_str(text);
        let spec: Self = serde_path_to_error::deserialize(&mut reader).map_err(|err| {
            let path = err.path().to_string();
            let inner = err.into_inner();
            // One job is one line: say the column only.
            let text = inner.to_string();
            let words = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
            let place = if path == "." { String::new() } else { format!("{path}: ") };
            Error::invalid(format!("{place}{words} (column {})", inner.column()))
        })?;
        reader.end().map_err(|err| {
            Error::invalid(format!(
                "something follows the job at column {}; write one job a line",
                err.column()
            ))
        })?;
        Ok(spec)
    }

    /// Its JSON form.
    pub(crate) fn to_request(&self) -> serde_json::Result<String> {
        let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        match self {
            // Most jobs say nothing else: that takes no serializer.
            Self {
                start: Start { starter, payload },
                guid: None,
                queue: None,
                run_at: None,
                delay: None,
                priority: None,
                delivery: None,
                retry: Retry { max_attempts: None, min_backoff: None, max_backoff: None },
                start_timeout: None,
                expires_in: None,
                expires_at: None,
                idempotency_key: None,
                labels,
            } if labels.is_empty() && plain(starter) => {
                Ok(["{\"start\":{\"", starter, "\":", payload.get(), "}}"].concat())
            }
            _ => serde_json::to_string(self),
        }
    }

    /// Not before `delay` after acceptance.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = Some(delay.into());
        self
    }

    /// Not before `run_at`.
    #[must_use]
    pub fn run_at(mut self, run_at: Timestamp) -> Self {
        self.run_at = Some(run_at);
        self
    }

    /// Under this name.
    #[must_use]
    pub fn guid(mut self, guid: Guid) -> Self {
        self.guid = Some(guid);
        self
    }

    /// In this queue.
    #[must_use]
    pub fn queue(mut self, queue: impl Into<String>) -> Self {
        self.queue = Some(queue.into());
        self
    }

    /// With this priority, 0 to 9, higher first.
    #[must_use]
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// With this delivery.
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// With so many attempts at most.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.retry.max_attempts = Some(attempts);
        self
    }

    /// With waits between attempts bounded by `min` at first and `max` at last.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        self.retry.min_backoff = Some(min.into());
        self.retry.max_backoff = Some(max.into());
        self
    }

    /// With this long for one attempt.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout.into());
        self
    }

    /// To begin within this long after its `run_at`, or not at all.
    #[must_use]
    pub fn expires_in(mut self, span: Duration) -> Self {
        self.expires_in = Some(span.into());
        self
    }

    /// To begin before this instant, or not at all.
    #[must_use]
    pub fn expires_at(mut self, at: Timestamp) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Only once under this key.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// With this label.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }
}

/// A derived reader would take an array for an object, field by field.
fn object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Retry, D::Error> {
    struct Object;

    impl<'de> Visitor<'de> for Object {
        type Value = Retry;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object like {\"max_attempts\": 3}")
        }

        fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Retry, M::Error> {
            Retry::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object)
}

impl fmt::Debug for Start {
    /// Names the starter and the payload's length: a payload may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({} bytes)", self.starter, self.payload.get().len())
    }
}

impl Serialize for Start {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&self.starter, &self.payload)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneEntry;

        impl<'de> Visitor<'de> for OneEntry {
            type Value = Start;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with exactly one starter, like {\"simulated\": {\"delay\": \"1ms\"}}")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Start, M::Error> {
                let Some((starter, payload)) = map.next_entry::<String, Box<RawValue>>()? else {
                    return Err(de::Error::invalid_length(0, &self));
                };
                if let Some(second) = map.next_key::<String>()? {
                    return Err(de::Error::custom(format!(
                        "two starters, `{starter}` and `{second}`; write one job for each"
                    )));
                }
                Ok(Start { starter, payload })
            }
        }

        deserializer.deserialize_map(OneEntry)
    }
}

impl Delivery {
    /// The name used in JSON and in stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at_most_once",
            Self::AtLeastOnce => "at_least_once",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        JobSpec::from_json(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn reads_the_smallest_job_and_writes_it_back() {
        let json = r#"{"start":{"simulated":{"delay":"1ms"}}}"#;
        let spec = JobSpec::from_json(json.as_bytes()).unwrap();
        assert_eq!(spec.start.starter, "simulated");
        assert_eq!(serde_json::to_string(&spec).unwrap(), json);
    }

    #[test]
    fn a_request_is_what_a_serializer_writes() {
        let payload = |json: &str| RawValue::from_string(json.to_owned()).unwrap();
        let plain = JobSpec::raw("simulated", payload(r#"{"delay": "}}"}"#));
        let specs = [
            plain.clone().priority(3),
            plain.clone().max_attempts(1),
            plain.clone().label("a", "b"),
            plain.clone().queue("q").delay(Duration::ZERO),
            plain,
            JobSpec::raw("\"\\é", payload("17")),
            JobSpec::raw("", payload("null")),
        ];
        for spec in specs {
            assert_eq!(spec.to_request().unwrap(), serde_json::to_string(&spec).unwrap());
        }
    }

    #[test]
    fn refusals_name_the_field_and_the_column() {
        for (json, words) in [
            (r#"{"start":{"simulated":{}},"quue":"x"}"#, "unknown field `quue`"),
            (r#"{"start":{"simulated":{}},"delay":"soon"}"#, "delay: \"soon\" is not a duration"),
            (r#"{"start":{"simulated":{}},"priority":-1}"#, "priority: "),
            (r#"{"start":{"simulated":{}},"retry":{"max_attempts":99999999999}}"#, "retry.max_attempts: "),
            (
                r#"{"start":{"simulated":{}},"run_at":"1969-01-01T00:00:00Z"}"#,
                "outside the years 1970 to 9999",
            ),
            (r#"{"start":{"simulated":{}},"retry":[3]}"#, "retry: invalid type: sequence"),
            (r#"{"start":{"a":{},"b":{}}}"#, "two starters, `a` and `b`"),
            (r#"{"start":{}}"#, "exactly one starter"),
            (r#"{}"#, "missing field `start`"),
            (r#"{"start":{"a":{}}} {}"#, "something follows"),
            (r#"{"start":{"a":{}}"#, "EOF"),
            (r#"[{"start":{"a":{}}}]"#, "expected an object"),
        ] {
            let message = refused(json);
            assert!(message.contains(words), "{json}\n  {message}");
        }
        assert!(refused(r#"{"start":{"simulated":{}},"quue":"x"}"#).ends_with("(column 32)"));
        assert!(
            JobSpec::from_json(b"{\"start\xff").unwrap_err().to_string().contains("not UTF-8 after byte 7")
        );
    }
}
