//! Errors on the wire: problem details (RFC 9457), and the one table of their kinds.

use std::{borrow::Cow, fmt};

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{Body, respond};

/// Bytes of a reader's words that are passed on; they may quote a caller.
const LONGEST_WORDS: usize = 1_000;
/// Bytes of a name that may be a misspelt one.
const LONGEST_NAME: usize = 64;

/// An answer that says what went wrong and what to do.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    /// Stable; the last part of the problem's `type`, `/problems/{kind}`.
    pub(crate) kind: &'static str,
    /// What to do, in words.
    pub(crate) detail: String,
    /// Further members: `record`, `field`, `guid`, …
    pub(crate) members: Map<String, Value>,
    /// Seconds for a Retry-After header.
    pub(crate) retry_after: Option<u64>,
}

/// A kind of problem.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    /// What it means and what to do, for `/problems/{name}`.
    pub(crate) about: &'static str,
    /// Seconds; 0 if there is nothing to say.
    retry_after: u64,
}

macro_rules! kinds {
    ($($constant:ident: $status:ident $(retry $seconds:literal)?, $name:literal, $title:literal, $about:literal;)*) => {
        $(pub(crate) const $constant: Kind = Kind {
            name: $name,
            status: StatusCode::$status,
            title: $title,
            about: $about,
            retry_after: 0 $(+ $seconds)?,
        };)*
        /// Every kind.
        pub(crate) const KINDS: &[&Kind] = &[$(&$constant),*];
    };
}

kinds! {
    INVALID_JOB: BAD_REQUEST, "invalid_job", "The job can never start",
        "A field of the job is missing, unknown, malformed or not allowed to this caller. `field` names it; in a batch, `item` and `line` say where. Change the job and submit it again.";
    INVALID_BODY: BAD_REQUEST, "invalid_body", "The request's body cannot be read",
        "The body is not the JSON that this route reads, or it broke off. `field` names the field where one is to blame.";
    INVALID_PARAMETER: BAD_REQUEST, "invalid_parameter", "A query parameter or header is wrong",
        "`parameter` names the one that is unknown, given twice or malformed. Nothing is ignored, so that a typing error cannot change what a request means.";
    INVALID_CURSOR: BAD_REQUEST, "invalid_cursor", "The cursor does not belong to this request",
        "A cursor goes only with the filter and the order of the request that gave it. Begin again without one.";
    INVALID_PATH: BAD_REQUEST, "invalid_path", "The path cannot be read",
        "A part of the path is not percent-encoded UTF-8.";
    INVALID_GUID: BAD_REQUEST, "invalid_guid", "That is no guid",
        "A job is named by its guid, a UUID of any version, as the answer to its submit gave it.";
    INVALID_QUEUE: BAD_REQUEST, "invalid_queue", "The queue's name or its limits are wrong",
        "A queue's name has 1 to 100 letters, digits, `_`, `-`, `:` or `.`; a limit is at least 1, or null for none.";
    NO_FILTER: BAD_REQUEST, "no_filter", "A bulk cancel needs a filter",
        "Give a filter, or say `\"all\": true` if every job is meant.";
    BAD_HOST: BAD_REQUEST, "bad_host", "The request does not say which host it is for",
        "Send exactly one Host header.";
    HOST_NOT_ALLOWED: FORBIDDEN, "host_not_allowed", "The daemon does not go by this name",
        "Address it by its IP address or localhost, or add the name to `hosts` in its configuration. This keeps pages in browsers from reaching it under a name of their own.";
    ORIGIN_NOT_ALLOWED: FORBIDDEN, "origin_not_allowed", "Pages of this origin may send nothing here",
        "Add the origin to `origins` in the daemon's configuration, if it is yours.";
    OTHER_USER: FORBIDDEN, "other_user", "The unix socket is for the daemon's own user",
        "Other users use TCP with a token.";
    UNAUTHORIZED: UNAUTHORIZED, "unauthorized", "Who is calling is not known",
        "Send a token as `Authorization: Bearer …`. `sendoff token create` makes one.";
    FORBIDDEN: FORBIDDEN, "forbidden", "The caller may not do this",
        "`scope` names what the caller's token lacks.";
    NO_ROUTE: NOT_FOUND, "no_route", "There is no such path",
        "`/openapi.json` describes every path.";
    NO_JOB: NOT_FOUND, "no_job", "There is no such job",
        "No record has this guid, or not any more: records are deleted some time after they became final.";
    NO_QUEUE: NOT_FOUND, "no_queue", "There is no such queue",
        "A queue is there as long as it has jobs or limits.";
    NO_PROBLEM: NOT_FOUND, "no_problem", "There is no such kind of problem",
        "`/openapi.json` names the kinds of each route.";
    NO_METHOD: METHOD_NOT_ALLOWED, "no_method", "The path has other methods",
        "The Allow header names them.";
    BODY_TIMEOUT: REQUEST_TIMEOUT, "body_timeout", "The body came too slowly",
        "Nothing of the body came for as long as `limits.body_timeout` allows. Send it without long pauses.";
    CONFLICT: CONFLICT, "conflict", "The guid or idempotency key names another job",
        "A job with another content has this guid or key. `field` says which of the two. The same content would have been answered with the first job's guid.";
    TOO_LATE: CONFLICT, "too_late", "The cancel came too late",
        "The job was starting or final. `record` says which. With `cancel_requested` the attempt under way is the last.";
    NOT_PENDING: CONFLICT, "not_pending", "The job is not pending",
        "Only a pending job can be moved. `record` says where it stands.";
    PAST_DEADLINE: CONFLICT, "past_deadline", "The deadline would come first",
        "The job must begin before its `expires_at`, which is not after the time asked for.";
    NOT_UNKNOWN: CONFLICT, "not_unknown", "The job is not unknown",
        "Only a job of which it is unknown whether it started can be resolved. `record` says where it stands.";
    TOO_LARGE: PAYLOAD_TOO_LARGE, "too_large", "The request is too large",
        "`limit` says how many bytes, or jobs of an atomic batch, are allowed. An itemised batch (`?atomic=false`, application/x-ndjson) may have any length.";
    UNSUPPORTED_MEDIA_TYPE: UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body's type is not read here",
        "Send application/json in UTF-8, without a Content-Encoding; a batch may also be application/x-ndjson.";
    BUSY: SERVICE_UNAVAILABLE retry 1, "busy", "Too many jobs are on their way to the store",
        "Nothing was accepted. Try again in a moment; batches get through faster than single jobs.";
    TOO_MANY_STREAMS: SERVICE_UNAVAILABLE retry 10, "too_many_streams", "Too many listeners",
        "As many event streams are open as are allowed. Close some, or try again later.";
    STOPPING: SERVICE_UNAVAILABLE retry 5, "stopping", "The daemon is stopping",
        "Nothing was accepted. Try again when it runs again.";
    COMMIT_UNKNOWN: SERVICE_UNAVAILABLE, "commit_unknown", "It is not known whether this was stored",
        "The daemon stopped, or lost its connection to the store, before the store had answered. Submit again under the same guid or idempotency key, or look the job up: both are safe.";
    STORE_UNAVAILABLE: SERVICE_UNAVAILABLE retry 2, "store_unavailable", "The store cannot be reached for now",
        "Nothing was done. The daemon tries to reach it all the time; repeat the request in a moment. Of an itemised batch, what was answered before is stored.";
    STORE_BROKEN: SERVICE_UNAVAILABLE, "store_broken", "The store is broken",
        "The store cannot be read or written. The daemon's log says why.";
    DISK_FULL: INSUFFICIENT_STORAGE, "disk_full", "The disk is full",
        "Nothing was accepted. What is under way goes on. Make room beside the store.";
}

impl Kind {
    /// A problem of this kind; `detail` says what is wrong here and what to do.
    pub(crate) fn says(&self, detail: impl Into<String>) -> Problem {
        let mut problem = Problem::new(self.status, self.name, detail);
        problem.retry_after = (self.retry_after > 0).then_some(self.retry_after);
        problem
    }

    /// The kind as `/problems/{name}` shows it.
    pub(crate) fn page(&self) -> Value {
        json!({ "kind": self.name, "status": self.status.as_u16(), "title": self.title, "about": self.about })
    }
}

/// The kind of this name.
pub(crate) fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name).copied()
}

impl Problem {
    pub(crate) fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), members: Map::new(), retry_after: None }
    }

    /// With one more member.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// What is wrong with a job or a body, in the words of a reader or of the library: they begin
    /// with the field's path, which becomes a member, and name the fields that would be known.
    pub(crate) fn of_field(kind: &Kind, words: &str) -> Self {
        let words = &*shortened(words);
        let unknown = unknown(words);
        let field = field(words).or(unknown.map(|(name, _)| name));
        let detail = match unknown {
            Some((_, Some(near))) => format!("{words}; did you mean `{near}`?"),
            _ => words.to_owned(),
        };
        let problem = kind.says(detail);
        match field {
            Some(field) => problem.with("field", field),
            None => problem,
        }
    }

    /// As one JSON object.
    pub(crate) fn to_json(&self) -> Value {
        let mut members = self.members.clone();
        let title =
            kind(self.kind).map_or_else(|| self.status.canonical_reason().unwrap_or(""), |kind| kind.title);
        members.insert("type".into(), format!("/problems/{}", self.kind).into());
        members.insert("title".into(), title.into());
        members.insert("status".into(), self.status.as_u16().into());
        members.insert("detail".into(), self.detail.clone().into());
        Value::Object(members)
    }

    /// As a whole answer.
    pub(crate) fn into_response(self) -> Response<Body> {
        let mut response = respond(self.status, "application/problem+json", self.to_json().to_string());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allowed) = self.members.get("allow").and_then(Value::as_str)
            && let Ok(allowed) = HeaderValue::from_str(allowed)
        {
            headers.insert(header::ALLOW, allowed);
        }
        response
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// So that a body that breaks off can say how it is to be answered.
impl std::error::Error for Problem {}

impl From<sendoff::Error> for Problem {
    fn from(err: sendoff::Error) -> Self {
        let words = err.to_string();
        if err.is_invalid() {
            Self::of_field(&INVALID_JOB, &words)
        } else if err.is_conflict() {
            Self::of_field(&CONFLICT, &words)
        } else if err.is_busy() {
            BUSY.says(words)
        } else if err.is_closed() {
            STOPPING.says("the daemon is stopping; nothing was accepted")
        } else if err.is_not_found() {
            NO_JOB.says(words)
        } else if err.is_full() {
            DISK_FULL.says(words)
        } else if err.is_unavailable() {
            STORE_UNAVAILABLE.says(words)
        } else if err.is_commit_unknown() {
            COMMIT_UNKNOWN.says(words)
        } else {
            STORE_BROKEN.says(words)
        }
    }
}

/// Words that may quote a caller at length, without most of the quotation.
fn shortened(words: &str) -> Cow<'_, str> {
    if words.len() <= LONGEST_WORDS {
        return Cow::Borrowed(words);
    }
    Cow::Owned(format!("{}…", &words[..words.floor_char_boundary(LONGEST_WORDS)]))
}

/// The path of a field with which a message begins.
fn field(words: &str) -> Option<&str> {
    let (path, _) = words.split_once(": ")?;
    let is_path = !path.is_empty() && !path.contains([' ', '"', '`', '(']);
    is_path.then_some(path)
}

/// For a message like "unknown field `quue`, expected one of `start`, `queue`": the name, and the
/// nearest one.
fn unknown(words: &str) -> Option<(&str, Option<&str>)> {
    let (_, names) = words.split_once("unknown field ")?;
    let mut names = names.split('`').skip(1).step_by(2);
    let name = names.next()?;
    Some((name, nearest(name, names)))
}

/// The known name that is so close to this one that a typing error is likely.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing costs the product of both lengths, and the caller chooses the name.
    known
        .into_iter()
        .filter(|candidate| name.len().max(candidate.len()) <= LONGEST_NAME)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance < candidate.len())
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_field_and_the_nearest_one() {
        let problem = Problem::of_field(
            &INVALID_JOB,
            "quue: unknown field `quue`, expected one of `start`, `queue` (column 9)",
        );
        assert_eq!(problem.members["field"], "quue");
        assert!(problem.detail.ends_with("; did you mean `queue`?"), "{problem}");
        let problem = Problem::of_field(&INVALID_JOB, "the start: is odd");
        assert!(problem.members.is_empty());
    }

    #[test]
    fn a_long_name_is_neither_repeated_whole_nor_compared() {
        let name = "é".repeat(500_000);
        let words = format!("unknown field `{name}`, expected `start` or `queue`");
        let problem = Problem::of_field(&INVALID_JOB, &words);
        assert!(problem.to_json().to_string().len() < 3_000);
        assert_eq!(nearest(&"queue".repeat(13), ["queue"]), None);
        let long = "q".repeat(65);
        assert_eq!(nearest(&long, [&*"q".repeat(65)]), None, "not even if it is the same");
    }

    #[test]
    fn names_of_kinds_are_unique() {
        for (at, one) in KINDS.iter().enumerate() {
            assert!(KINDS[..at].iter().all(|other| other.name != one.name), "{}", one.name);
        }
    }
}
