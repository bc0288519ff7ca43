//! The schemas of the library's types, as the description of the API shows them.

use schemars::{Schema, SchemaGenerator, json_schema};
use sendoff::State;

/// A job's record.
pub(crate) fn record(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "description": "A job's record." })
}

/// A job as submitted.
pub(crate) fn spec(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "required": ["start"], "description": "A job to submit." })
}

/// A queue's limits.
pub(crate) fn limits(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "description": "The limits of a queue." })
}

/// A job's state.
pub(crate) fn state(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": State::ALL.map(State::as_str), "type": "string" })
}

/// What survives once something was acknowledged.
pub(crate) fn durability(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["memory", "disk", "replicated"], "type": "string" })
}

/// A guid.
pub(crate) fn guid(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "uuid" })
}

/// An instant as answers give it.
pub(crate) fn instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// An instant, or none.
pub(crate) fn instant_or_none(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "format": "date-time" })
}

/// An instant as requests may give it.
pub(crate) fn given_instant(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["string", "null"],
        "description": "RFC 3339, or a local time with an IANA zone, as in 2027-01-01T09:00[Europe/Paris].",
    })
}

/// A duration as requests may give it.
pub(crate) fn given_span(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "description": "A duration, as in 250ms, 90s, 1h30m or 3d." })
}

/// Jobs in an array.
pub(crate) fn specs(generator: &mut SchemaGenerator) -> Schema {
    let spec = spec(generator);
    json_schema!({ "type": "array", "items": spec })
}

/// Text that is not described further.
pub(crate) fn lines(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// An object that is not described further.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// A problem (RFC 9457), of one of these kinds.
pub(crate) fn problem() -> Schema {
    json_schema!({
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": { "type": "string", "description": "`/problems/KIND`: stable, for programs." },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "What is wrong and what to do, for people." },
        },
    })
}
