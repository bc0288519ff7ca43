//! What is compared with what, and what is to be reached.

use super::{part::Part, series::Series};

/// Sides that do the same work.
pub(super) struct Case {
    pub(super) workload: &'static str,
    /// Its name within the workload.
    pub(super) name: String,
    /// The work in words.
    pub(super) what: String,
    /// What its times are, if it has some: from when to when.
    pub(super) times: &'static str,
    pub(super) sides: Vec<Side>,
    pub(super) goals: Vec<Goal>,
}

/// One way to do the work.
pub(super) struct Side {
    pub(super) name: String,
    /// A limit, without sendoff.
    pub(super) raw: bool,
    pub(super) part: Part,
    /// Runs once, before all runs of this side, which then share its folder.
    pub(super) prepare: Option<Part>,
}

impl Side {
    pub(super) fn raw(name: impl Into<String>, part: impl Into<Part>) -> Self {
        Self { name: name.into(), raw: true, part: part.into(), prepare: None }
    }

    pub(super) fn ours(name: impl Into<String>, part: impl Into<Part>) -> Self {
        Self { raw: false, ..Self::raw(name, part) }
    }

    pub(super) fn prepared(self, prepare: impl Into<Part>) -> Self {
        Self { prepare: Some(prepare.into()), ..self }
    }
}

/// A figure of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    Rate,
    Cpu,
    Bytes,
    P50,
    P99,
    /// One of [`Sample::more`](super::sample::Sample::more).
    More(&'static str),
}

impl Metric {
    /// Those that sides are compared by.
    pub(super) const COMPARED: [Self; 5] = [Self::Rate, Self::Cpu, Self::Bytes, Self::P50, Self::P99];

    pub(super) fn of(self, series: &Series) -> Option<f64> {
        match self {
            Self::Rate => series.rate(),
            Self::Cpu => series.cpu_us(),
            Self::Bytes => series.bytes(),
            Self::P50 => series.quantile(0.5),
            Self::P99 => series.quantile(0.99),
            Self::More(name) => {
                series.more().into_iter().find(|(known, _)| *known == name).map(|(_, spread)| spread)
            }
        }
        .map(|spread| spread.median)
    }

    /// As in the JSON.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rate => "per_second",
            Self::Cpu => "cpu_us",
            Self::Bytes => "bytes_per_job",
            Self::P50 => "p50_us",
            Self::P99 => "p99_us",
            Self::More(name) => name,
        }
    }

    /// As in a sentence.
    pub(super) fn words(self) -> String {
        match self {
            Self::Rate => "rate".into(),
            Self::Cpu => "CPU".into(),
            Self::Bytes => "bytes".into(),
            Self::P50 => "p50".into(),
            Self::P99 => "p99".into(),
            Self::More(name) => name.replace('_', " "),
        }
    }
}

/// What a figure of one side is to be: a multiple of another side's median, or, without another
/// side, a figure in itself.
#[derive(Debug, Clone)]
pub(super) struct Goal {
    pub(super) side: String,
    pub(super) metric: Metric,
    pub(super) against: Option<String>,
    pub(super) bound: Bound,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    pub(super) fn is_met(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

impl Goal {
    /// The rate of `side` is at least this part of the rate of `against`.
    pub(super) fn rate(side: &str, against: &str, part: f64) -> Self {
        Self::at_least(side, Metric::Rate, against, part)
    }

    /// A figure of `side` is at least this part of that of `against`.
    pub(super) fn at_least(side: &str, metric: Metric, against: &str, part: f64) -> Self {
        let against = Some(against.to_owned());
        Self { side: side.to_owned(), metric, against, bound: Bound::AtLeast(part) }
    }

    /// A figure of `side` is at most this multiple of that of `against`.
    pub(super) fn at_most(side: &str, metric: Metric, against: &str, times: f64) -> Self {
        Self { side: side.to_owned(), metric, against: Some(against.to_owned()), bound: Bound::AtMost(times) }
    }

    /// `side` does at least so many a second.
    pub(super) fn above(side: &str, rate: f64) -> Self {
        Self { side: side.to_owned(), metric: Metric::Rate, against: None, bound: Bound::AtLeast(rate) }
    }

    /// A figure of `side` is at most this.
    pub(super) fn below(side: &str, metric: Metric, figure: f64) -> Self {
        Self { side: side.to_owned(), metric, against: None, bound: Bound::AtMost(figure) }
    }
}
