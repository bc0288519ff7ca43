//! The runs of one side, and what is said of them: median and range.

use serde::Serialize;

use super::sample::{Sample, Times};

/// All runs of one side.
#[derive(Debug, Default)]
pub(super) struct Series(Vec<Sample>);

/// One figure over all runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Series {
    pub(super) fn add(&mut self, sample: Sample) {
        self.0.push(sample);
    }

    pub(super) fn rate(&self) -> Option<Spread> {
        self.spread(|sample| sample.rate)
    }

    pub(super) fn cpu_us(&self) -> Option<Spread> {
        self.spread(|sample| sample.cpu_us)
    }

    pub(super) fn bytes(&self) -> Option<Spread> {
        self.spread(|sample| sample.bytes)
    }

    pub(super) fn quantile(&self, part: f64) -> Option<Spread> {
        self.spread(|sample| sample.times.as_ref().map(|times| times.quantile(part)))
    }

    pub(super) fn more(&self) -> Vec<(&str, Spread)> {
        let names = self.0.first().map_or(&[][..], |sample| &sample.more);
        let spread = |name: &str| {
            self.spread(|sample| {
                sample.more.iter().find(|(known, _)| known == name).map(|(_, figure)| *figure)
            })
        };
        names.iter().filter_map(|(name, _)| Some((&**name, spread(name)?))).collect()
    }

    /// The times of all runs together.
    pub(super) fn times(&self) -> Option<Times> {
        let mut all = Times::new();
        self.0.iter().filter_map(|sample| sample.times.as_ref()).for_each(|times| all.merge(times));
        (all.len() > 0).then_some(all)
    }

    /// None unless each run has the figure.
    fn spread(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
        let mut figures = self.0.iter().map(figure).collect::<Option<Vec<f64>>>()?;
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            (figures[middle - 1] + figures[middle]) / 2.0
        };
        Some(Spread { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rates: &[f64]) -> Series {
        Series(rates.iter().map(|rate| Sample { rate: Some(*rate), ..Sample::default() }).collect())
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        assert_eq!(series(&[3.0, 1.0, 2.0]).rate(), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(series(&[4.0, 1.0, 2.0, 3.0]).rate().map(|rate| rate.median), Some(2.5));
        assert_eq!(series(&[]).rate(), None);
        assert_eq!(series(&[1.0]).cpu_us(), None);
    }
}
