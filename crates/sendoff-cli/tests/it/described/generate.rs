//! Values as a schema wants them, and values that are off somewhere.

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::schema::Schemas;

/// All texts that are ever sent, so that no generated job can reach beyond this machine, run a
/// program or write a file, and no wait lasts.
pub(super) const TEXTS: &[&str] = &[
    "",
    "a",
    "0f",
    "7",
    "default",
    "x=y",
    "=",
    "a b&c%d/e?f#g",
    "é😀",
    "\0",
    "\u{7}",
    "a:pause",
    "true",
    "pending",
    "oldest",
    "GET",
    "POST",
    "CONNECT",
    "aGk=",
    "X-Test",
    "Host",
    "env:SENDOFF_TEST_NO_SUCH_VARIABLE",
    "file:/nonexistent/secret",
    "/nonexistent/file",
    "http://127.0.0.1:9/start",
    "https://localhost:9/?a=b",
    "http://user:word@127.0.0.1:9/",
    "http://",
    "ftp://127.0.0.1:9/",
    "0s",
    "1us",
    "250ms",
    "1h30m",
    "99999w",
    "-1s",
    "1970-01-01T00:00:00Z",
    "2027-01-01T09:00:00.5+01:00",
    "2027-01-01T09:00[Europe/Paris]",
    "9999-12-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "2027-13-01T00:00:00Z",
    "01890a5d-ac96-774b-bcce-b302099a8057",
    "00000000-0000-0000-0000-000000000000",
    "F47AC10B-58CC-4372-A567-0E02B2C3D479",
    "f47ac10b-58cc-4372-a567",
];
const NUMBERS: &[u64] = &[0, 1, 2, 9, 10, 1_000, 1_001, u32::MAX as u64, u32::MAX as u64 + 1, u64::MAX];

/// Draws values.
pub(super) struct Draw<'a> {
    pub(super) random: Rng,
    schemas: &'a Schemas<'a>,
}

impl<'a> Draw<'a> {
    pub(super) fn new(seed: u64, schemas: &'a Schemas<'a>) -> Self {
        Self { random: Rng::with_seed(seed), schemas }
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.random.u32(..times) == 0
    }

    pub(super) fn one<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        self.random.choice(of).expect("there is something to choose from")
    }

    pub(super) fn text(&mut self) -> &'static str {
        self.one::<&'static str>(TEXTS)
    }

    /// A value that fits the schema, if a few tries find one.
    pub(super) fn fitting(&mut self, schema: &Value) -> Value {
        for _ in 0..30 {
            let value = self.shaped(schema);
            if self.schemas.fits(schema, &value) {
                return value;
            }
        }
        self.shaped(schema)
    }

    /// A value of the schema's type; bounds between its parts may not hold.
    fn shaped(&mut self, schema: &Value) -> Value {
        let schemas = self.schemas;
        let schema = schemas.follow(schema);
        if let Some(only) = schema.get("const") {
            return only.clone();
        }
        if let Some(values) = schema["enum"].as_array() {
            return self.one(values).clone();
        }
        let name = match &schema["type"] {
            Value::Array(types) => self.one(types).as_str(),
            name => name.as_str(),
        };
        let Some(name) = name else {
            return match schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
                Some(branches) => {
                    let branch = self.one(branches);
                    self.fitting(branch)
                }
                None => self.anything(),
            };
        };
        match name {
            "object" => self.object(schema),
            "array" => (0..self.random.usize(..4)).map(|_| self.fitting(&schema["items"])).collect(),
            "string" => {
                let fits = |text: &&&str| schemas.fits(schema, &json!(text));
                let fitting: Vec<_> = TEXTS.iter().filter(fits).collect();
                if fitting.is_empty() { self.text().into() } else { json!(self.one(&fitting)) }
            }
            "integer" | "number" => {
                let fits = |number: &&u64| schemas.fits(schema, &json!(number));
                let fitting: Vec<_> = NUMBERS.iter().filter(fits).collect();
                if fitting.is_empty() { json!(0) } else { json!(self.one(&fitting)) }
            }
            "boolean" => self.random.bool().into(),
            _ => Value::Null,
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut members = Map::new();
        let required = schema["required"].as_array();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            if required.is_some_and(|names| names.contains(&json!(name))) || self.once_in(4) {
                members.insert(name.clone(), self.fitting(schema));
            }
        }
        if schema["additionalProperties"].is_object() {
            for _ in 0..self.random.usize(..3) {
                members.insert(self.text().to_owned(), self.fitting(&schema["additionalProperties"]));
            }
        }
        members.into()
    }

    fn anything(&mut self) -> Value {
        let text = self.text();
        let number = *self.one(NUMBERS);
        let all = [
            json!(null),
            json!(true),
            json!(-1.5),
            json!(number),
            json!(text),
            json!([text]),
            json!({ text: text }),
        ];
        self.one(&all).clone()
    }

    /// Changes something somewhere in the value.
    pub(super) fn spoil(&mut self, value: &mut Value) {
        match value {
            Value::Object(members) if !members.is_empty() && !self.once_in(5) => {
                let names: Vec<_> = members.keys().cloned().collect();
                let name = self.one(&names);
                match self.random.u32(..4) {
                    0 => {
                        members.remove(name);
                    }
                    1 => {
                        members.insert(format!("{name}s"), json!(1));
                    }
                    _ => self.spoil(&mut members[name]),
                }
            }
            Value::Array(items) if !items.is_empty() && !self.once_in(5) => {
                let item = self.random.usize(..items.len());
                self.spoil(&mut items[item]);
            }
            _ => *value = self.anything(),
        }
    }
}
