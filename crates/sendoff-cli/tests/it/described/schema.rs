//! Whether a value fits a JSON Schema, as far as the API's description uses the language.

use std::{cell::RefCell, collections::HashMap};

use regex_automata::meta::Regex;
use serde_json::Value;

/// A description, to which references lead.
pub(super) struct Schemas<'a> {
    root: &'a Value,
    patterns: RefCell<HashMap<String, Regex>>,
}

impl<'a> Schemas<'a> {
    pub(super) fn of(root: &'a Value) -> Self {
        Self { root, patterns: RefCell::default() }
    }

    /// What a schema or a response stands for.
    pub(super) fn follow<'s>(&self, schema: &'s Value) -> &'s Value
    where
        'a: 's,
    {
        match schema["$ref"].as_str() {
            Some(to) => self.root.pointer(&to[1..]).unwrap_or_else(|| panic!("{to} leads nowhere")),
            None => schema,
        }
    }

    /// Where and why `value` does not fit.
    pub(super) fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let Value::Object(keywords) = schema else {
            return if *schema == Value::Bool(false) {
                Err(format!("{value} where nothing may be"))
            } else {
                Ok(())
            };
        };
        for (keyword, rule) in keywords {
            self.keyword(schema, keyword, rule, value).map_err(|why| format!("{why} ({keyword})"))?;
        }
        Ok(())
    }

    pub(super) fn fits(&self, schema: &Value, value: &Value) -> bool {
        self.check(schema, value).is_ok()
    }

    fn keyword(&self, schema: &Value, keyword: &str, rule: &Value, value: &Value) -> Result<(), String> {
        let list = || rule.as_array().unwrap();
        let fitting = || list().iter().filter(|schema| self.fits(schema, value)).count();
        let bound = || rule.as_f64().unwrap();
        let number = value.as_f64();
        let length = value.as_str().map(|text| text.chars().count() as f64);
        let members = value.as_object().map(|members| members.len() as f64);
        let text = value.as_str();
        let fine = match keyword {
            "$ref" => return self.check(self.follow(schema), value),
            "allOf" => return list().iter().try_for_each(|schema| self.check(schema, value)),
            "anyOf" => fitting() > 0,
            "oneOf" => fitting() == 1,
            "not" => !self.fits(rule, value),
            "type" => match rule {
                Value::Array(types) => types.iter().any(|name| is(name, value)),
                name => is(name, value),
            },
            "const" => value == rule,
            "enum" => list().contains(value),
            "minimum" => number.is_none_or(|number| number >= bound()),
            "maximum" => number.is_none_or(|number| number <= bound()),
            "minLength" => length.is_none_or(|length| length >= bound()),
            "maxLength" => length.is_none_or(|length| length <= bound()),
            "maxProperties" => members.is_none_or(|members| members <= bound()),
            "pattern" => text.is_none_or(|text| self.matches(rule.as_str().unwrap(), text)),
            "format" => text.is_none_or(|text| of_format(rule.as_str().unwrap(), text)),
            "required" => {
                let missing = |name: &&Value| value.get(name.as_str().unwrap()).is_none();
                let missing = value.as_object().and_then(|_| list().iter().find(missing));
                return missing.map_or(Ok(()), |name| Err(format!("{name} is missing")));
            }
            "properties" => {
                let known = rule.as_object().unwrap().iter();
                let mut given = known.filter_map(|(name, schema)| Some((name, schema, value.get(name)?)));
                return given.try_for_each(|(name, schema, value)| {
                    self.check(schema, value).map_err(|why| format!("{name}: {why}"))
                });
            }
            "additionalProperties" => {
                let mut others = value.as_object().into_iter().flatten();
                return others.try_for_each(|(name, value)| match schema["properties"].get(name) {
                    Some(_) => Ok(()),
                    None => self.check(rule, value).map_err(|why| format!("{name}: {why}")),
                });
            }
            "propertyNames" => {
                let mut names = value.as_object().into_iter().flat_map(|members| members.keys());
                return names.try_for_each(|name| self.check(rule, &name.as_str().into()));
            }
            "items" => {
                return value.as_array().into_iter().flatten().try_for_each(|item| self.check(rule, item));
            }
            "title" | "description" | "default" | "examples" => true,
            _ => panic!("the keyword {keyword} is not known here; add it"),
        };
        if fine { Ok(()) } else { Err(format!("{value} does not fit {rule}")) }
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        let mut patterns = self.patterns.borrow_mut();
        let read = || Regex::new(pattern).unwrap_or_else(|err| panic!("{pattern}: {err}"));
        patterns.entry(pattern.to_owned()).or_insert_with(read).is_match(text)
    }
}

fn is(name: &Value, value: &Value) -> bool {
    match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        other => panic!("there is no type {other}"),
    }
}

fn of_format(format: &str, text: &str) -> bool {
    match format {
        "uuid" => text.parse::<sendoff::Guid>().is_ok(),
        "date-time" => text.parse::<sendoff::Timestamp>().is_ok(),
        // Of numbers: the bounds say as much.
        _ => true,
    }
}
