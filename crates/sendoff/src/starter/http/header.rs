//! A header's value: given, or a secret that is only named.

use std::{fmt, path::Path};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// A header's value in a job.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum HttpHeader {
    /// As it is sent. It is stored with the job.
    Text(String),
    /// Looked up at each attempt, and neither stored nor shown.
    Secret(HttpSecret),
}

/// A reference to a secret: `{"secret": "env:TOKEN", "prefix": "Bearer "}`.
///
/// A variable is one of sendoff's own environment. A file is a regular one of at most 64 KiB; one
/// line break at its end is cut, and symbolic links are followed. A secret that is missing, empty or
/// unreadable leaves the start to be tried again; one that no header can carry ends the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HttpSecret {
    /// `env:NAME` or `file:/ABSOLUTE/PATH`.
    pub secret: String,
    /// What stands before the secret in the header.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

impl HttpSecret {
    /// The secret in a variable of sendoff's environment.
    pub fn env(name: impl fmt::Display) -> Self {
        Self { secret: format!("env:{name}"), prefix: String::new() }
    }

    /// The secret in the file at this absolute path.
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self { secret: format!("file:{}", path.as_ref().display()), prefix: String::new() }
    }

    /// With this before it, like `Bearer `.
    #[must_use]
    pub fn prefix(mut self, text: impl Into<String>) -> Self {
        self.prefix = text.into();
        self
    }
}

impl From<HttpSecret> for HttpHeader {
    fn from(secret: HttpSecret) -> Self {
        Self::Secret(secret)
    }
}

impl<T: Into<String>> From<T> for HttpHeader {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl fmt::Debug for HttpHeader {
    /// Leaves a text out: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Text"),
            Self::Secret(secret) => secret.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for HttpHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = HttpHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object like {\"secret\": \"env:NAME\"}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HttpHeader, E> {
                Ok(text.into())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<HttpHeader, E> {
                Ok(text.into())
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<HttpHeader, M::Error> {
                HttpSecret::deserialize(MapAccessDeserializer::new(map)).map(HttpHeader::Secret)
            }
        }

        deserializer.deserialize_any(Either)
    }
}
