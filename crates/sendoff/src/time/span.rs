//! Durations as people write them: `90s`, `1h30m`, `250ms`, `3d`.

use std::{fmt, str::FromStr, time::Duration};

use jiff::{
    SignedDuration, SpanRelativeTo,
    fmt::friendly::{Spacing, SpanParser, SpanPrinter},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

static PARSER: SpanParser = SpanParser::new();
static PRINTER: SpanPrinter = SpanPrinter::new().spacing(Spacing::None);

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
    /// Rounds up to whole microseconds, so that a delay is never shortened.
    fn from(duration: Duration) -> Self {
        let micros = duration.as_nanos().div_ceil(1_000);
        Self(u64::try_from(micros).map_or(Duration::MAX, Duration::from_micros))
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = SignedDuration::try_from(self.0).unwrap_or(SignedDuration::MAX);
        // The printer writes µs, which not everybody can type or reads.
        f.write_str(&PRINTER.duration_to_string(&signed).replace('µ', "u"))
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
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

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
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
    fn what_it_prints_it_reads() {
        for millis in [0, 1, 250, 61_000, 5_400_000, 90_000_000] {
            let span = Span(Duration::from_millis(millis));
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{span}");
        }
    }
}
