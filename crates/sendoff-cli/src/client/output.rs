//! How answers are printed: for people, as JSON, or guids only.

use std::fmt::Write as _;

use sendoff::{
    JobRecord, State, Timestamp,
    time::{Clock, Span, SystemClock},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::http::strange;
use crate::{args, failure::Failure, out, run::printable};

/// How to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    People,
    Json,
    Guids,
}

impl Output {
    pub(super) fn of(args: args::Output) -> Self {
        match (args.json, args.quiet) {
            (true, _) => Self::Json,
            (_, true) => Self::Guids,
            _ => Self::People,
        }
    }

    /// The JSON of an answer, or the line for people; nothing for `-q`.
    pub(super) fn fact(self, json: &impl Serialize, people: impl FnOnce() -> String) -> Result<(), Failure> {
        match self {
            Self::People => out::line(&people()),
            Self::Json => out::json(json),
            Self::Guids => Ok(()),
        }
    }

    /// The job's record, its guid, or this line.
    pub(super) fn job(
        self,
        record: &Record,
        people: impl FnOnce(&JobRecord) -> String,
    ) -> Result<(), Failure> {
        match self {
            Self::People => out::line(&people(&record.job)),
            Self::Json => out::line(record.json.get()),
            Self::Guids => out::line(&record.job.guid.to_string()),
        }
    }

    /// Says on stderr what goes beside the answer.
    pub(super) fn note(self, words: &str) {
        match self {
            Self::People => out::note(words),
            Self::Json => out::note(&serde_json::json!({ "note": words }).to_string()),
            Self::Guids => {}
        }
    }

    /// Says on stderr what one job of several met.
    pub(super) fn error(self, subject: &str, failure: &Failure) {
        match self {
            Self::Json => out::note(
                &serde_json::json!({
                    "job": subject, "error": failure.message, "exit_code": failure.exit as u8
                })
                .to_string(),
            ),
            _ => out::note(&format!("{subject}: {failure}")),
        }
    }
}

/// A job's record, with its JSON as the daemon wrote it.
pub(super) struct Record {
    pub(super) json: Box<RawValue>,
    pub(super) job: Box<JobRecord>,
}

impl Record {
    /// # Errors
    /// It is of another version.
    pub(super) fn read(json: Box<RawValue>) -> Result<Self, Failure> {
        let job = serde_json::from_str(json.get()).map_err(|err| strange(&err))?;
        Ok(Self { json, job })
    }
}

/// An instant to the second.
pub(super) fn instant(at: Timestamp) -> String {
    let mut text = at.to_string();
    if let Some(dot) = text.find('.') {
        text.replace_range(dot.., "Z");
    }
    text
}

/// A stretch of time as people say it: its two greatest units.
pub(super) fn about(duration: std::time::Duration) -> String {
    let seconds = duration.as_secs();
    let rounded = match seconds {
        0 => {
            return Span::from(std::time::Duration::from_millis(u64::from(duration.subsec_millis())))
                .to_string();
        }
        1..3_600 => seconds,
        3_600..86_400 => seconds / 60 * 60,
        _ => {
            let (days, hours) = (seconds / 86_400, seconds % 86_400 / 3_600);
            return if hours == 0 || days > 9 { format!("{days}d") } else { format!("{days}d{hours}h") };
        }
    };
    Span::from(std::time::Duration::from_secs(rounded)).to_string()
}

/// One line of a list of jobs.
pub(super) fn row(job: &JobRecord) -> String {
    let mut line = format!("{}  {:<9}  {}  ", job.guid, job.state.as_str(), instant(job.next_at));
    let ended = job.started_at.or(job.ended_at).map_or_else(|| "-".to_owned(), instant);
    let _ = write!(line, "{ended:<20}  {:<12}  {}", printable(&job.queue), target(job));
    line
}

/// What goes above such lines.
pub(super) fn head() -> String {
    format!(
        "{:<36}  {:<9}  {:<20}  {:<20}  {:<12}  {}",
        "GUID", "STATE", "DUE", "STARTED OR ENDED", "QUEUE", "START"
    )
}

/// What is started, and where.
pub(super) fn target(job: &JobRecord) -> String {
    match &job.target {
        Some(target) => format!("{} {}", printable(&job.starter), printable(target)),
        None => printable(&job.starter),
    }
}

/// Where a job stands, in a few words.
pub(super) fn standing(job: &JobRecord) -> String {
    let error = || {
        job.last_error.as_ref().map(|error| format!(": {}", printable(&error.message))).unwrap_or_default()
    };
    match job.state {
        State::Started => {
            let took = job.took_us.and_then(|took| u64::try_from(took).ok());
            let took = took.map(|took| format!(", took {}", crate::run::time(took))).unwrap_or_default();
            let at = job.started_at.map(|at| format!(" {}", instant(at))).unwrap_or_default();
            format!("started{at}{took}")
        }
        State::Failed => format!("failed{}", error()),
        State::Unknown => format!("unknown{}", error()),
        State::Pending => format!("pending, due {}{}", instant(job.next_at), until(job.next_at)),
        state => state.to_string(),
    }
}

/// ` (in 2h)`, or nothing once it has passed.
fn until(at: Timestamp) -> String {
    let left = at.saturating_since(SystemClock.now());
    if left.is_zero() { String::new() } else { format!(" (in {})", about(left)) }
}
