//! Instants: microseconds since 1970-01-01T00:00:00Z, RFC 3339 outside.

use std::{fmt, num::NonZeroI64, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant in UTC with microsecond resolution, between 1970 and the end of 9999.
///
/// Arithmetic is checked or saturating at those bounds; it never wraps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroI64); // microseconds + 1, so that Option<Timestamp> takes 8 bytes

/// Why a text is no [`Timestamp`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TimestampError(String);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = at(0);
    /// 9999-12-30T22:00:00Z, the last instant that has a local time within the year 9999 in
    /// every zone.
    pub const MAX: Self = at(253_402_207_200_000_000);

    /// The instant so many microseconds after 1970, or `None` outside 1970 to 9999.
    pub const fn from_micros(micros: i64) -> Option<Self> {
        if micros < Self::MIN.as_micros() || micros > Self::MAX.as_micros() {
            return None;
        }
        Some(at(micros))
    }

    /// Microseconds since 1970.
    pub const fn as_micros(self) -> i64 {
        self.0.get() - 1
    }

    /// This instant plus `duration`, or `None` past 9999.
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let micros = i64::try_from(duration.as_micros()).ok()?;
        Self::from_micros(self.as_micros().checked_add(micros)?)
    }

    /// This instant plus `duration`, at most the end of 9999.
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self::MAX)
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.micros_since(earlier)).unwrap_or(0))
    }

    /// Microseconds from `earlier` to this instant; negative if `earlier` is later.
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.get() - earlier.0.get()
    }
}

const fn at(micros: i64) -> Timestamp {
    Timestamp(NonZeroI64::new(micros + 1).expect("not before 1970"))
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_microsecond(self.as_micros()).map_err(|_| fmt::Error)?;
        write!(f, "{instant:.6}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// Reads RFC 3339 (`2027-01-01T09:00:00Z`, with any offset), or a local time followed by an
    /// IANA zone (`2027-01-01T09:00[Europe/Paris]`). A local time that a zone skips is the first
    /// instant after the gap; one that it repeats is the first of the two.
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let instant = if text.ends_with(']') {
            text.parse::<jiff::Zoned>().map(|zoned| zoned.timestamp())
        } else {
            text.parse::<jiff::Timestamp>()
        };
        let instant = instant.map_err(|err| {
            TimestampError(format!(
                "{text:?} is not an instant: {err}; write it like 2027-01-01T09:00:00Z, \
                 2027-01-01T09:00:00+01:00 or 2027-01-01T09:00[Europe/Paris]"
            ))
        })?;
        Self::from_micros(instant.as_microsecond())
            .ok_or_else(|| TimestampError(format!("{text:?} is outside the years 1970 to 9999")))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_offsets_and_zones() {
        let utc: Timestamp = "2027-01-01T08:00:00Z".parse().unwrap();
        for same in ["2027-01-01T09:00:00+01:00", "2027-01-01T09:00[Europe/Paris]"] {
            assert_eq!(same.parse::<Timestamp>().unwrap(), utc, "{same}");
        }
        assert_eq!(utc.to_string(), "2027-01-01T08:00:00.000000Z");
    }

    #[test]
    fn a_skipped_local_time_is_the_first_instant_after_the_gap() {
        let gap: Timestamp = "2027-03-28T02:30[Europe/Paris]".parse().unwrap();
        assert_eq!(gap.to_string(), "2027-03-28T01:30:00.000000Z");
    }

    #[test]
    fn bounds_are_1970_and_9999() {
        for bad in ["1969-12-31T23:59:59Z", "tomorrow", "", "-009999-01-01T00:00:00Z"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        assert_eq!("9999-12-30T21:00:00Z".parse::<Timestamp>().unwrap().checked_add(Duration::MAX), None);
        assert_eq!(Timestamp::MAX.saturating_add(Duration::from_micros(1)), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.000000Z");
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }
}
