//! What was measured, and its medians.

#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Raw,
    Store,
    Scheduler,
}

#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

struct Row {
    name: String,
    /// Rates and CPU microseconds a job, by side.
    measured: [Vec<(f64, f64)>; 3],
}

impl Table {
    pub(crate) fn add(&mut self, name: &str, side: Side, measured: (f64, f64)) {
        let place = self.0.iter().position(|row| row.name == name).unwrap_or_else(|| {
            self.0.push(Row { name: name.to_owned(), measured: Default::default() });
            self.0.len() - 1
        });
        eprintln!("{name}: {side:?} {:.0}/s, {:.1} us", measured.0, measured.1);
        self.0[place].measured[side as usize].push(measured);
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<26} {:>9} {:>5} {:>9} {:>5} {:>5} {:>9} {:>5} {:>5}",
            "a second; CPU us; ratio", "raw", "us", "store", "us", "", "scheduler", "us", ""
        );
        for Row { name, measured } in &self.0 {
            let medians = measured.each_ref().map(|side| (median(side, |m| m.0), median(side, |m| m.1)));
            let [(raw, raw_cpu), (store, store_cpu), (scheduler, scheduler_cpu)] = medians;
            println!(
                "{name:<26} {raw:>9.0} {raw_cpu:>5.1} {store:>9.0} {store_cpu:>5.1} {:>5.2} \
                 {scheduler:>9.0} {scheduler_cpu:>5.1} {:>5.2}",
                store / raw,
                scheduler / raw
            );
        }
    }
}

fn median(values: &[(f64, f64)], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    let mut sorted: Vec<f64> = values.iter().map(of).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
