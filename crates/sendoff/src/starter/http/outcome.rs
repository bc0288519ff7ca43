//! What an answer, or the lack of one, means for the job.

use std::time::Duration;

use http::HeaderValue;

use super::{answer::Answer, link::Broken};
use crate::{
    job::Receipt,
    ports::{StartError, StartErrorClass},
    time::Timestamp,
};

/// Judges an answer that arrived `now`. `trusting` says that a 429 or 503 with `Retry-After` is
/// believed.
pub(super) fn judge(
    destination: &str,
    answer: &Answer,
    now: impl FnOnce() -> Timestamp,
    trusting: bool,
) -> Result<Receipt, StartError> {
    let status = answer.status;
    if status.is_success() {
        return Ok(Receipt { status: Some(status.as_u16()), pid: None });
    }
    let retry_after = answer.retry_after.as_ref().and_then(|value| {
        // The target's own clock, where it tells it, measures its date best.
        let date = answer.date.as_ref().and_then(read_date);
        read_retry_after(value, date.unwrap_or_else(now))
    });
    let class = match status.as_u16() {
        // An explicit "come later" is the only answer that says that nothing was started; a 429
        // without one proves no more than a bare 503, and failing for good over a rate limit would
        // lose jobs.
        429 | 503 if retry_after.is_some() && trusting => StartErrorClass::NotStarted,
        408 | 409 | 423 | 425 | 429 => StartErrorClass::Ambiguous,
        300..=499 => StartErrorClass::Permanent,
        _ => StartErrorClass::Ambiguous,
    };
    let mut message = format!("{destination} answered {}", status.as_u16());
    if let Some(reason) = status.canonical_reason() {
        message.push(' ');
        message.push_str(reason);
    }
    if status.is_redirection() {
        message.push_str("; redirects are not followed, start the final URL");
    }
    let mut error = StartError::new(class, message);
    if class != StartErrorClass::Permanent {
        error.retry_after = retry_after;
    }
    Err(error)
}

/// There was no answer.
pub(super) fn broken(destination: &str, broken: &Broken) -> StartError {
    let how = match broken {
        Broken::Unsent => {
            let message = format!("{destination} closed the connection before the request was sent");
            return StartError::not_started(message);
        }
        // From here on the request, or part of it, may have arrived.
        Broken::Closed => "closed the connection before it answered".to_owned(),
        Broken::Io(err) => format!("broke the connection before it answered ({err})"),
        Broken::NoAnswer(why) => format!("sent something that is no HTTP/1.1 answer ({why})"),
    };
    StartError::ambiguous(format!("{destination} {how}"))
}

fn read_retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    read_date(value).map(|date| date.saturating_since(now))
}

/// The three forms that RFC 9110 (5.6.7) asks recipients to read.
fn read_date(value: &HeaderValue) -> Option<Timestamp> {
    let text = value.to_str().ok()?.trim();
    let instant = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .into_iter()
        .find_map(|format| jiff::civil::DateTime::strptime(format, text).ok())?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    Timestamp::from_micros(instant.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn judged(status: u16, headers: &[(&str, &str)], trusting: bool) -> StartError {
        let header = |name| {
            let value = headers.iter().find(|(other, _)| *other == name).map(|(_, value)| value);
            value.map(|value| HeaderValue::from_str(value).unwrap())
        };
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: header("retry-after"),
            date: header("date"),
        };
        let now = || "1994-11-06T08:49:00Z".parse().unwrap();
        judge("h:80", &answer, now, trusting).unwrap_err()
    }

    #[test]
    fn both_forms_of_retry_after_and_all_forms_of_dates() {
        for (value, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("99999999999999999999", Some(u64::from(u32::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(37)),
            ("Sun Nov  6 08:49:37 1994", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
        ] {
            let error = judged(503, &[("retry-after", value)], true);
            assert_eq!(error.retry_after, seconds.map(Duration::from_secs), "{value}");
            let believed = error.class == StartErrorClass::NotStarted;
            assert_eq!(believed, seconds.is_some(), "{value}");
        }
    }

    #[test]
    fn a_date_counts_from_the_targets_own_clock() {
        let late =
            [("retry-after", "Mon, 07 Nov 1994 00:00:10 GMT"), ("date", "Mon, 07 Nov 1994 00:00:00 GMT")];
        assert_eq!(judged(429, &late, true).retry_after, Some(Duration::from_secs(10)));
    }

    #[test]
    fn at_most_once_believes_only_if_told_to() {
        let later = [("retry-after", "1")];
        for status in [429, 503] {
            assert_eq!(judged(status, &later, true).class, StartErrorClass::NotStarted);
            assert_eq!(judged(status, &later, false).class, StartErrorClass::Ambiguous);
            assert_eq!(judged(status, &[], true).class, StartErrorClass::Ambiguous);
        }
        assert_eq!(judged(500, &later, true).class, StartErrorClass::Ambiguous);
    }
}
