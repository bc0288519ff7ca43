//! One bar for each side, from nothing to the median, with the range as a whisker.

use super::{LINE, MARGIN, class, svg::Svg};
use crate::bench::{
    case::Metric,
    report::Measured,
    series::{Series, Spread},
    table::{micros, number},
};

/// Room for the names of sides.
const NAMES: f64 = 215.0;
/// Room for the figure behind a bar.
const FIGURES: f64 = 130.0;
const BAR: f64 = 13.0;

struct Figure {
    words: &'static str,
    metric: Metric,
    of: fn(&Series) -> Option<Spread>,
    say: fn(f64) -> String,
}

const FIGURES_SHOWN: [Figure; 3] = [
    Figure { words: "jobs a second, more is better", metric: Metric::Rate, of: Series::rate, say: number },
    Figure { words: "bytes a job, less is better", metric: Metric::Bytes, of: Series::bytes, say: number },
    Figure { words: "p50, less is better", metric: Metric::P50, of: median, say: micros },
];

fn median(series: &Series) -> Option<Spread> {
    series.quantile(0.5)
}

/// All figures of the case between the margin and `right`; where they end. The median of times only
/// where there is no rate: the curve shows it already.
pub(super) fn draw(svg: &mut Svg, measured: &Measured, top: f64, right: f64) -> f64 {
    let rated = measured.series.iter().any(|series| series.rate().is_some());
    let mut y = top;
    for figure in FIGURES_SHOWN {
        if rated && figure.metric == Metric::P50 {
            continue;
        }
        let spreads: Vec<_> = measured.series.iter().map(figure.of).collect();
        let most = spreads.iter().flatten().map(|spread| spread.max).fold(0.0, f64::max);
        if most > 0.0 {
            y = group(svg, measured, &figure, &spreads, y, (right - MARGIN - NAMES - FIGURES) / most);
        }
    }
    y
}

fn group(
    svg: &mut Svg,
    measured: &Measured,
    figure: &Figure,
    spreads: &[Option<Spread>],
    top: f64,
    scale: f64,
) -> f64 {
    let left = MARGIN + NAMES;
    svg.text(left, top + 12.0, "tick", figure.words);
    let first = measured.case.sides.first();
    let mut y = top + 12.0;
    for (place, (side, spread)) in measured.case.sides.iter().zip(spreads).enumerate() {
        y += LINE;
        svg.text(MARGIN + NAMES - 8.0, y, "end", &side.name);
        let Some(spread) = spread else { continue };
        svg.rect((left, y - 10.5), ((spread.median * scale).max(1.0), BAR), &class(measured, place));
        let middle = y - 4.0;
        let (from, to) = (left + spread.min * scale, left + spread.max * scale);
        svg.line((from, middle), (to, middle), "range");
        for end in [from, to] {
            svg.line((end, middle - 3.0), (end, middle + 3.0), "range");
        }
        let ratio = first
            .filter(|first| first.name != side.name)
            .and_then(|first| measured.ratio(figure.metric, &side.name, &first.name))
            .map(|ratio| format!("  ({ratio:.2})"));
        let words = format!("{}{}", (figure.say)(spread.median), ratio.unwrap_or_default());
        svg.text(to + 8.0, y, "", &words);
    }
    y + 4.0
}
