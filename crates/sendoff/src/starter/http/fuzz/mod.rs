//! URLs, requests and answers, given anything: for `testing::fuzz`.

pub(crate) mod addresses;
mod framing;
mod requests;

pub(crate) use framing::answer;
pub(crate) use requests::{request, url};

use http::{HeaderValue, StatusCode};

use super::{answer::Answer, outcome};
use crate::{ports::StartErrorClass, time::Timestamp};

/// The values of Retry-After and of Date, one a line; or seconds of both.
pub(crate) fn retry_after(data: &[u8]) {
    if let Some((at, now)) = data.split_first_chunk().and_then(|(at, rest)| Some((at, rest.first_chunk()?))) {
        dates(u32::from_le_bytes(*at), u32::from_le_bytes(*now));
    }
    let mut lines = data.splitn(2, |&byte| byte == b'\n');
    let mut header = || HeaderValue::from_bytes(lines.next()?).ok();
    let (retry_after, date) = (header(), header());
    let digits = retry_after.as_ref().and_then(|value| {
        let text = value.to_str().ok()?.trim();
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse().unwrap_or(u128::MAX).min(u32::MAX.into()))
    });
    for status in [301, 404, 408, 409, 423, 425, 429, 500, 503, 599] {
        for trusting in [true, false] {
            let status = StatusCode::from_u16(status).expect("a status");
            let answer = Answer { status, retry_after: retry_after.clone(), date: date.clone() };
            let Err(error) = outcome::judge("h:80", &answer, || Timestamp::MIN, trusting) else {
                panic!("{status} is no success")
            };
            let waits = error.retry_after.map(|wait| u128::from(wait.as_secs()));
            let permanent = matches!(status.as_u16(), 301 | 404);
            assert_eq!(error.class == StartErrorClass::Permanent, permanent, "{status}");
            let believed = matches!(status.as_u16(), 429 | 503) && trusting && error.retry_after.is_some();
            assert_eq!(error.class == StartErrorClass::NotStarted, believed, "{status}");
            assert!(!permanent || waits.is_none());
            if digits.is_some() && !permanent {
                assert_eq!(waits, digits);
            }
        }
    }
}

/// A date is read in each of its forms, and counts from the target's own clock.
fn dates(at: u32, now: u32) {
    let time = |seconds: u32| Timestamp::from_micros(i64::from(seconds) * 1_000_000).expect("a time");
    let judged = |at: &str, now: &str| {
        let value = |text| Some(HeaderValue::from_str(text).expect("a date is a header's value"));
        let answer =
            Answer { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: value(at), date: value(now) };
        outcome::judge("h:80", &answer, || Timestamp::MIN, true).expect_err("it is no success").retry_after
    };
    let expected = Some(time(at).saturating_since(time(now)));
    for now in forms(time(now)) {
        for at in forms(time(at)) {
            assert_eq!(judged(&at, &now), expected, "{at} from {now}");
        }
    }
}

/// The ways to write a date (RFC 9110, 5.6.7) that leave no doubt about the century.
fn forms(at: Timestamp) -> Vec<String> {
    let text = at.to_string();
    let number = |from: usize, to: usize| -> usize { text[from..to].parse().expect("digits") };
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (year, month, date, time) = (number(0, 4), month[number(5, 7) - 1], number(8, 10), &text[11..19]);
    let day = days[usize::try_from(at.as_micros() / 86_400_000_000 % 7).expect("a day")];
    let short = &day[..3];
    let mut forms = vec![
        format!("{short}, {date:02} {month} {year} {time} GMT"),
        format!("{short} {month} {date:>2} {time} {year}"),
    ];
    if year < 2069 {
        forms.push(format!("{day}, {date:02}-{month}-{:02} {time} GMT", year % 100));
    }
    forms
}
