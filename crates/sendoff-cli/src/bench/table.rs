//! A case as people read it.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{
    case::{Bound, Metric},
    report::{Judged, Measured},
    series::{Series, Spread},
};
use crate::run::{grouped, time};

/// The case's name, a table of its sides, and its goals.
pub(super) fn case(measured: &Measured) -> String {
    let case = &measured.case;
    let has =
        |figure: fn(&Series) -> Option<Spread>| measured.series.iter().any(|series| figure(series).is_some());
    let (rate, cpu, bytes) = (has(Series::rate), has(Series::cpu_us), has(Series::bytes));
    let times = measured.series.iter().any(|series| series.quantile(0.5).is_some());
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut head = vec![Cell::new("")];
    let columns = [
        (rate, "a second"),
        (rate, "range"),
        (rate, "ratio"),
        (cpu, "CPU us"),
        (times, "p50"),
        (times, "p99"),
        (times, "p99.9"),
        (bytes, "bytes"),
        (bytes, "range"),
    ];
    head.extend(columns.iter().filter(|(shown, _)| *shown).map(|(_, name)| right(*name)));
    table.set_header(head);
    for (side, series) in measured.sides() {
        let figures = [
            (rate, series.rate().map(|rate| number(rate.median))),
            (rate, series.rate().map(range)),
            (rate, ratio(measured, &side.name)),
            (cpu, series.cpu_us().map(|cpu| format!("{:.2}", cpu.median))),
            (times, quantile(series, 0.5)),
            (times, quantile(series, 0.99)),
            (times, quantile(series, 0.999)),
            (bytes, series.bytes().map(|bytes| number(bytes.median))),
            (bytes, series.bytes().map(range)),
        ];
        let mut row = vec![Cell::new(&side.name)];
        row.extend(
            figures.into_iter().filter(|(shown, _)| *shown).map(|(_, text)| right(text.unwrap_or_default())),
        );
        table.add_row(row);
    }
    let mut text = format!("{} {}: {}\n", case.workload, case.name, case.what);
    for line in table.lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if times {
        let _ = writeln!(text, "  times {}", case.times);
    }
    for (side, series) in measured.sides() {
        let more: Vec<_> = series.more().into_iter().map(more).collect();
        if !more.is_empty() {
            let _ = writeln!(text, "  {}: {}", side.name, more.join(", "));
        }
    }
    for judged in measured.judged() {
        let _ = writeln!(text, "  {}", goal(&judged));
    }
    text
}

/// `idle cpu percent 0.1`.
fn more((name, spread): (&str, Spread)) -> String {
    format!("{} {:.1}", name.replace('_', " "), spread.median)
}

fn right(text: impl ToString) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

/// To the first side.
fn ratio(measured: &Measured, side: &str) -> Option<String> {
    let first = measured.case.sides.first().filter(|first| first.name != side)?;
    let ratio = measured.ratio(Metric::Rate, side, &first.name)?;
    Some(format!("{ratio:.2}"))
}

fn quantile(series: &Series, part: f64) -> Option<String> {
    series.quantile(part).map(|spread| micros(spread.median))
}

fn range(spread: Spread) -> String {
    format!("{} - {}", number(spread.min), number(spread.max))
}

/// A whole number, for figures that are large.
pub(super) fn number(figure: f64) -> String {
    grouped(figure.round().max(0.0) as u64)
}

/// A time given in microseconds.
pub(super) fn micros(figure: f64) -> String {
    time(figure.round().max(0.0) as u64)
}

/// A goal in words, and whether it is met.
pub(super) fn goal(judged: &Judged<'_>) -> String {
    let Judged { goal, figure, met } = judged;
    let (what, bound) = match goal.bound {
        Bound::AtLeast(bound) => ("at least", bound),
        Bound::AtMost(bound) => ("at most", bound),
    };
    let verdict = if *met { "met" } else { "not met" };
    let words = goal.metric.words();
    match &goal.against {
        Some(against) => {
            format!("goal: {words} of {} {what} {bound:.2} of {against}: {figure:.2}, {verdict}", goal.side)
        }
        None => {
            let say = match goal.metric {
                Metric::P50 | Metric::P99 => micros,
                Metric::Bytes | Metric::Rate => number,
                _ => |figure: f64| format!("{figure:.1}"),
            };
            format!("goal: {words} of {} {what} {}: {}, {verdict}", goal.side, say(bound), say(*figure))
        }
    }
}
