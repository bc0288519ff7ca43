//! How times are distributed: what part of all takes how long at most, both in powers of ten, so that
//! the slowest of a thousand is seen.

use super::{class, svg::Svg};
use crate::bench::{report::Measured, sample::Times, table::micros};

pub(super) const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 130.0;
/// Powers of ten that the axis of parts shows: up to 99.9 %.
const NINES: f64 = 3.0;
const TICKS: [(f64, &str); 5] = [(0.0, "0"), (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %")];
/// Points of a curve.
const STEPS: u32 = 90;

pub(super) fn has(measured: &Measured) -> bool {
    measured.series.iter().any(|series| series.times().is_some())
}

/// From the point `left`, `top`; where it ends.
pub(super) fn draw(svg: &mut Svg, measured: &Measured, left: f64, top: f64) -> f64 {
    let all: Vec<Option<Times>> = measured.series.iter().map(|series| series.times()).collect();
    let slowest = all.iter().flatten().map(|times| times.quantile(part(NINES))).fold(1.0, f64::max);
    let fastest = all.iter().flatten().map(|times| times.quantile(0.0)).fold(slowest, f64::min).max(1.0);
    let low = fastest.log10().floor();
    let high = slowest.log10().ceil().max(low + 1.0);
    let bottom = top + 12.0 + HEIGHT;
    let across = |part: f64| left + nines(part) / NINES * WIDTH;
    let up = |micros: f64| bottom - (micros.max(1.0).log10() - low) / (high - low) * HEIGHT;

    svg.text(left, top, "tick", measured.case.times);
    let mut power = low;
    while power <= high {
        let y = up(10_f64.powf(power));
        svg.line((left, y), (left + WIDTH, y), "grid");
        svg.text(left - 6.0, y + 3.5, "tick end", &micros(10_f64.powf(power)));
        power += 1.0;
    }
    for (part, words) in TICKS {
        svg.line((across(part), bottom), (across(part), bottom - HEIGHT), "grid");
        svg.text(across(part), bottom + 13.0, "tick middle", words);
    }
    for (place, times) in all.iter().enumerate() {
        let Some(times) = times else { continue };
        let points = (0..=STEPS).map(|step| {
            let part = part(f64::from(step) * NINES / f64::from(STEPS));
            (across(part), up(times.quantile(part)))
        });
        svg.polyline(points, &class(measured, place));
    }
    bottom + 16.0
}

/// How many nines a part has: 0.9 one, 0.99 two.
fn nines(part: f64) -> f64 {
    -(1.0 - part).log10()
}

/// The part with so many nines.
fn part(nines: f64) -> f64 {
    1.0 - 10_f64.powf(-nines)
}
