//! Whether two texts say the same, but for names and figures that differ from run to run.

use std::collections::BTreeMap;

/// Which name of the page stands for which name of this run.
#[derive(Default)]
pub(super) struct Names(BTreeMap<String, String>);

impl Names {
    /// The text with the names of this run.
    pub(super) fn actual(&self, text: &str) -> String {
        self.longest_first().fold(text.to_owned(), |text, (page, actual)| text.replace(page, actual))
    }

    /// The text with the page's names.
    pub(super) fn on_the_page(&self, text: &str) -> String {
        self.longest_first().fold(text.to_owned(), |text, (page, actual)| text.replace(actual, page))
    }

    /// A guid's end may be used by itself.
    fn longest_first(&self) -> impl Iterator<Item = (&String, &String)> {
        let mut names: Vec<_> = self.0.iter().collect();
        names.sort_by_key(|(page, _)| std::cmp::Reverse(page.len()));
        names.into_iter()
    }

    /// Whether what the page shows and what came agree. If so, the names in them are known from now on.
    /// A line `…` of the page stands for any number of lines.
    pub(super) fn agree(&mut self, shown: &str, came: &str) -> bool {
        let shown = tokens(shown);
        let came = tokens(came);
        let mut pieces: Vec<&[Token]> = shown.split(|token| token.kind == "<any>").collect();
        let last = pieces.pop().unwrap_or_default();
        let mut names = self.0.clone();
        let mut rest = &came[..];
        for (number, piece) in pieces.into_iter().enumerate() {
            while !take(&mut names, piece, &mut rest) {
                // The first piece stands at the beginning, others anywhere behind the one before.
                let Some((_, after)) = rest.split_first().filter(|_| number > 0) else { return false };
                rest = after;
            }
        }
        // The last one stands at the end.
        let whole = last.len() == shown.len();
        let skipped = rest.len().checked_sub(last.len()).filter(|skipped| *skipped == 0 || !whole);
        if !skipped.is_some_and(|skipped| take(&mut names, last, &mut &rest[skipped..])) {
            return false;
        }
        self.0 = names;
        true
    }
}

/// Takes what the page shows from the beginning of `rest`, if it is there, and learns its names.
fn take(names: &mut BTreeMap<String, String>, shown: &[Token], rest: &mut &[Token]) -> bool {
    let Some((came, after)) = rest.split_at_checked(shown.len()) else { return false };
    let mut learned = names.clone();
    for (shown, came) in shown.iter().zip(came) {
        if NAMES.contains(&shown.kind.as_str()) && shown.kind == came.kind {
            if learned.entry(shown.text.clone()).or_insert_with(|| came.text.clone()) != &came.text {
                return false;
            }
            if shown.kind == "<guid>" {
                learned.insert(end(&shown.text), end(&came.text));
            }
        } else if shown.kind != came.kind && learned.get(&shown.text) != Some(&came.text) {
            return false;
        }
    }
    *names = learned;
    *rest = after;
    true
}

/// Kinds of words that mean the same thing wherever they stand.
const NAMES: [&str; 5] = ["<guid>", "<secret>", "<cursor>", "<address>", "<uid>"];

fn end(guid: &str) -> String {
    guid[guid.len() - 8..].to_owned()
}

/// A word as it stands, and as what it counts.
struct Token {
    kind: String,
    text: String,
}

/// Words before figures that are as they happen to be.
const VARYING: [&str; 7] =
    ["wait_us", "took_us", "pid", "id", "uptime_seconds", "oldest_overdue_seconds", "clock_skew_us"];

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut key = String::new();
    for line in text.lines() {
        let metric = line.starts_with("sendoff_");
        for word in words(line) {
            let varies = VARYING.contains(&key.as_str()) || metric;
            // Where a node runs: behind its name in a table, behind the member's name in JSON.
            let address = key == "address" || is_guid(&key);
            let kind = kind(&word, varies, key == "next_cursor", address && word.contains(':'));
            if word.chars().any(|c| c.is_ascii_alphabetic() || c == '_') {
                key.clone_from(&word);
            }
            let kind = if line.trim() == "…" { "<any>".into() } else { kind };
            if let Some(figure) = tokens.last_mut().filter(|_| kind == "<unit>") {
                figure.kind = "<number>".into();
            }
            let repeats = kind == "<span>" && tokens.last().is_some_and(|last| last.kind == "<span>");
            if !repeats {
                tokens.push(Token { kind, text: word });
            }
        }
    }
    tokens
}

/// The line in words and single signs; white space and the lines of tables count for nothing.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for c in line.chars() {
        let part = c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '+');
        if part && open {
            words.last_mut().unwrap().push(c);
        } else if !c.is_whitespace() && !('\u{2500}'..='\u{259f}').contains(&c) {
            words.push(c.to_string());
        }
        open = part;
    }
    for word in &mut words {
        let bare = word.trim_end_matches([':', '.']).len();
        word.truncate(bare.max(1));
    }
    words.retain(|word| word.chars().any(|c| c != '-'));
    words
}

fn kind(word: &str, varies: bool, cursor: bool, address: bool) -> String {
    let number = word.parse::<f64>().is_ok() && word.starts_with(|c: char| c.is_ascii_digit());
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if is_guid(word) {
        "<guid>".into()
    } else if word.len() >= 10 && digits(&word[..4]) && word[4..].starts_with('-') && digits(&word[5..7]) {
        "<time>".into()
    } else if word.starts_with("127.0.0.1:") {
        "<address>".into()
    } else if address {
        "<process>".into()
    } else if word.starts_with("uid:") {
        "<uid>".into()
    } else if word.starts_with("sdo_") {
        "<secret>".into()
    } else if cursor {
        if word == "null" { "null".into() } else { "<cursor>".into() }
    } else if number && varies {
        "<number>".into()
    } else if matches!(word, "us" | "ms" | "s") {
        "<unit>".into()
    } else if is_span(word) {
        "<span>".into()
    } else {
        word.to_owned()
    }
}

fn is_guid(word: &str) -> bool {
    let sizes: Vec<_> = word.split('-').map(str::len).collect();
    sizes == [8, 4, 4, 4, 12] && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// `2h`, `59m`, `1.5ms`, `1h30m`.
fn is_span(word: &str) -> bool {
    let mut rest = word;
    let mut parts = 0;
    while !rest.is_empty() {
        let figures = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        if figures.len() == rest.len() {
            return false;
        }
        let Some(unit) =
            ["us", "µs", "ms", "s", "m", "h", "d"].iter().find(|unit| figures.starts_with(**unit))
        else {
            return false;
        };
        rest = &figures[unit.len()..];
        parts += 1;
    }
    parts > 0
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn names_and_figures_may_differ_and_nothing_else() {
        let mut names = Names::default();
        assert!(names.agree(
            "job 0193aaaa-0000-7000-8000-00000000beef\ndue in 2h 59m 59s  2026-11-24T20:00:00Z \"wait_us\": 17",
            "job 0194bbbb-0000-7000-8000-00000000cafe\ndue in   3h  2027-01-01T00:00:00Z \"wait_us\": 170",
        ));
        assert_eq!(names.actual("sendoff show 0000beef"), "sendoff show 0000cafe");
        assert!(names.agree("a\n…\nc\n…\na", "a\nb\nc\na\na"));
        for (shown, came) in [
            ("a\n…\nc\n…\na", "a\nb\na\na"),
            ("…\na", "a\nb"),
            ("created 3", "created 4"),
            ("pending", "started"),
            ("a b", "a"),
            ("\"attempt\": 1", "\"attempt\": 2"),
        ] {
            assert!(!names.agree(shown, came), "{shown} | {came}");
        }
    }
}
