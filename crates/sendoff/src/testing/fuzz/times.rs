//! Instants and durations, held against a reading of their own.

use std::time::Duration;

use crate::time::{Span, Timestamp};

/// A text as an instant; numbers as instants.
pub(super) fn instant(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        written(text);
    }
    let number =
        |at: usize| data.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    if let Some(micros) = number(0) {
        numbered(micros, number(8).unwrap_or_default().cast_unsigned());
    }
}

fn written(text: &str) {
    let read = text.parse::<Timestamp>();
    match &read {
        Ok(at) => same_again(*at),
        Err(err) => assert!(err.to_string().contains(&format!("{text:?}")), "{err}"),
    }
    let Some(micros) = plain(text) else { return };
    let expected = i64::try_from(micros).ok().and_then(Timestamp::from_micros);
    assert_eq!(read.as_ref().ok().copied(), expected, "{text:?}: {read:?}");
}

/// What is written is read as the same, as text and as JSON.
fn same_again(at: Timestamp) {
    let text = at.to_string();
    assert_eq!(text.parse::<Timestamp>().expect(&text), at);
    assert_eq!(plain(&text), Some(at.as_micros().into()), "{text}");
    let json = serde_json::to_string(&at).expect("a text");
    assert_eq!(serde_json::from_str::<Timestamp>(&json).expect(&json), at);
}

fn numbered(micros: i64, nanos: u64) {
    let (min, max) = (Timestamp::MIN.as_micros(), Timestamp::MAX.as_micros());
    let Some(at) = Timestamp::from_micros(micros) else {
        assert!(micros < min || micros > max);
        return;
    };
    assert!(at.as_micros() == micros && (min..=max).contains(&micros));
    same_again(at);
    let duration = Duration::from_nanos(nanos);
    let sum = i128::from(micros) + i128::from(nanos / 1_000);
    let expected = i64::try_from(sum).ok().and_then(Timestamp::from_micros);
    assert_eq!(at.checked_add(duration), expected);
    let sum = at.saturating_add(duration);
    assert_eq!(sum, expected.unwrap_or(Timestamp::MAX));
    assert_eq!(at.saturating_since(sum), Duration::ZERO);
    assert_eq!(sum.saturating_since(at).as_micros(), (sum.as_micros() - micros).unsigned_abs().into());
}

/// Microseconds since 1970 of the plainest form of RFC 3339, by counting years and months. `None`
/// for any other form, and for leap seconds, of which nobody says what they are.
fn plain(text: &str) -> Option<i128> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<i128> {
        let digits = bytes.get(from..to)?;
        digits.iter().all(u8::is_ascii_digit).then(|| text[from..to].parse().ok())?
    };
    let separated = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separated.iter().any(|&(at, separator)| bytes.get(at) != Some(&separator)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let rest = &text[19..];
    let fraction =
        rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, zone) = match fraction {
        0 if rest.starts_with('.') => return None,
        0 => (0, rest),
        1..=9 => {
            let nanos = format!("{:0<9}", &rest[1..=fraction]);
            (nanos.parse::<i128>().ok()?, &rest[1 + fraction..])
        }
        _ => return None,
    };
    let offset = match zone.as_bytes() {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let digits = [h1, h2, m1, m2];
            if digits.iter().any(|digit| !digit.is_ascii_digit()) {
                return None;
            }
            let [h1, h2, m1, m2] = digits.map(|digit| i128::from(digit - b'0'));
            let (hours, minutes) = (h1 * 10 + h2, m1 * 10 + m2);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -60 } else { 60 }
        }
        _ => return None,
    };
    let leap = |year: i128| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = lengths.get(..usize::try_from(month - 1).ok()?)?;
    let length = *lengths.get(before.len())?;
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let years: i128 = if year >= 1970 {
        (1970..year).map(|year| 365 + i128::from(leap(year))).sum()
    } else {
        -(year..1970).map(|year| 365 + i128::from(leap(year))).sum::<i128>()
    };
    let days = years + before.iter().sum::<i128>() + day - 1;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second - offset;
    Some((seconds * 1_000_000_000 + fraction).div_euclid(1_000))
}

/// A text as a duration; a number of nanoseconds as one.
pub(super) fn span(data: &[u8]) {
    if let Some(bytes) = data.first_chunk() {
        let nanos = u64::from_le_bytes(*bytes);
        let span = Span::from(Duration::from_nanos(nanos));
        assert_eq!(span.duration().as_micros(), u128::from(nanos).div_ceil(1_000), "never shortened");
        span_again(span);
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = text.parse::<Span>();
    match &read {
        Ok(span) => {
            assert_eq!(span.duration().subsec_nanos() % 1_000, 0, "{text:?}");
            span_again(*span);
        }
        Err(err) => assert!(err.to_string().starts_with(&format!("{text:?} is not a duration: ")), "{err}"),
    }
    match sum(text) {
        Some((micros, readable)) => match &read {
            Ok(span) => assert_eq!(span.duration().as_micros(), micros, "{text:?}"),
            Err(err) => assert!(!readable, "{err}"),
        },
        // A number that nobody gave a unit means nothing.
        None if text.bytes().all(|byte| byte.is_ascii_digit()) => assert!(read.is_err(), "{text:?}"),
        None => {}
    }
}

fn span_again(span: Span) {
    let text = span.to_string();
    assert_eq!(text.parse::<Span>().unwrap_or_else(|err| panic!("{err}")), span);
    let json = serde_json::to_string(&span).expect("a text");
    assert_eq!(serde_json::from_str::<Span>(&json).expect(&json), span);
}

/// The microseconds of numbers with units, larger units first, and whether each is so small that it
/// has to be readable. `None` for any other form.
fn sum(text: &str) -> Option<(u128, bool)> {
    const UNITS: [(&str, u128); 7] = [
        ("w", 604_800_000_000),
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("s", 1_000_000),
        ("ms", 1_000),
        ("us", 1),
    ];
    let (mut micros, mut readable, mut from, mut rest) = (0_u128, true, 0, text);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let letters = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let number: u64 = rest[..digits].parse().ok()?;
        let name = &rest[digits..digits + letters];
        let unit = from + UNITS[from..].iter().position(|(unit, _)| *unit == name)?;
        let part = u128::from(number) * UNITS[unit].1;
        // Ten thousand years.
        readable &= part < 10_000 * 365 * UNITS[1].1;
        micros += part;
        (from, rest) = (unit + 1, &rest[digits + letters..]);
    }
    (!text.is_empty()).then_some((micros, readable))
}
