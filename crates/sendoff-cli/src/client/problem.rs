//! What the daemon says when it refuses, and the exit code that goes with it.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    failure::{Exit, Failure},
    run::printable,
};

/// Problem details (RFC 9457), as far as they matter here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    #[serde(rename = "type")]
    uri: String,
    status: u16,
    title: String,
    detail: String,
    #[serde(flatten)]
    pub(super) members: Map<String, Value>,
}

impl Problem {
    /// What an answer with this status and body says.
    pub(super) fn of(status: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<Self>(body) {
            Ok(problem) if !problem.uri.is_empty() => Self { status: status.as_u16(), ..problem },
            _ => Self {
                status: status.as_u16(),
                detail: format!(
                    "the answer is {status} and no problem of sendoff's; is this a sendoff daemon?"
                ),
                ..Self::default()
            },
        }
    }

    /// The problem within an answer.
    pub(super) fn within(problem: &Value) -> Self {
        let status = problem.get("status").and_then(Value::as_u64);
        let status = status.and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        Self::of(status.unwrap_or(StatusCode::BAD_REQUEST), problem.to_string().as_bytes())
    }

    /// Its stable name.
    pub(super) fn kind(&self) -> &str {
        self.uri.rsplit('/').next().unwrap_or("")
    }

    /// What to do, in words.
    pub(super) fn words(&self) -> String {
        printable(if self.detail.is_empty() { &self.title } else { &self.detail })
    }

    /// A job with this record stands in the way.
    pub(super) fn record(&self) -> Option<&Value> {
        self.members.get("record")
    }

    pub(super) fn exit(&self) -> Exit {
        match (self.status, self.kind()) {
            // Another version of the daemon, or no daemon.
            (404, "no_route" | "") => Exit::Store,
            (404, _) => Exit::NotFound,
            // The caller has to choose another guid, key or time; for the others it is too late.
            (409, "conflict" | "past_deadline") => Exit::Usage,
            (409, _) => Exit::NotAll,
            // Nothing is wrong with the command: who asks may not, or nobody can.
            (401 | 403 | 407 | 408 | 429 | 500.., _) => Exit::Store,
            _ => Exit::Usage,
        }
    }

    pub(super) fn failure(&self) -> Failure {
        let advice = match self.status {
            401 => "; give a token with SENDOFF_TOKEN or --token-file",
            _ => "",
        };
        Failure { exit: self.exit(), message: format!("{}{advice}", self.words()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(status: u16, kind: &str) -> Exit {
        let body = format!(r#"{{"type":"/problems/{kind}","detail":"d","field":"f"}}"#);
        let problem = Problem::of(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!((problem.kind(), &problem.members["field"]), (kind, &"f".into()));
        problem.exit()
    }

    #[test]
    fn each_status_has_its_exit_code() {
        assert_eq!(exit(404, "no_job"), Exit::NotFound);
        assert_eq!(exit(409, "conflict"), Exit::Usage);
        assert_eq!(exit(409, "too_late"), Exit::NotAll);
        assert_eq!(exit(400, "invalid_job"), Exit::Usage);
        assert_eq!(exit(413, "too_large"), Exit::Usage);
        for status in [401, 403, 429, 500, 503, 507] {
            assert_eq!(exit(status, "x"), Exit::Store, "{status}");
        }
    }

    #[test]
    fn an_answer_of_somebody_else_says_so() {
        let failure = Problem::of(StatusCode::BAD_GATEWAY, b"<html>").failure();
        assert!(failure.message.contains("502") && failure.message.contains("is this a sendoff daemon?"));
        assert_eq!(failure.exit, Exit::Store);
    }
}
