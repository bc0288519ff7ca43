//! What came of a move, for a person and for a program.

use std::{fmt::Write, path::Path, time::Duration};

use comfy_table::{Cell, CellAlignment, Table, presets};
use sendoff::{State, store::transfer::Report};
use serde_json::{Value, json};

use crate::run::{counted, grouped, printable};

pub(super) struct Told<'a> {
    pub(super) from: &'a Path,
    /// Without user and password.
    pub(super) to: Option<&'a str>,
    pub(super) dry_run: bool,
    pub(super) report: &'a Report,
}

impl Told<'_> {
    /// As one JSON object.
    pub(super) fn json(&self, exit_code: u8) -> Value {
        let report = self.report;
        let differences: Vec<_> =
            report.differences.iter().map(|one| json!({ "guid": one.guid, "what": one.what })).collect();
        let left = report.unreadable.iter();
        let left: Vec<_> =
            left.map(|one| json!({ "row": one.id.0, "guid": one.guid, "why": one.reason })).collect();
        json!({
            "from": self.from.display().to_string(),
            "to": self.to,
            "dry_run": self.dry_run,
            "rows": report.source.rows,
            "moved": report.moved,
            "there_before": report.skipped,
            "same": report.same,
            "went_on": report.went_on,
            "absent": report.absent,
            "reclaimed": report.reclaimed,
            "queues": report.counts,
            "differing": report.differing,
            "differences": differences,
            "left_behind": report.left_behind,
            "unreadable": left,
            "source_hash": report.source.to_string(),
            "target_hash": self.to.map(|_| report.target.to_string()),
            "moving_seconds": report.moving.as_secs_f64(),
            "checking_seconds": report.checking.as_secs_f64(),
            "rows_per_second": rate(report.moved, report.moving),
            "exit_code": exit_code,
        })
    }

    /// For a person.
    pub(super) fn text(&self) -> String {
        let report = self.report;
        let rows = counted(report.source.rows, "job");
        let mut text = match self.to {
            _ if report.source.rows == 0 => format!("{}: no jobs\n", self.from.display()),
            Some(to) if self.dry_run => {
                format!(
                    "{}: {rows}, {} of them not at {to} yet\n",
                    self.from.display(),
                    grouped(report.absent)
                )
            }
            Some(to) => format!("{}: {rows} at {to}\n", self.from.display()),
            None => format!("{}: {rows}\n", self.from.display()),
        };
        text.push_str(&self.table());
        let mut line = |words: String| text.push_str(&format!("\n{words}"));
        if !self.dry_run {
            line(format!(
                "moved {} in {} ({} a second), {} there before",
                grouped(report.moved),
                seconds(report.moving),
                grouped(rate(report.moved, report.moving)),
                grouped(report.skipped)
            ));
        }
        if self.to.is_some() {
            line(format!(
                "checked in {}: {} as they were, {} gone on since, {}, {} left behind",
                seconds(report.checking),
                grouped(report.same),
                grouped(report.went_on),
                counted(report.differing, "difference"),
                grouped(report.left_behind)
            ));
        }
        let there = match self.to {
            None => String::new(),
            Some(_) if report.source == report.target => ", the same there".to_owned(),
            Some(_) => format!(", there {}", report.target),
        };
        line(format!("hash {}{there}", report.source));
        if report.reclaimed > 0 {
            line(format!(
                "{} was under way when sendoff ended: see its record",
                counted(report.reclaimed as u64, "start")
            ));
        }
        for one in &report.unreadable {
            let name = one.guid.map_or_else(|| format!("row {}", one.id.0), |guid| guid.to_string());
            line(format!("left behind: {name}: {}", one.reason));
        }
        let more = report.left_behind - report.unreadable.len() as u64;
        if more > 0 {
            line(format!("and {} more", grouped(more)));
        }
        for one in &report.differences {
            let name = one.guid.map_or_else(String::new, |guid| format!("{guid}: "));
            line(format!("differs: {name}{}", printable(&one.what)));
        }
        let more = report.differing - report.differences.len() as u64;
        if more > 0 {
            line(format!("and {} more", grouped(more)));
        }
        text
    }

    fn table(&self) -> String {
        let states: Vec<_> = State::ALL.into_iter().filter(|state| self.report.total(*state) > 0).collect();
        if states.is_empty() {
            return String::new();
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let head = states.iter().map(|state| right(state.to_string().to_uppercase()));
        table.set_header(std::iter::once(Cell::new("QUEUE")).chain(head));
        for (queue, counts) in &self.report.counts {
            let cells = states.iter().map(|state| right(grouped(counts.get(state).copied().unwrap_or(0))));
            table.add_row(std::iter::once(Cell::new(printable(queue))).chain(cells));
        }
        if self.report.counts.len() > 1 {
            let cells = states.iter().map(|state| right(grouped(self.report.total(*state))));
            table.add_row(std::iter::once(Cell::new("all")).chain(cells));
        }
        let mut text = String::new();
        for line in table.lines() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{}", line.trim_end());
        }
        text.push('\n');
        text
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn rate(rows: u64, time: Duration) -> u64 {
    (rows as f64 / time.as_secs_f64().max(1e-3)).round() as u64
}
