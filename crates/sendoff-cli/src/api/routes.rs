//! The one table of routes: routing, scopes and the API's description all follow from it.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use sendoff::{Guid, JobRecord, JobSpec, QueueLimits, Timestamp, time::Span};

use super::{
    Answered, Api, Call, batch, cancel, events, health, jobs, list, no_method, no_route, openapi,
    problem::{
        BAD_HOST, BODY_TIMEOUT, BUSY, COMMIT_UNKNOWN, CONFLICT, DISK_FULL, FORBIDDEN, HOST_NOT_ALLOWED,
        INVALID_BODY, INVALID_CURSOR, INVALID_GUID, INVALID_JOB, INVALID_PARAMETER, INVALID_PATH,
        INVALID_QUEUE, Kind, NO_FILTER, NO_JOB, NO_PROBLEM, NO_QUEUE, NO_ROUTE, NOT_PENDING, NOT_UNKNOWN,
        ORIGIN_NOT_ALLOWED, OTHER_USER, PAST_DEADLINE, Problem, STOPPING, STORE_BROKEN, STORE_UNAVAILABLE,
        TOO_LARGE, TOO_LATE, TOO_MANY_STREAMS, UNAUTHORIZED, UNSUPPORTED_MEDIA_TYPE,
    },
    queues, schema,
};
use crate::access::Scope;

/// One operation: how to find it, who may call it, what it does, and how it is described.
pub(crate) struct Route {
    pub(crate) method: Method,
    /// At most one part in braces.
    pub(crate) pattern: &'static str,
    /// None: anybody.
    pub(crate) scope: Option<Scope>,
    pub(crate) handler: fn(Arc<Api>, Call) -> BoxFuture<'static, Answered>,
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) about: &'static str,
    pub(crate) query: &'static [Parameter],
    pub(crate) headers: &'static [Parameter],
    pub(crate) body: &'static [Content],
    /// A request without a body is fine too.
    pub(crate) body_optional: bool,
    pub(crate) answers: &'static [(u16, &'static str, Content)],
    /// Beside those that follow from the rest of the route.
    pub(crate) problems: &'static [&'static Kind],
}

/// A query parameter or header.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A body of one media type.
pub(crate) struct Content {
    pub(crate) media: &'static str,
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
}

/// What routes have in common: nothing in, anybody may.
const PLAIN: Route = Route {
    method: Method::GET,
    pattern: "",
    scope: None,
    handler: |_, _| Box::pin(async { Err(no_route("")) }),
    id: "",
    summary: "",
    about: "",
    query: &[],
    headers: &[],
    body: &[],
    body_optional: false,
    answers: &[],
    problems: &[],
};

/// The route of a request, and the variable part of its path as it was sent.
///
/// After the last colon of a path stands a verb, where it is one of the table; a queue whose name
/// ends like that is written with `%3A`.
pub(crate) fn find<'p>(method: &Method, path: &'p str) -> Result<(&'static Route, &'p str), Problem> {
    // Patterns with a verb stand before those that would take the verb for a part of the name.
    let Some((pattern, part)) =
        ROUTES.iter().find_map(|route| part(route.pattern, path).map(|part| (route.pattern, part)))
    else {
        return Err(no_route(path));
    };
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut allowed = Vec::new();
    for route in ROUTES.iter().filter(|route| route.pattern == pattern) {
        if route.method == wanted {
            return Ok((route, part));
        }
        allowed.push(route.method.as_str());
        if route.method == Method::GET {
            allowed.push("HEAD");
        }
    }
    Err(no_method(method, path, &allowed.join(", ")))
}

/// The part of `path` that stands where the pattern has braces; empty if it has none.
fn part<'p>(pattern: &str, path: &'p str) -> Option<&'p str> {
    let Some((before, rest)) = pattern.split_once('{') else { return (pattern == path).then_some("") };
    let (_, after) = rest.split_once('}')?;
    let part = path.strip_prefix(before)?.strip_suffix(after)?;
    (!part.is_empty() && !part.contains('/')).then_some(part)
}

macro_rules! handler {
    ($handler:path) => {
        |api, call| Box::pin($handler(api, call))
    };
}

macro_rules! json_of {
    ($type:ty) => {
        Content { media: "application/json", schema: |generator| generator.subschema_for::<$type>() }
    };
}

const RECORD: Content = json_of!(JobRecord);
const QUEUE: Content = json_of!(queues::Queue);
const BULK: Content = json_of!(cancel::Counts);

const STATE: Parameter = Parameter {
    name: "state",
    about: "In this state.",
    schema: |_| json_schema!({ "type": "string", "enum": sendoff::State::ALL.map(sendoff::State::as_str) }),
};
const IN_QUEUE: Parameter = text("queue", "In this queue.");
const CURSOR: Parameter =
    text("cursor", "The `next_cursor` of the page before, under the same filter and order.");

const fn text(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, about, schema: schema::text }
}

/// Every route.
pub(crate) static ROUTES: &[Route] = &[
    Route {
        method: Method::POST,
        pattern: "/v1/jobs",
        scope: Some(Scope::Submit),
        handler: handler!(jobs::submit),
        id: "submit",
        summary: "Submit a job",
        about: "Answered when the job is stored. The same job under the same guid or idempotency key is answered with the first one's record and `created: false`.",
        headers: &[Parameter {
            name: "Idempotency-Key",
            about: "The job's `idempotency_key`.",
            schema: |_| json_schema!({ "type": "string", "minLength": 1, "maxLength": 255 }),
        }],
        body: &[json_of!(JobSpec)],
        answers: &[
            (201, "The job is stored.", json_of!(jobs::Submitted)),
            (200, "It was submitted before.", json_of!(jobs::Submitted)),
        ],
        problems: &[&INVALID_JOB, &CONFLICT, &BUSY, &COMMIT_UNKNOWN, &DISK_FULL, &NO_JOB],
        ..PLAIN
    },
    Route {
        pattern: "/v1/jobs",
        scope: Some(Scope::Read),
        handler: handler!(list::list),
        id: "list",
        summary: "List jobs",
        about: "In the order in which they were submitted, a page at a time. A job that matches all through the listing appears exactly once.",
        query: &[
            STATE,
            IN_QUEUE,
            Parameter {
                name: "label",
                about: "With this label, as `NAME=VALUE`.",
                schema: |_| json_schema!({ "type": "string", "pattern": schema::LABEL }),
            },
            Parameter {
                name: "from",
                about: "With `run_at` not before this instant.",
                schema: Timestamp::json_schema,
            },
            Parameter {
                name: "to",
                about: "With `run_at` before this instant.",
                schema: Timestamp::json_schema,
            },
            text("submitted_by", "From this submitter."),
            Parameter {
                name: "guid_suffix",
                about: "Whose guid ends so.",
                schema: |_| json_schema!({ "type": "string", "pattern": "^(-*[0-9A-Fa-f]){1,32}-*$" }),
            },
            Parameter {
                name: "order",
                about: "Which come first. Default oldest.",
                schema: |_| json_schema!({ "type": "string", "enum": ["oldest", "newest"] }),
            },
            Parameter {
                name: "limit",
                about: "At most so many. Default 100.",
                schema: |_| json_schema!({ "type": "integer", "minimum": 1, "maximum": list::MAX_LIMIT }),
            },
            CURSOR,
        ],
        answers: &[(200, "A page of records.", json_of!(list::Jobs))],
        problems: &[&INVALID_CURSOR],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/jobs:batch",
        scope: Some(Scope::Submit),
        handler: handler!(batch::submit),
        id: "submit_batch",
        summary: "Submit many jobs",
        about: "Atomic: all or none, at most 10,000 jobs and 16 MiB. Itemised (`atomic=false`): each by itself; as application/x-ndjson of any length, with the answers streaming back while the jobs stream in; as an array at most 16 MiB. The answer has one line for each job, in order, `{\"item\": 1, \"guid\": \"…\", \"created\": true}` or `{\"item\": 2, \"problem\": {…}}`, and a last one with the sums, or with the problem at which it broke off; every job answered with a guid is stored. If the client goes away midway, what had come to the store is stored.",
        query: &[Parameter {
            name: "atomic",
            about: "All or none (the default), or each by itself.",
            schema: |_| json_schema!({ "type": "boolean" }),
        }],
        body: &[json_of!(Vec<JobSpec>), Content { media: "application/x-ndjson", schema: schema::text }],
        answers: &[
            (200, "Atomic: all of them are stored. Itemised: one line for each.", json_of!(batch::Stored)),
            (200, "", Content { media: "application/x-ndjson", schema: schema::text }),
        ],
        problems: &[&INVALID_JOB, &CONFLICT, &BUSY, &COMMIT_UNKNOWN, &DISK_FULL],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/jobs:cancel",
        scope: Some(Scope::Admin),
        handler: handler!(cancel::many),
        id: "cancel_many",
        summary: "Cancel jobs by a filter",
        about: "Of the jobs that are there now, those that match and are not final. Works for about 10 s at most, then gives a cursor to go on with. Without a filter, `\"all\": true` must be said.",
        body: &[json_of!(cancel::Which)],
        answers: &[(200, "What was done.", BULK)],
        problems: &[&NO_FILTER, &INVALID_CURSOR, &COMMIT_UNKNOWN, &DISK_FULL],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/jobs/{guid}:cancel",
        scope: Some(Scope::Cancel),
        handler: handler!(cancel::one),
        id: "cancel",
        summary: "Cancel a job",
        about: "The answer is final: after `cancelled` no start begins.",
        answers: &[(200, "It is cancelled.", json_of!(cancel::Cancelled))],
        problems: &[&TOO_LATE, &COMMIT_UNKNOWN, &DISK_FULL],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/jobs/{guid}:reschedule",
        scope: Some(Scope::Cancel),
        handler: handler!(jobs::reschedule),
        id: "reschedule",
        summary: "Change when a pending job is to start",
        body: &[json_of!(jobs::Move)],
        answers: &[(200, "Its record now.", RECORD)],
        problems: &[&NOT_PENDING, &PAST_DEADLINE, &COMMIT_UNKNOWN, &DISK_FULL],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/jobs/{guid}:start-now",
        scope: Some(Scope::Cancel),
        handler: handler!(jobs::start_now),
        id: "start_now",
        summary: "Let a pending job start now",
        answers: &[(200, "Its record now.", RECORD)],
        problems: &[&NOT_PENDING, &PAST_DEADLINE, &COMMIT_UNKNOWN, &DISK_FULL],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/jobs/{guid}:resolve",
        scope: Some(Scope::Admin),
        handler: handler!(jobs::resolve),
        id: "resolve",
        summary: "Decide on a job of which it is unknown whether it started",
        body: &[json_of!(jobs::Decision)],
        answers: &[(200, "Its record now.", RECORD)],
        problems: &[&NOT_UNKNOWN, &COMMIT_UNKNOWN, &DISK_FULL],
        ..PLAIN
    },
    Route {
        pattern: "/v1/jobs/{guid}",
        scope: Some(Scope::Read),
        handler: handler!(jobs::show),
        id: "show",
        summary: "A job's record",
        query: &[Parameter {
            name: "wait",
            about: "Answer when the job is final, or after this long, as in `30s`; at most 5m. Sooner while others wait for a connection.",
            schema: Span::json_schema,
        }],
        answers: &[(200, "Its record.", RECORD)],
        ..PLAIN
    },
    Route {
        pattern: "/v1/queues",
        scope: Some(Scope::Read),
        handler: handler!(queues::list),
        id: "list_queues",
        summary: "List queues",
        about: "Those that have jobs or limits.",
        answers: &[(200, "All queues.", json_of!(queues::Queues))],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/queues/{name}:pause",
        scope: Some(Scope::Admin),
        handler: handler!(queues::pause),
        id: "pause_queue",
        summary: "Start nothing more of a queue",
        answers: &[(200, "The queue now.", QUEUE)],
        problems: &[&INVALID_QUEUE, &DISK_FULL],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/queues/{name}:resume",
        scope: Some(Scope::Admin),
        handler: handler!(queues::resume),
        id: "resume_queue",
        summary: "Start the jobs of a queue again",
        answers: &[(200, "The queue now.", QUEUE)],
        problems: &[&INVALID_QUEUE, &DISK_FULL],
        ..PLAIN
    },
    Route {
        method: Method::POST,
        pattern: "/v1/queues/{name}:purge",
        scope: Some(Scope::Admin),
        handler: handler!(cancel::purge),
        id: "purge_queue",
        summary: "Cancel what is pending in a queue",
        about: "Works for about 10 s at most, then gives a cursor to go on with.",
        body: &[json_of!(cancel::Continue)],
        body_optional: true,
        answers: &[(200, "What was done.", BULK)],
        problems: &[&INVALID_CURSOR, &COMMIT_UNKNOWN, &DISK_FULL],
        ..PLAIN
    },
    Route {
        pattern: "/v1/queues/{name}",
        scope: Some(Scope::Read),
        handler: handler!(queues::show),
        id: "show_queue",
        summary: "A queue",
        answers: &[(200, "The queue.", QUEUE)],
        problems: &[&NO_QUEUE],
        ..PLAIN
    },
    Route {
        method: Method::PUT,
        pattern: "/v1/queues/{name}",
        scope: Some(Scope::Admin),
        handler: handler!(queues::set),
        id: "set_queue",
        summary: "Set the limits of a queue",
        about: "Replaces them all. They hold from now on, also after a restart.",
        body: &[json_of!(QueueLimits)],
        answers: &[(200, "The queue now.", QUEUE)],
        problems: &[&INVALID_QUEUE, &DISK_FULL],
        ..PLAIN
    },
    Route {
        method: Method::DELETE,
        pattern: "/v1/queues/{name}",
        scope: Some(Scope::Admin),
        handler: handler!(queues::forget),
        id: "forget_queue",
        summary: "Forget the limits of a queue",
        about: "Its jobs stay.",
        answers: &[(200, "The queue now.", QUEUE)],
        problems: &[&INVALID_QUEUE, &DISK_FULL],
        ..PLAIN
    },
    Route {
        pattern: "/v1/stats",
        scope: Some(Scope::Read),
        handler: handler!(health::stats),
        id: "stats",
        summary: "How much there is to do",
        answers: &[(200, "Now.", json_of!(health::Stats))],
        ..PLAIN
    },
    Route {
        pattern: "/v1/nodes",
        scope: Some(Scope::Read),
        handler: handler!(health::nodes),
        id: "list_nodes",
        summary: "The nodes that share the store",
        about: "Who is alive, how far behind its heartbeat is, and what it had in flight then. Where the store is not shared, the daemon that answers is the only one.",
        answers: &[(200, "All that are registered.", json_of!(health::Nodes))],
        ..PLAIN
    },
    Route {
        pattern: "/v1/events",
        scope: Some(Scope::Read),
        handler: handler!(events::listen),
        id: "events",
        summary: "Changes of state as they happen",
        about: "Server-sent events of this node from now on, or from after the one that Last-Event-ID names: `event: job` with `{\"guid\", \"queue\", \"state\", \"attempt\", \"at\"}`. `event: lagged` with `{\"missed\": n}` says that a slow or late listener missed n events, or, with null, that nobody knows how many; read what matters from the records. A comment comes at least each 15 s.",
        query: &[
            Parameter { name: "guid", about: "Of this job.", schema: Guid::json_schema },
            IN_QUEUE,
            STATE,
        ],
        headers: &[Parameter {
            name: "Last-Event-ID",
            about: "The `id` of the last event seen.",
            schema: |_| json_schema!({ "type": "string", "pattern": "^[0-9]{0,19}$" }),
        }],
        answers: &[(
            200,
            "A stream without an end.",
            Content { media: "text/event-stream", schema: schema::text },
        )],
        problems: &[&TOO_MANY_STREAMS],
        ..PLAIN
    },
    Route {
        pattern: "/metrics",
        scope: Some(Scope::Read),
        handler: handler!(health::metrics),
        id: "metrics",
        summary: "Measurements for Prometheus",
        answers: &[(
            200,
            "OpenMetrics text.",
            Content { media: "application/openmetrics-text", schema: schema::text },
        )],
        ..PLAIN
    },
    Route {
        pattern: "/healthz",
        handler: handler!(health::healthz),
        id: "healthz",
        summary: "Whether the daemon lives",
        about: "It does, too, while its store cannot be reached for a while.",
        answers: &[(200, "It does.", json_of!(health::Health))],
        problems: &[&STOPPING, &STORE_BROKEN],
        ..PLAIN
    },
    Route {
        pattern: "/readyz",
        handler: handler!(health::readyz),
        id: "readyz",
        summary: "Whether the daemon takes jobs, and how durably",
        answers: &[(200, "It does.", json_of!(health::Ready))],
        problems: &[&STOPPING, &STORE_BROKEN, &STORE_UNAVAILABLE],
        ..PLAIN
    },
    Route {
        pattern: "/openapi.json",
        handler: handler!(openapi::show),
        id: "openapi",
        summary: "This description",
        answers: &[(200, "OpenAPI 3.1.", Content { media: "application/json", schema: schema::any_object })],
        ..PLAIN
    },
    Route {
        pattern: "/problems/{kind}",
        handler: handler!(health::explain),
        id: "explain",
        summary: "What a kind of problem means",
        answers: &[(200, "The kind, explained.", json_of!(health::Explained))],
        problems: &[&NO_PROBLEM],
        ..PLAIN
    },
];

/// What operations belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag {
    Jobs,
    Queues,
    Daemon,
}

impl Tag {
    pub(crate) const ALL: [Self; 3] = [Self::Jobs, Self::Queues, Self::Daemon];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Queues => "queues",
            Self::Daemon => "daemon",
        }
    }

    pub(crate) const fn about(self) -> &'static str {
        match self {
            Self::Jobs => "Submit jobs, look at them, and change what has not begun.",
            Self::Queues => "What waits where, and its limits.",
            Self::Daemon => "How the daemon is, and what it says as things happen.",
        }
    }
}

impl Route {
    pub(crate) fn tag(&self) -> Tag {
        if self.pattern.starts_with("/v1/jobs") {
            Tag::Jobs
        } else if self.pattern.starts_with("/v1/queues") {
            Tag::Queues
        } else {
            Tag::Daemon
        }
    }

    /// Whether a name that no queue can have is refused, not just unknown.
    pub(crate) fn checks_queue(&self) -> bool {
        self.problems.iter().any(|kind| kind.name == INVALID_QUEUE.name)
    }

    /// The name of the variable part of the path.
    pub(crate) fn part_name(&self) -> Option<&'static str> {
        Some(self.pattern.split_once('{')?.1.split_once('}')?.0)
    }

    /// Every kind of problem that it may answer with, but for 405.
    pub(crate) fn kinds(&self) -> Vec<&'static Kind> {
        let mut kinds: Vec<&Kind> =
            vec![&INVALID_PARAMETER, &BAD_HOST, &HOST_NOT_ALLOWED, &ORIGIN_NOT_ALLOWED];
        let mut also = |more: &[&'static Kind]| kinds.extend(more);
        if self.scope.is_some() {
            also(&[&UNAUTHORIZED, &FORBIDDEN, &OTHER_USER, &STOPPING, &STORE_BROKEN, &STORE_UNAVAILABLE]);
        }
        if let Some(part) = self.part_name() {
            also(&[&INVALID_PATH, &NO_ROUTE]);
            if part == "guid" {
                also(&[&INVALID_GUID, &NO_JOB]);
            }
        }
        if self.method != Method::GET {
            also(&[&INVALID_BODY, &BODY_TIMEOUT, &TOO_LARGE]);
        }
        if !self.body.is_empty() {
            also(&[&UNSUPPORTED_MEDIA_TYPE]);
        }
        also(self.problems);
        kinds
    }
}
