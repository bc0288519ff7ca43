//! The JSON Schemas say what is accepted and what is told.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use schemars::{JsonSchema, generate::SchemaSettings};
use sendoff::{
    Guid, JobRecord, JobSpec, Notice, QueueLimits, Scheduler, State, ports::Counts,
    starter::SimulatedStarter, time::Span,
};
use serde_json::{Value, json};

fn accepted<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_deserialize().into_generator().into_root_schema_for::<T>().to_value()
}

fn told<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

/// So many texts that match what stands at this place of the schema.
fn matching(schema: &Value, pointer: &str, count: usize) -> Vec<String> {
    let pattern = schema.pointer(pointer).and_then(Value::as_str).expect(pointer);
    let inner = pattern.strip_prefix('^').and_then(|pattern| pattern.strip_suffix('$')).expect(pattern);
    let texts = proptest::string::string_regex(inner).expect(pattern);
    let mut runner = TestRunner::new(Config::default());
    (0..count).map(|_| texts.new_tree(&mut runner).unwrap().current()).collect()
}

fn check(job: &Value) -> sendoff::Result<()> {
    let checker = Scheduler::builder().starter(SimulatedStarter).checker()?;
    checker.check(&JobSpec::from_json(job.to_string().as_bytes())?)
}

fn with(field: &str, value: impl Into<Value>) -> Value {
    let mut job = json!({"start": {"simulated": {"delay": "1ms"}}});
    job[field] = value.into();
    job
}

#[test]
fn what_the_schema_accepts_is_accepted() {
    let schema = accepted::<JobSpec>();
    for name in matching(&schema, "/properties/queue/pattern", 300) {
        check(&with("queue", name.clone())).unwrap();
        check(&with("labels", json!({name: "x".repeat(1_024)}))).unwrap();
    }
    for key in matching(&schema, "/properties/idempotency_key/pattern", 300) {
        check(&with("idempotency_key", key)).unwrap();
    }
    for span in matching(&schema, "/properties/delay/pattern", 300) {
        if span.len() >= 2 {
            check(&with("delay", span.clone())).unwrap_or_else(|err| panic!("{span}: {err}"));
            assert!(span.parse::<Span>().is_ok());
        }
    }
    for priority in 0..=9 {
        check(&with("priority", priority)).unwrap();
    }
    assert_eq!(
        (&schema["properties"]["priority"]["minimum"], &schema["properties"]["priority"]["maximum"]),
        (&json!(0), &json!(9))
    );
    let examples = schema.pointer("/properties/delay/examples").and_then(Value::as_array).unwrap();
    assert!(examples.iter().all(|example| check(&with("delay", example.clone())).is_ok()));
}

#[test]
fn what_the_schema_refuses_is_refused() {
    let schema = accepted::<JobSpec>();
    assert_eq!(schema["required"], json!(["start"]));
    assert_eq!(schema["additionalProperties"], json!(false));
    for definition in ["Retry", "Simulated"] {
        assert_eq!(schema["$defs"][definition]["additionalProperties"], json!(false), "{definition}");
    }
    for (field, value) in [
        ("queue", json!("../etc")),
        ("queue", json!(".q")),
        ("queue", json!("q".repeat(101))),
        ("priority", json!(10)),
        ("guid", json!("7")),
        ("run_at", json!("tomorrow")),
        ("delay", json!("90")),
        ("delay", json!("1s1h")),
        ("idempotency_key", json!("")),
        ("idempotency_key", json!("a\u{7f}")),
        ("labels", json!({"a": "x".repeat(1_025)})),
        ("labels", json!({"a b": "x"})),
        ("retry", json!({"max_attempts": 0})),
        ("retry", json!({"max_attempts": 1_001})),
        ("quue", json!("q")),
    ] {
        assert!(check(&with(field, value.clone())).unwrap_err().is_invalid(), "{field}: {value}");
    }
    let mut both = with("delay", "1s");
    both["run_at"] = json!(null);
    check(&both).unwrap();
    both["run_at"] = json!("2030-01-01T00:00:00Z");
    check(&both).unwrap_err();
    assert_eq!(schema.pointer("/allOf/0/not/required"), Some(&json!(["run_at", "delay"])));
}

#[test]
fn a_start_is_one_of_the_starters() {
    let schema = accepted::<JobSpec>();
    let kinds = schema.pointer("/$defs/Start/oneOf").and_then(Value::as_array).unwrap();
    let names: Vec<_> = kinds.iter().map(|kind| kind["required"][0].as_str().unwrap()).collect();
    let expected = [
        #[cfg(feature = "http")]
        "http",
        #[cfg(feature = "process")]
        "process",
        "simulated",
    ];
    assert_eq!(names, expected);
    for (kind, name) in kinds.iter().zip(names) {
        assert_eq!(kind["additionalProperties"], json!(false));
        let payload = kind["properties"][name]["$ref"].as_str().unwrap();
        let payload = schema.pointer(payload.trim_start_matches('#')).unwrap();
        assert_eq!(payload["additionalProperties"], json!(false), "{name}");
        assert!(payload["description"].is_string(), "{name} says what it is");
    }
}

#[test]
fn what_is_told_has_all_its_fields() {
    let schema = told::<JobRecord>();
    let record: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
    assert_eq!(schema["required"].as_array().unwrap().len(), record.len(), "an absent fact is null");
    assert_eq!(schema.pointer("/properties/started_at/format"), Some(&json!("date-time")));
    assert_eq!(schema.pointer("/properties/started_at/type"), Some(&json!(["string", "null"])));
    let states = schema.pointer("/$defs/State/oneOf").and_then(Value::as_array).unwrap();
    let states: Vec<_> = states.iter().map(|state| state["const"].as_str().unwrap()).collect();
    assert_eq!(states, State::ALL.map(State::as_str));

    let notice = Notice {
        guid: Guid::from_bytes([1; 16]),
        queue: "q".into(),
        state: State::Started,
        attempt: 2,
        at: "2030-01-01T00:00:00Z".parse().unwrap(),
    };
    let notice = serde_json::to_value(notice).unwrap();
    assert_eq!(
        notice,
        json!({"guid": "01010101-0101-0101-0101-010101010101", "queue": "q", "state": "started",
               "attempt": 2, "at": "2030-01-01T00:00:00.000000Z"})
    );
    let schema = told::<Notice>();
    assert!(notice.as_object().unwrap().keys().all(|field| schema["properties"][field].is_object()));
    assert!(told::<Counts>()["properties"]["queues"].is_object());
}

#[test]
fn limits_of_a_queue_are_at_least_one() {
    let schema = accepted::<QueueLimits>();
    assert_eq!(schema["additionalProperties"], json!(false));
    assert_eq!(schema.pointer("/properties/max_in_flight/minimum"), Some(&json!(1)));
    assert_eq!(schema.pointer("/$defs/Rate/properties/starts/minimum"), Some(&json!(1)));
    assert_eq!(schema.pointer("/$defs/Rate/properties/burst/minimum"), Some(&json!(1)));
}
