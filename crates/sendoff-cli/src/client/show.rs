//! `sendoff show`: a job's record, and why it has not started.

use std::fmt::Write as _;

use sendoff::{
    JobRecord, State, Timestamp,
    time::{Clock, SystemClock},
};
use serde_json::value::RawValue;

use super::{
    each::each,
    http::{Call, Client, path},
    output::{Output, Record, about, instant, target},
    queue::Queue,
    select::selectors,
};
use crate::{
    args::ShowArgs,
    failure::{Exit, Failure},
    out,
    run::{counted, printable, time},
};

pub(super) async fn run(client: &Client, output: Output, args: &ShowArgs) -> Result<Exit, Failure> {
    let ask = |guid: sendoff::Guid| async move {
        let json: Box<RawValue> = client.call(&Call::get(format!("/v1/jobs/{guid}"))).await?.json()?;
        let record = Record::read(json)?;
        let queue = match (output, record.job.state) {
            (Output::People, State::Pending) => queue(client, &record.job.queue).await?,
            _ => None,
        };
        Ok((record, queue))
    };
    let mut first = true;
    each(client, output, selectors(&args.jobs), ask, |(record, queue)| {
        if output == Output::People && !std::mem::take(&mut first) {
            out::line("")?;
        }
        output.job(&record, |job| text(job, queue.as_ref(), SystemClock.now()))?;
        Ok(Exit::Ok)
    })
    .await
}

/// What is known of a job's queue; nothing is no failure.
async fn queue(client: &Client, name: &str) -> Result<Option<Queue>, Failure> {
    let answer = client.call(&Call::get(path("/v1/queues/", name, ""))).await?;
    Ok(answer.json().ok())
}

fn text(job: &JobRecord, queue: Option<&Queue>, now: Timestamp) -> String {
    let mut text = format!("{}: {}\n", job.guid, why(job, queue, now));
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<15} {value}");
        }
    };
    let at = |at: Option<Timestamp>| at.map(|at| at.to_string());
    line("start", Some(target(job)));
    line("queue", Some(printable(&job.queue)));
    line("priority", (job.priority > 0).then(|| job.priority.to_string()));
    let labels: Vec<_> =
        job.labels.iter().map(|(name, value)| printable(&format!("{name}={value}"))).collect();
    line("labels", (!labels.is_empty()).then(|| labels.join(" ")));
    line("submitted by", job.submitted_by.as_deref().map(printable));
    line("delivery", Some(job.delivery.as_str().replace('_', " ")));
    line("attempts", Some(format!("{} of {}", job.attempt, job.max_attempts)));
    line("queued at", at(Some(job.queued_at)));
    line("due at", at(Some(job.run_at)));
    line(
        "next try at",
        at(Some(job.next_at).filter(|next| job.state == State::Pending && *next != job.run_at)),
    );
    line("expires at", at(job.expires_at));
    line("starting at", at(job.starting_at));
    line("started at", at(job.started_at));
    line("ended at", at(job.ended_at.filter(|_| job.started_at.is_none())));
    let micros = |micros: Option<i64>| micros.and_then(|micros| u64::try_from(micros).ok()).map(time);
    line("waited", micros(job.wait_us));
    line("took", micros(job.took_us));
    let receipt = job.receipt.unwrap_or_default();
    line("status", receipt.status.map(|status| status.to_string()));
    line("pid", receipt.pid.map(|pid| pid.to_string()));
    line(
        "last error",
        job.last_error.as_ref().map(|error| format!("{} ({})", printable(&error.message), instant(error.at))),
    );
    line("cancel asked at", at(job.cancel_requested_at));
    line("crashes", (job.crashes > 0).then(|| job.crashes.to_string()));
    line("node", job.node.as_deref().map(printable));
    text.trim_end().to_owned()
}

/// Where it stands and why, as a sentence.
fn why(job: &JobRecord, queue: Option<&Queue>, now: Timestamp) -> String {
    if job.quarantined {
        return "its stored row cannot be read, and it is left alone".into();
    }
    let error = job.last_error.as_ref().map(|error| printable(&error.message));
    let because = error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
    let twice = if job.possible_duplicate { "; an earlier attempt may have started as well" } else { "" };
    match job.state {
        State::Started => format!("started{twice}"),
        State::Starting if job.cancel_requested_at.is_some() => {
            "is starting; a cancel came too late for this attempt, and no other follows".into()
        }
        State::Starting => "is starting".into(),
        State::Failed => {
            format!("failed after {}{because}{twice}", counted(u64::from(job.attempt), "attempt"))
        }
        State::Cancelled => format!("was cancelled{twice}"),
        State::Expired => "expired: its deadline passed before a start began".into(),
        State::Unknown => {
            format!("may have started, and must not start twice{because}; decide with `sendoff resolve`")
        }
        State::Pending => format!("{}{twice}", waits(job, queue, now, &because)),
    }
}

/// What a pending job waits for.
fn waits(job: &JobRecord, queue: Option<&Queue>, now: Timestamp, because: &str) -> String {
    let left = job.next_at.saturating_since(now);
    let name = printable(&job.queue);
    if !left.is_zero() {
        let left = about(left);
        return if job.attempt > 0 || job.next_at != job.run_at {
            format!("waits {left} for its next attempt{because}")
        } else {
            format!("is due in {left}")
        };
    }
    let Some(queue) = queue else { return format!("is due, and waits for its turn{because}") };
    if queue.limits.paused {
        return format!("is due, but its queue {name} is paused; `sendoff queue resume {name}` goes on");
    }
    let starting = queue.count(State::Starting);
    match queue.limits.max_in_flight {
        Some(most) if starting >= most as u64 => {
            format!("is due, and waits because its queue {name} may have only {most} in flight")
        }
        _ if queue.limits.rate.is_some() => {
            format!("is due, and waits for its turn in the queue {name}, whose rate is limited{because}")
        }
        _ => format!("is due, and waits for its turn{because}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2027-01-01T12:00:00Z";

    fn job(changes: serde_json::Value) -> JobRecord {
        let mut record = serde_json::json!({
            "guid": "018f2b1e-0000-7000-8000-00000000000a", "queue": "mail", "state": "pending",
            "starter": "http", "target": "127.0.0.1:80", "delivery": "at_least_once", "priority": 0,
            "labels": {}, "run_at": NOW, "next_at": NOW, "queued_at": NOW, "attempt": 0,
            "max_attempts": 5, "crashes": 0, "fence": 0, "possible_duplicate": false,
            "quarantined": false, "clock_skew_us": 0
        });
        record.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn a_sentence_says_why_a_job_has_not_started() {
        let error = serde_json::json!({"class": "not_started", "message": "connection\nrefused", "at": NOW});
        let paused = serde_json::json!({"name": "mail", "limits": {"paused": true}, "counts": {}});
        let full = serde_json::json!(
            {"name": "mail", "limits": {"max_in_flight": 2}, "counts": {"starting": 2}}
        );
        let none = serde_json::Value::Null;
        for (changes, queue, words) in [
            (
                serde_json::json!({"run_at": "2027-01-01T14:00:00Z", "next_at": "2027-01-01T14:00:00Z"}),
                &none,
                "is due in 2h",
            ),
            (
                serde_json::json!({"next_at": "2027-01-01T12:00:09Z", "attempt": 1, "last_error": error}),
                &none,
                "waits 9s for its next attempt: connection\u{fffd}refused",
            ),
            (serde_json::json!({}), &none, "is due, and waits for its turn"),
            (serde_json::json!({}), &paused, "its queue mail is paused"),
            (serde_json::json!({}), &full, "may have only 2 in flight"),
            (serde_json::json!({"state": "cancelled"}), &none, "was cancelled"),
            (serde_json::json!({"state": "unknown", "last_error": error}), &none, "`sendoff resolve`"),
            (serde_json::json!({"state": "failed", "attempt": 5}), &none, "failed after 5 attempts"),
        ] {
            let queue = serde_json::from_value::<Queue>(queue.clone()).ok();
            let why = why(&job(changes), queue.as_ref(), NOW.parse().unwrap());
            assert!(why.contains(words), "{why}");
        }
    }
}
