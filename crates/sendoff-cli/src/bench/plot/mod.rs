//! The figures as a picture that a browser shows: for each case bars with ranges, and how its times
//! are distributed.

mod bars;
mod curve;
mod svg;

use self::svg::Svg;
use super::{
    report::{Measured, Report},
    table,
};

const WIDTH: f64 = 1_000.0;
const MARGIN: f64 = 24.0;
/// Between a line of text and the next.
const LINE: f64 = 17.0;

/// The whole picture as SVG.
pub(super) fn draw(report: &Report) -> String {
    let mut svg = Svg::new();
    let mut y = MARGIN + 14.0;
    svg.text(MARGIN, y, "title", &format!("sendoff {} bench", env!("CARGO_PKG_VERSION")));
    y += 4.0;
    for line in report.head().lines().chain([&*report.foot()]).filter(|line| !line.is_empty()) {
        y += LINE;
        svg.text(MARGIN, y, "note", line);
    }
    for measured in &report.cases {
        y += 22.0;
        svg.line((MARGIN, y), (WIDTH - MARGIN, y), "rule");
        y = case(&mut svg, measured, y + 24.0);
    }
    svg.finish(WIDTH, y + MARGIN)
}

/// One case from `top`, and where it ends.
fn case(svg: &mut Svg, measured: &Measured, top: f64) -> f64 {
    let case = &measured.case;
    svg.text(MARGIN, top, "head", &format!("{}: {}", case.workload, case.name));
    svg.text(MARGIN, top + LINE, "note", &case.what);
    let curved = curve::has(measured);
    let right = if curved { WIDTH - MARGIN - curve::WIDTH - 40.0 } else { WIDTH - MARGIN };
    let mut bottom = bars::draw(svg, measured, top + 2.0 * LINE, right);
    for judged in measured.judged() {
        bottom += LINE;
        let class = if judged.met { "met" } else { "missed" };
        svg.text(MARGIN, bottom, class, &table::goal(&judged));
    }
    if curved {
        bottom = bottom.max(curve::draw(svg, measured, WIDTH - MARGIN - curve::WIDTH, top));
    }
    bottom
}

/// The colour of the side in this place: greys for limits, blues for sendoff.
fn class(measured: &Measured, place: usize) -> String {
    let sides = &measured.case.sides;
    let raw = sides.get(place).is_some_and(|side| side.raw);
    let before = sides.iter().take(place).filter(|side| side.raw == raw).count();
    format!("{}{}", if raw { "raw" } else { "ours" }, before.min(1))
}
