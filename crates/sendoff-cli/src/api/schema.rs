//! Schemas of what is no type.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A label as `NAME=VALUE`.
pub(crate) const LABEL: &str = r"^[^=\u0000]+=[^\u0000]*$";

/// A name that a queue can have.
pub(crate) fn queue(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,99}$" })
}

/// Text that is not described further.
pub(crate) fn text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string" })
}

/// An object that is not described further.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object" })
}

/// A problem (RFC 9457); further members say more.
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
