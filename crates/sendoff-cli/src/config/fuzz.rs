//! The configuration's file, and what is shown of it.

use serde_json::Value;

use super::{Config, DatabaseUrl, Entry, KEYS, Kind, default, file, tree};

/// As no key or value is called.
const SECRET: &str = "hunter2-hunter2";

/// A file; and what may stand behind the password of a database.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    passwords(text);
    match file::read("f", text) {
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in &faults {
                let rest = fault.strip_prefix("f, line ").unwrap_or_else(|| panic!("{fault}"));
                let (line, words) = rest.split_once(": ").unwrap_or_else(|| panic!("{fault}"));
                let line: usize = line.parse().unwrap_or_else(|_| panic!("{fault}"));
                assert!((1..=text.matches('\n').count() + 1).contains(&line) && !words.is_empty(), "{fault}");
            }
        }
        Ok(entries) => {
            entries.iter().for_each(again);
            whole(entries);
        }
    }
}

/// A value is read as the same from a file, and from the words that its flag takes.
fn again(entry: &Entry) {
    let Entry { key, value, .. } = entry;
    let text = format!("{} = {}", key.name, toml::Value::try_from(value).expect("a value has a TOML form"));
    let read = file::read("f", &text).unwrap_or_else(|faults| panic!("{text}: {faults:?}"));
    assert!(read.len() == 1 && read[0].key == *key && read[0].value == *value, "{text}");
    let words = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (item, values) = match (key.kind, value) {
        (Kind::List(item), Value::Array(values)) => (*item, values.as_slice()),
        (kind, value) => (kind, std::slice::from_ref(value)),
    };
    for value in values {
        assert_eq!(item.read(&words(value)).as_ref(), Ok(value), "{}", key.name);
    }
}

/// With the defaults it is a configuration, or what is wrong names a key.
fn whole(given: Vec<Entry>) {
    let mut entries: Vec<Entry> = KEYS
        .iter()
        .map(|key| match key.name {
            // These depend on where it runs.
            "store" | "socket" | "tokens" => {
                Entry { key, value: format!("/srv/{}", key.name).into(), origin: super::Origin::Default }
            }
            _ => default(key).unwrap_or_else(|faults| panic!("{faults}")),
        })
        .collect();
    for entry in given {
        if let Some(held) = entries.iter_mut().find(|held| held.key == entry.key) {
            *held = entry;
        }
    }
    let read: Result<Config, _> = serde_json::from_value(tree(&entries));
    let config = read.unwrap_or_else(|err| panic!("each value is right, and together they are not: {err}"));
    for fault in config.faults() {
        let named =
            KEYS.iter().any(|key| fault.starts_with(key.name)) || fault.starts_with("there is nothing");
        assert!(named, "{fault}");
    }
    // A policy is made of it, and the grants.
    let policy = config.policy();
    assert_eq!((policy.grant(true).reach, policy.grant(false).reach), (policy.local, policy.everyone));
}

fn passwords(rest: &str) {
    if rest.contains("hunter2") {
        return;
    }
    let separator = if rest.contains('?') { '&' } else { '?' };
    for text in [
        format!("postgres://u:{SECRET}@{rest}"),
        format!("postgresql://{rest}{separator}password={SECRET}"),
        format!("postgresql://{rest}{separator}p%61ssword={SECRET}"),
    ] {
        let url = DatabaseUrl::given(&text).expect("it begins like one");
        assert!(
            !url.to_string().contains("hunter2") && !format!("{url:?}").contains("hunter2"),
            "{text}: {url}"
        );
        assert_eq!(url.with_password(Some("other")), text, "it has one");
    }
}
