//! What a key may hold, read from TOML or from words. A value is held in its JSON form.

use std::net::SocketAddr;

use ipnet::IpNet;
use sendoff::time::Span;
use serde_json::Value;
use toml::{Spanned, de::DeValue};
use tracing_subscriber::EnvFilter;
use url::Url;

/// A type, with its form in words.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Text,
    Path,
    /// A path, or the URL of a database. Not shown where it is wrong.
    Store,
    /// A queue's name.
    Queue,
    /// A path that means the same from everywhere.
    Absolute,
    Switch,
    Count {
        least: u64,
    },
    Time,
    /// A time that is not zero.
    Wait,
    Filter,
    OneOf(&'static [&'static str]),
    Address,
    Network,
    Host,
    Origin,
    Secret,
    List(&'static Kind),
}

impl Kind {
    /// What is expected, with an example.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text => "a text".into(),
            Self::Path => "a path, in quotes".into(),
            Self::Store => "a path or a postgres:// URL, in quotes".into(),
            Self::Queue => "a queue's name of 1 to 100 letters, digits, _, -, : or .".into(),
            Self::Absolute => "an absolute path, in quotes".into(),
            Self::Switch => "true or false".into(),
            Self::Count { least } => format!("a whole number, at least {least}"),
            Self::Time => r#"a duration like "90s" or "7d""#.into(),
            Self::Wait => r#"a duration above zero, like "10s""#.into(),
            Self::Filter => r#"a filter like "info" or "sendoff=debug""#.into(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Address => r#"an address and port like "127.0.0.1:8222""#.into(),
            Self::Network => r#"a network like "10.0.0.0/8""#.into(),
            Self::Host => r#"a host name without port, like "sendoff.example.com""#.into(),
            Self::Origin => r#"an origin like "https://ops.example.com""#.into(),
            Self::Secret => r#""env:NAME", "file:/path" or "file:/directory/""#.into(),
            Self::List(item) => format!("a list, each of it {}", item.expected()),
        }
    }

    pub(crate) fn is_list(self) -> bool {
        matches!(self, Self::List(_))
    }

    /// Reads words, of one item if this is a list.
    pub(crate) fn read(self, text: &str) -> Result<Value, String> {
        let good = match self {
            Self::List(item) => return item.read(text),
            Self::Switch => return text.parse::<bool>().map(Value::from).map_err(|_| self.wrong(text)),
            Self::Count { least } => {
                let number = text.parse::<u64>().ok().filter(|number| *number >= least && *number < 1 << 40);
                return number.map(Value::from).ok_or_else(|| self.wrong(text));
            }
            Self::Text | Self::Path | Self::Store => !text.is_empty() && !text.contains('\0'),
            Self::Queue => is_queue(text),
            Self::Absolute => text.starts_with('/') && !text.contains('\0'),
            Self::Time => text.parse::<Span>().is_ok(),
            Self::Wait => text.parse::<Span>().is_ok_and(|span| !span.duration().is_zero()),
            Self::Filter => EnvFilter::try_new(text).is_ok(),
            Self::OneOf(words) => words.contains(&text),
            Self::Address => text.parse::<SocketAddr>().is_ok(),
            Self::Network => text.parse::<IpNet>().is_ok(),
            Self::Host => url::Host::parse(text).is_ok_and(|host| host.to_string() == text),
            Self::Origin => Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text),
            Self::Secret => {
                let env = text.strip_prefix("env:").is_some_and(|name| !name.is_empty());
                env || text.strip_prefix("file:").is_some_and(|path| path.starts_with('/'))
            }
        };
        if good { Ok(text.into()) } else { Err(self.wrong(text)) }
    }

    /// Reads a value of the file, or says at which byte it is wrong.
    pub(crate) fn read_toml(self, value: &Spanned<DeValue<'_>>) -> Result<Value, (usize, String)> {
        let at = value.span().start;
        let read = match (self, value.get_ref()) {
            (Self::List(item), DeValue::Array(items)) => {
                return items.iter().map(|value| item.read_toml(value)).collect();
            }
            (Self::Switch, DeValue::Boolean(switch)) => return Ok((*switch).into()),
            (Self::Count { .. }, DeValue::Integer(number)) if number.radix() == 10 => {
                self.read(&number.as_str().replace('_', ""))
            }
            (Self::List(_) | Self::Switch | Self::Count { .. }, other) => Err(self.not(other.type_str())),
            (_, DeValue::String(text)) => self.read(text),
            (_, other) => Err(self.not(other.type_str())),
        };
        read.map_err(|why| (at, why))
    }

    fn wrong(self, text: &str) -> String {
        self.not(&format!("{text:?}"))
    }

    fn not(self, found: &str) -> String {
        format!("expected {}, found {found}", self.expected())
    }
}

fn is_queue(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ':' | '.');
    (1..=100).contains(&name.len()) && !name.starts_with('.') && name.chars().all(fits)
}
