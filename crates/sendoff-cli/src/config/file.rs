//! The file: TOML, each key known, each fault with its line.

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::{
    Entry, Origin,
    keys::{KEYS, Key},
};

/// Reads all of it; each fault is one line of words.
pub(super) fn read(name: &str, text: &str) -> Result<Vec<Entry>, Vec<String>> {
    let mut reader = Reader { name, text, entries: Vec::new(), faults: Vec::new() };
    match DeTable::parse(text) {
        Ok(table) => reader.table("", table.get_ref()),
        Err(err) => {
            let at = err.span().map_or(0, |span| span.start);
            reader.fault(at, err.message());
        }
    }
    if reader.faults.is_empty() { Ok(reader.entries) } else { Err(reader.faults) }
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    entries: Vec<Entry>,
    faults: Vec<String>,
}

impl Reader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (word, value) in table {
            let name = format!("{prefix}{}", word.get_ref());
            let at = word.span().start;
            let is_table = KEYS.iter().any(|key| key.table() == name);
            match (Key::named(&name), value.get_ref()) {
                (Some(key), _) => match key.kind.read_toml(value) {
                    Ok(value) => self.entry(key, value, at),
                    Err((at, why)) => self.fault(at, &format!("{name}: {why}")),
                },
                (None, DeValue::Table(inner)) if is_table => self.table(&format!("{name}."), inner),
                (None, other) if is_table => {
                    self.fault(at, &format!("{name}: expected a table of keys, found {}", other.type_str()));
                }
                (None, _) => self.fault(at, &unknown(&name)),
            }
        }
    }

    fn entry(&mut self, key: &'static Key, value: Value, at: usize) {
        let origin = Origin::File { line: self.line(at) };
        self.entries.push(Entry { key, value, origin });
    }

    fn fault(&mut self, at: usize, words: &str) {
        self.faults.push(format!("{}, line {}: {words}", self.name, self.line(at)));
    }

    fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Words for a key that does not exist, with the nearest that does.
fn unknown(name: &str) -> String {
    let near = |known: &str| strsim::jaro_winkler(known, name);
    let best = KEYS.iter().map(|key| key.name).max_by(|a, b| near(a).total_cmp(&near(b)));
    let last = name.rsplit('.').next().unwrap_or(name);
    // A key in the wrong table is found by its last part.
    let same = KEYS.iter().map(|key| key.name).find(|known| known.rsplit('.').next() == Some(last));
    match same.or(best.filter(|known| near(known) > 0.8)) {
        Some(known) => format!("there is no key {name}; is it {known}?"),
        None => format!("there is no key {name}; `sendoff config show` lists all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> String {
        read("f", text).unwrap_err().join("\n")
    }

    #[test]
    fn values_have_their_lines() {
        let entries = read("f", "grace = '1m'\n\n[limits]\nconnections = 1_000\n").unwrap();
        let found: Vec<_> = entries.iter().map(|entry| (entry.key.name, entry.value.clone())).collect();
        assert!(
            found.contains(&("grace", "1m".into())) && found.contains(&("limits.connections", 1000.into()))
        );
        assert!(entries.iter().any(|entry| entry.origin == Origin::File { line: 4 }));
    }

    #[test]
    fn faults_name_key_line_and_what_is_expected() {
        assert_eq!(faults("grac = '1s'"), "f, line 1: there is no key grac; is it grace?");
        assert_eq!(
            faults("\nmax_in_flight = 3"),
            "f, line 2: there is no key max_in_flight; is it limits.max_in_flight?"
        );
        assert_eq!(
            faults("[limits]\nheader_timeout = 10"),
            "f, line 2: limits.header_timeout: expected a duration above zero, like \"10s\", found integer"
        );
        assert!(
            faults("listen = ['127.0.0.1:1',\n'x']").starts_with("f, line 2: listen: expected an address")
        );
        assert!(faults("limits = 3").contains("limits: expected a table of keys, found integer"));
        assert!(faults("zebra = 3").contains("`sendoff config show` lists all"));
        assert!(faults("a = \n[").starts_with("f, line "));
        let all = faults("grac = '1s'\nlog_format = 'xml'\ninsecure = 'yes'");
        assert_eq!(all.lines().count(), 3, "{all}");
    }
}
