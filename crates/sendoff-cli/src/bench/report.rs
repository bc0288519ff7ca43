//! All that was measured, and its JSON.

use serde_json::{Value, json};

use super::{
    case::{Bound, Case, Goal, Metric, Side},
    machine::Machine,
    series::{Series, Spread},
};

/// The version of the JSON's shape.
const FORMAT: u32 = 1;

/// A case and its runs, in the order of its sides.
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) series: Vec<Series>,
}

pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) runs: u32,
    pub(super) quick: bool,
    /// How many cases there are.
    pub(super) wanted: usize,
    /// Those that were measured: fewer if the command was interrupted or one failed.
    pub(super) cases: Vec<Measured>,
}

/// A goal, and what came.
pub(super) struct Judged<'a> {
    pub(super) goal: &'a Goal,
    /// The ratio, or the figure.
    pub(super) figure: f64,
    pub(super) met: bool,
}

impl Measured {
    pub(super) fn sides(&self) -> impl Iterator<Item = (&Side, &Series)> {
        self.case.sides.iter().zip(&self.series)
    }

    fn side(&self, name: &str) -> Option<&Series> {
        self.sides().find(|(side, _)| side.name == name).map(|(_, series)| series)
    }

    /// The ratio of the medians of two sides.
    pub(super) fn ratio(&self, metric: Metric, side: &str, against: &str) -> Option<f64> {
        let (ours, theirs) = (metric.of(self.side(side)?)?, metric.of(self.side(against)?)?);
        (theirs > 0.0).then_some(ours / theirs)
    }

    /// Goals of figures that were measured.
    pub(super) fn judged(&self) -> Vec<Judged<'_>> {
        self.case.goals.iter().filter_map(|goal| self.judge(goal)).collect()
    }

    fn judge<'a>(&self, goal: &'a Goal) -> Option<Judged<'a>> {
        let figure = match &goal.against {
            Some(against) => self.ratio(goal.metric, &goal.side, against)?,
            None => goal.metric.of(self.side(&goal.side)?)?,
        };
        Some(Judged { goal, figure, met: goal.bound.is_met(figure) })
    }

    /// What sides are compared with: the limits, or else the first side.
    fn references(&self) -> impl Iterator<Item = &Side> {
        let raw = self.case.sides.iter().filter(|side| side.raw);
        raw.chain(self.case.sides.first().filter(|side| !side.raw))
    }

    fn json(&self) -> Value {
        let sides: Vec<Value> = self.sides().map(|(side, series)| side_json(side, series)).collect();
        let goals: Vec<Value> = self.judged().iter().map(goal_json).collect();
        let mut ratios = Vec::new();
        for ours in self.case.sides.iter().filter(|side| !side.raw) {
            for reference in self.references().filter(|side| side.name != ours.name) {
                for metric in Metric::COMPARED {
                    if let Some(ratio) = self.ratio(metric, &ours.name, &reference.name) {
                        ratios.push(json!({
                            "side": ours.name, "against": reference.name, "figure": metric.name(), "ratio": ratio
                        }));
                    }
                }
            }
        }
        json!({
            "workload": self.case.workload,
            "case": self.case.name,
            "what": self.case.what,
            "times": (!self.case.times.is_empty()).then_some(self.case.times),
            "sides": sides,
            "ratios": ratios,
            "goals": goals,
        })
    }
}

impl Report {
    pub(super) fn json(&self) -> Value {
        let (met, missed) = self.goals();
        json!({
            "format": FORMAT,
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine,
            "fsync_is_free": self.machine.syncs_for_nothing(),
            "runs": self.runs,
            "quick": self.quick,
            "complete": self.cases.len() == self.wanted,
            "cases": self.cases.iter().map(Measured::json).collect::<Vec<_>>(),
            "goals_met": met,
            "goals_missed": missed,
        })
    }

    /// How many were met and missed.
    pub(super) fn goals(&self) -> (usize, usize) {
        let judged: Vec<Judged<'_>> = self.cases.iter().flat_map(Measured::judged).collect();
        let met = judged.iter().filter(|judged| judged.met).count();
        (met, judged.len() - met)
    }

    /// What goes above the cases.
    pub(super) fn head(&self) -> String {
        let quick = if self.quick { ", quick" } else { "" };
        format!(
            "sendoff {} on {}\nmedian and range of {}{quick}; ratio to the first side\n",
            env!("CARGO_PKG_VERSION"),
            self.machine.words(),
            crate::run::counted(self.runs.into(), "run"),
        )
    }

    /// What goes below them.
    pub(super) fn foot(&self) -> String {
        let (met, missed) = self.goals();
        format!("{met} of {} met", crate::run::counted((met + missed) as u64, "goal"))
    }
}

fn side_json(side: &Side, series: &Series) -> Value {
    let more: serde_json::Map<String, Value> =
        series.more().into_iter().map(|(name, spread)| (name.to_owned(), json!(spread))).collect();
    let quantile = |part| -> Option<Spread> { series.quantile(part) };
    json!({
        "side": side.name,
        "raw": side.raw,
        "per_second": series.rate(),
        "cpu_us": series.cpu_us(),
        "bytes_per_job": series.bytes(),
        "times_us": series.times().map(|times| json!({
            "count": times.len(), "p50": quantile(0.5), "p99": quantile(0.99), "p99.9": quantile(0.999),
        })),
        "more": more,
    })
}

fn goal_json(judged: &Judged<'_>) -> Value {
    let Judged { goal, figure, met } = judged;
    let (at_least, at_most) = match goal.bound {
        Bound::AtLeast(bound) => (Some(bound), None),
        Bound::AtMost(bound) => (None, Some(bound)),
    };
    json!({
        "side": goal.side, "figure": goal.metric.name(), "against": goal.against, "at_least": at_least,
        "at_most": at_most, "is": figure, "met": met,
    })
}
