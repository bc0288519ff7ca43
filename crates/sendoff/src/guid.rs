//! The name of a job.

use std::{fmt, str::FromStr, sync::Mutex};

use serde::{Deserialize, Serialize};
use uuid::{ContextV7, Uuid};

use crate::{
    error::{Error, Result},
    time::Timestamp,
};

/// A job's globally unique name: a UUID of any version.
///
/// sendoff's own are of version 7, so they sort by the time of submission within one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Guid(Uuid);

impl Guid {
    /// The guid with these 16 bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Its 16 bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The last hexadecimal digits of a guid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GuidSuffix {
    digits: u128,
    mask: u128,
}

impl GuidSuffix {
    /// Reads 1 to 32 lower-case hexadecimal digits, without hyphens.
    ///
    /// # Errors
    /// Invalid if the text is anything else.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let digits = u128::from_str_radix(text, 16).ok();
        match digits.filter(|_| text.bytes().all(digit) && text.len() <= 32) {
            Some(digits) => Ok(Self { digits, mask: u128::MAX >> (128 - 4 * text.len()) }),
            None => Err(Error::invalid(format!(
                "guid_suffix: {text:?} is not 1 to 32 hexadecimal digits in lower case, without hyphens"
            ))),
        }
    }

    /// Whether the guid ends so.
    pub(crate) const fn is_of(self, guid: &Guid) -> bool {
        u128::from_be_bytes(*guid.as_bytes()) & self.mask == self.digits
    }
}

/// Why a text is no [`Guid`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text:?} is not a guid: {source}")]
pub struct GuidError {
    text: String,
    source: uuid::Error,
}

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        text.parse().map(Self).map_err(|source| GuidError { text: text.to_owned(), source })
    }
}

/// Makes version 7 guids (RFC 9562), each greater than the one before.
#[derive(Debug)]
pub(crate) struct GuidSource(Mutex<ContextV7>);

impl GuidSource {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(ContextV7::new()))
    }

    pub(crate) fn next(&self, now: Timestamp) -> Guid {
        let micros = now.as_micros().unsigned_abs();
        let context = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let stamp = uuid::Timestamp::from_unix(
            &*context,
            micros / 1_000_000,
            u32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0),
        );
        Guid(Uuid::new_v7(stamp))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_is_the_last_digits_as_shown_without_hyphens() {
        let guid: Guid = "0190aaaa-bbbb-7ccc-8ddd-00000000beef".parse().unwrap();
        let shown = guid.to_string().replace('-', "");
        for length in 1..=32 {
            let suffix = &shown[32 - length..];
            assert!(GuidSuffix::parse(suffix).unwrap().is_of(&guid), "{suffix}");
            let other = format!("{}{}", if suffix.starts_with('1') { '2' } else { '1' }, &suffix[1..]);
            assert!(!GuidSuffix::parse(&other).unwrap().is_of(&guid), "{other}");
        }
        for refused in ["", "+f", "BEEF", "8ddd-0000", "xyz", "é", &"0".repeat(33)] {
            let err = GuidSuffix::parse(refused).unwrap_err();
            assert!(err.is_invalid() && err.to_string().contains("guid_suffix"), "{refused}: {err}");
        }
    }

    #[test]
    fn own_guids_ascend_also_when_the_clock_stands_or_steps_back() {
        let source = GuidSource::new();
        let late = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
        let early = Timestamp::from_micros(1_600_000_000_000_000).unwrap();
        let mut last = source.next(late);
        for now in std::iter::repeat_n(late, 1_000).chain(std::iter::repeat_n(early, 1_000)) {
            let next = source.next(now);
            assert!(next > last);
            last = next;
        }
    }
}
