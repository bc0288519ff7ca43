//! A summary for a person, and for a program.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};
use sendoff::State;
use serde_json::{Value, json};

use super::{
    position::Position,
    summary::{Facts, NAMED, Named, Summary, Times},
};
use crate::sink::Totals;

/// All that a report tells of a run.
pub(crate) struct Report<'a> {
    /// How the run is called.
    pub(crate) name: &'a str,
    /// Where its jobs are.
    pub(crate) store: String,
    pub(crate) position: &'a Position,
    pub(crate) summary: &'a Summary,
    /// It had been finished before this command.
    pub(crate) finished_before: bool,
    pub(crate) sink: Option<Totals>,
}

impl Report<'_> {
    /// Everything that was accepted is final, and so is the input.
    fn is_finished(&self) -> bool {
        self.position.complete && self.summary.all.unfinished() == 0
    }

    /// As one JSON object.
    pub(crate) fn json(&self, exit_code: u8) -> Value {
        let Self { summary, position, .. } = self;
        let starters: serde_json::Map<String, Value> =
            summary.starters.iter().map(|(name, facts)| (name.to_string(), facts_json(facts))).collect();
        let mut value = facts_json(&summary.all);
        let rate = summary.rate();
        let more = json!({
            "run": self.name,
            "store": self.store,
            "generation": position.generation,
            "finished": self.is_finished(),
            "finished_before": self.finished_before,
            "lines": position.lines,
            "skipped_lines": position.skipped,
            "repeated_lines": position.repeats,
            "possible_duplicates": summary.possible_duplicates,
            "starts": rate.map_or(0, |rate| rate.starts),
            "seconds": rate.map(|rate| rate.seconds),
            "starts_per_second": rate.map(|rate| rate.per_second),
            "starters": starters,
            "failed": summary.failed,
            "unknown": summary.unknown,
            "sink": self.sink,
            "exit_code": exit_code,
        });
        if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
            value.extend(more);
        }
        value
    }

    /// As lines of text.
    pub(crate) fn text(&self) -> String {
        let Self { summary, position, .. } = self;
        let mut text = String::new();
        let state = match (self.finished_before, self.is_finished()) {
            (true, _) => "finished before; --again starts it over",
            (false, true) => "finished",
            (false, false) => "not finished",
        };
        let _ = writeln!(text, "{}: {state}", self.name);
        let _ = writeln!(text, "\n{}", table(summary).trim_fmt());
        if let Some(rate) = summary.rate() {
            let _ = writeln!(
                text,
                "\n{} in {}: {} a second",
                counted(rate.starts, "start"),
                time((rate.seconds * 1e6) as u64),
                grouped(rate.per_second.round() as u64)
            );
        }
        let times = &summary.all.wait;
        if !times.is_empty() {
            let _ = writeln!(text, "\nwait, from when a start was due to when it began");
            text.push_str(&histogram(times));
        }
        let notes = [
            (position.skipped, "line was no job and was skipped", "lines were no jobs and were skipped"),
            (position.repeats, "line repeated a job", "lines repeated jobs"),
            (
                summary.possible_duplicates,
                "job may have started more than once",
                "jobs may have started more than once",
            ),
        ];
        for (count, one, many) in notes {
            if count > 0 {
                let _ = writeln!(text, "{} {}", grouped(count), if count == 1 { one } else { many });
            }
        }
        named(&mut text, "failed", &summary.failed, summary.all.count(State::Failed));
        named(&mut text, "unknown, may have started", &summary.unknown, summary.all.count(State::Unknown));
        if let Some(sink) = &self.sink {
            let _ = writeln!(text, "\nsink: {sink}");
        }
        text
    }
}

fn facts_json(facts: &Facts) -> Value {
    let counts: serde_json::Map<String, Value> =
        State::ALL.iter().map(|state| (state.as_str().to_owned(), facts.count(*state).into())).collect();
    json!({
        "jobs": facts.jobs(),
        "counts": counts,
        "wait_us": times_json(&facts.wait),
        "took_us": times_json(&facts.took),
    })
}

fn times_json(times: &Times) -> Value {
    if times.is_empty() {
        return Value::Null;
    }
    json!({ "p50": times.quantile(0.5), "p99": times.quantile(0.99), "max": times.max() })
}

fn named(text: &mut String, what: &str, jobs: &[Named], count: u64) {
    if jobs.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{what}:");
    for job in jobs {
        let _ = write!(text, "  {}  {}", job.guid, job.starter);
        if let Some(target) = &job.target {
            let _ = write!(text, " {target}");
        }
        if let Some(error) = &job.error {
            let _ = write!(text, "  {}", printable(error));
        }
        text.push('\n');
    }
    let rest = count.saturating_sub(NAMED as u64);
    if rest > 0 {
        let _ = writeln!(text, "  and {} more", grouped(rest));
    }
}

/// Without what could drive a terminal: messages may quote what a target said.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let shown: Vec<State> = State::ALL
        .into_iter()
        .filter(|state| *state == State::Started || summary.all.count(*state) > 0)
        .collect();
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let mut head = vec![Cell::new("")];
    head.extend(shown.iter().map(|state| right(state.to_string())));
    head.extend(["wait p50", "p99", "max", "took p50", "p99", "max"].map(|text| right(text.into())));
    table.set_header(head);
    let all = [("all", &summary.all)];
    let more = summary.starters.len() != 1;
    let starters = summary.starters.iter().map(|(name, facts)| (&**name, facts));
    for (name, facts) in starters.chain(all.into_iter().filter(|_| more)) {
        let mut row = vec![Cell::new(name)];
        row.extend(shown.iter().map(|state| right(grouped(facts.count(*state)))));
        for times in [&facts.wait, &facts.took] {
            let values = [times.quantile(0.5), times.quantile(0.99), times.max()];
            row.extend(values.map(|value| right(if times.is_empty() { "-".into() } else { time(value) })));
        }
        table.add_row(row);
    }
    table
}

/// Bars over classes of 1, 2, 5 times a power of ten.
fn histogram(times: &Times) -> String {
    const WIDTH: u64 = 48;
    let bounds: Vec<u64> =
        (1..=13).flat_map(|power| [1, 2, 5].map(|step| step * 10_u64.pow(power))).collect();
    let first = bounds.iter().position(|&bound| times.min() < bound).unwrap_or(0);
    let last = bounds.iter().position(|&bound| times.max() < bound).unwrap_or(bounds.len() - 1);
    let mut classes = Vec::new();
    let mut low = 0;
    for (index, &high) in bounds.iter().enumerate().take(last + 1) {
        if index >= first {
            classes.push((high, times.between(low, high)));
            low = high;
        }
    }
    let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    let mut text = String::new();
    for (high, count) in classes {
        // In eighths of a character; what is there is seen.
        let eighths = (count * WIDTH * 8 / most).max(u64::from(count > 0));
        let full = usize::try_from(eighths / 8).unwrap_or(0);
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][usize::try_from(eighths % 8).unwrap_or(0)];
        let _ = writeln!(text, "  < {:>7}  {}{rest} {}", bound(high), "█".repeat(full), grouped(count));
    }
    text
}

fn bound(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{} s", grouped(micros / 1_000_000)),
    }
}

/// Microseconds with three digits.
pub(crate) fn time(micros: u64) -> String {
    let (value, unit) = match micros {
        0..1_000 => return format!("{micros} us"),
        1_000..1_000_000 => (micros as f64 / 1e3, "ms"),
        1_000_000..100_000_000 => (micros as f64 / 1e6, "s"),
        _ => return format!("{} s", grouped(micros / 1_000_000)),
    };
    let decimals = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.decimals$} {unit}")
}

/// With commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 start`, `2 starts`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 999, 1_000, 9_996, 99_951, 999_999, 1_500_000, 7_200_000_000].map(time),
            ["0 us", "999 us", "1.00 ms", "10.0 ms", "100 ms", "1000 ms", "1.50 s", "7,200 s"]
        );
    }

    #[test]
    fn what_could_drive_a_terminal_is_not_printed() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
