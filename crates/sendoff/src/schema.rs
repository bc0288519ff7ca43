//! JSON Schemas that no derive could know: texts with a form, and the starters that there are.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

#[cfg(feature = "http")]
use crate::starter::Http;
#[cfg(feature = "process")]
use crate::starter::Process;
use crate::{
    guid::Guid,
    job::{Payload, Start},
    starter::Simulated,
    time::{Span, Timestamp},
};

impl JsonSchema for Guid {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Guid".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "uuid"})
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({"type": "string", "format": "date-time"});
        if generator.contract().is_deserialize() {
            schema.insert("pattern".into(), "^(19[7-9]|[2-9][0-9][0-9])[0-9]-".into());
            // A local time with its zone is read as well, and is no date-time: it is told in words.
            schema.insert(
                "description".into(),
                "RFC 3339, of the years 1970 to 9999; or a local time with an IANA zone, like \
                 2027-01-01T09:00[Europe/Paris]"
                    .into(),
            );
        }
        schema
    }
}

impl JsonSchema for Span {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    /// As many digits as may be given in all stay within the year 9999.
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let pattern = if generator.contract().is_deserialize() {
            "^([0-9]{1,5}w)?([0-9]{1,5}d)?([0-9]{1,7}h)?([0-9]{1,9}m)?([0-9]{1,10}s)?\
             ([0-9]{1,12}ms)?([0-9]{1,15}us)?$"
        } else {
            "^([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?([0-9]+us)?$"
        };
        json_schema!({
            "type": "string",
            "minLength": 2,
            "pattern": pattern,
            "examples": ["250ms", "90s", "1h30m"],
        })
    }
}

impl JsonSchema for Start {
    fn schema_name() -> Cow<'static, str> {
        "Start".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let kinds = [
            #[cfg(feature = "http")]
            kind::<Http>(generator),
            #[cfg(feature = "process")]
            kind::<Process>(generator),
            kind::<Simulated>(generator),
        ];
        json_schema!({
            "description": "What to start: exactly one starter, with what it is to start.",
            "oneOf": kinds,
        })
    }
}

fn kind<P: Payload + JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let payload = generator.subschema_for::<P>();
    json_schema!({
        "type": "object",
        "properties": {P::STARTER: payload},
        "required": [P::STARTER],
        "additionalProperties": false,
    })
}
