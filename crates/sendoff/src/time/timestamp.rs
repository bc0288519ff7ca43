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
    /// By hand: each start writes one, and a calendar that knows zones takes ten times as long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let mut write = |end: usize, digits: usize, mut value: i64| {
            for place in text[end - digits..end].iter_mut().rev() {
                *place = b"0123456789"[(value % 10) as usize];
                value /= 10;
            }
        };
        let (seconds, micros) = (self.as_micros() / 1_000_000, self.as_micros() % 1_000_000);
        let (year, month, day) = civil(seconds / 86_400);
        write(4, 4, year);
        write(7, 2, month);
        write(10, 2, day);
        write(13, 2, seconds / 3_600 % 24);
        write(16, 2, seconds / 60 % 60);
        write(19, 2, seconds % 60);
        write(26, 6, micros);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Year, month and day of a day after 1970-01-01, in the Gregorian calendar. Years are counted from
/// March, so that a leap day is the last of its year (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
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
        // What is finer than a microsecond is cut off, and before 1970 that would lead into it.
        let micros = instant.as_nanosecond().div_euclid(1_000);
        i64::try_from(micros)
            .ok()
            .and_then(Self::from_micros)
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
    fn every_day_is_shown_as_the_calendar_has_it() {
        for day in 0..Timestamp::MAX.as_micros() / 86_400_000_000 {
            let at = Timestamp::from_micros(day * 86_400_000_000 + day * 7_919_123 % 86_400_000_000).unwrap();
            let calendar = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap();
            assert_eq!(at.to_string(), format!("{calendar:.6}"));
        }
    }

    #[test]
    fn bounds_are_1970_and_9999() {
        for bad in [
            "1969-12-31T23:59:59Z",
            "1969-12-31T23:59:59.9999999Z",
            "tomorrow",
            "",
            "-009999-01-01T00:00:00Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        assert_eq!("9999-12-30T21:00:00Z".parse::<Timestamp>().unwrap().checked_add(Duration::MAX), None);
        assert_eq!(Timestamp::MAX.saturating_add(Duration::from_micros(1)), Timestamp::MAX);
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00.000000Z");
        assert_eq!(size_of::<Option<Timestamp>>(), 8);
    }
}
