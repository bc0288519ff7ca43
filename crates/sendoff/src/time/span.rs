//! Durations as people write them: `90s`, `1h30m`, `250ms`, `3d`.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{SpanRelativeTo, fmt::friendly::SpanParser};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

static PARSER: SpanParser = SpanParser::new();

/// What a database's integer can hold, in microseconds.
const LONGEST: u64 = i64::MAX.cast_unsigned();

/// A unit in microseconds.
fn unit(name: &str) -> Option<u64> {
    Some(match name {
        "w" => 604_800_000_000,
        "d" => 86_400_000_000,
        "h" => 3_600_000_000,
        "m" => 60_000_000,
        "s" => 1_000_000,
        "ms" => 1_000,
        "us" => 1,
        _ => return None,
    })
}

/// A non-negative duration with the text form of job files: units `us`, `ms`, `s`, `m`, `h`, `d`
/// (24 hours) and `w` (7 days), combined as in `1h30m`. Kept to the microsecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Span(Duration);

/// Why a text is no [`Span`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct SpanError(String);

impl Span {
    /// The duration itself.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Duration> for Span {
    /// Rounds up to whole microseconds, so that a delay is never shortened; but 292,271 years are the
    /// longest.
    fn from(duration: Duration) -> Self {
        let micros = duration.as_nanos().div_ceil(1_000);
        Self(Duration::from_micros(u64::try_from(micros).map_or(LONGEST, |micros| micros.min(LONGEST))))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.0.as_secs(), u64::from(self.0.subsec_micros()));
        if seconds == 0 && micros == 0 {
            return f.write_str("0s");
        }
        let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let parts =
            [(hours, "h"), (minutes, "m"), (seconds, "s"), (micros / 1_000, "ms"), (micros % 1_000, "us")];
        parts
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        if let Some(span) = plain(text) {
            return Ok(span);
        }
        let bad = |why: String| {
            SpanError(format!("{text:?} is not a duration: {why}; write it like 250ms, 90s, 1h30m or 3d"))
        };
        let span = PARSER.parse_span(text).map_err(|err| bad(err.to_string()))?;
        if span.get_years() != 0 || span.get_months() != 0 {
            return Err(bad("months and years differ in length, use days or an instant".into()));
        }
        let signed =
            span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|err| bad(err.to_string()))?;
        let duration = Duration::try_from(signed).map_err(|_| bad("it is negative".into()))?;
        Ok(duration.into())
    }
}

/// Whole numbers with units, larger units first: what is written here, and most of what others write,
/// without the parser for all forms, which also knows no more than some ten thousand years.
fn plain(text: &str) -> Option<Span> {
    let (mut micros, mut larger, mut rest) = (0_u64, u64::MAX, text);
    loop {
        let digits = rest.bytes().position(|byte| !byte.is_ascii_digit())?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.bytes().position(|byte| byte.is_ascii_digit()).unwrap_or(behind.len());
        let (name, behind) = behind.split_at(end);
        let unit = unit(name).filter(|unit| *unit < larger)?;
        micros = micros.checked_add(number.parse::<u64>().ok()?.checked_mul(unit)?)?;
        if behind.is_empty() {
            return (micros <= LONGEST).then_some(Span(Duration::from_micros(micros)));
        }
        (larger, rest) = (unit, behind);
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, millis) in
            [("250ms", 250), ("90s", 90_000), ("1h30m", 5_400_000), ("3d", 259_200_000), ("0s", 0)]
        {
            assert_eq!(text.parse::<Span>().unwrap().duration(), Duration::from_millis(millis), "{text}");
        }
    }

    #[test]
    fn refuses_what_has_no_one_meaning() {
        for text in ["", "5", "-3s", "1y", "1mo", "soon", "99999999999999999999s", "1s -2ms"] {
            let err = text.parse::<Span>().unwrap_err().to_string();
            assert!(err.contains("not a duration"), "{text}: {err}");
        }
    }

    #[test]
    fn microseconds_are_ascii() {
        assert_eq!(Span(Duration::from_micros(1_000_500)).to_string(), "1s500us");
        assert_eq!("500µs".parse::<Span>().unwrap(), "500us".parse().unwrap());
    }

    #[test]
    fn prints_hours_and_smaller_units() {
        for (micros, text) in [
            (0, "0s"),
            (1, "1us"),
            (250_000, "250ms"),
            (60_000_000, "1m"),
            (90_000_000, "1m30s"),
            (5_400_000_000, "1h30m"),
            (90_061_001_001, "25h1m1s1ms1us"),
        ] {
            assert_eq!(Span(Duration::from_micros(micros)).to_string(), text);
        }
    }

    #[test]
    fn what_it_prints_it_reads() {
        let longest = Span::from(Duration::MAX);
        let short =
            [0, 1, 250, 61_000, 5_400_000, 90_000_000].map(|millis| Span(Duration::from_millis(millis)));
        for span in [longest].into_iter().chain(short) {
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{span}");
        }
    }
}
