//! What was measured, and its medians.

#[derive(Default)]
pub(crate) struct Table {
    rates: Vec<(String, Vec<f64>, Vec<f64>)>,
    notes: Vec<(String, Vec<f64>)>,
}

impl Table {
    pub(crate) fn ours(&mut self, row: &str, rate: f64) {
        self.rate(row).1.push(rate);
    }

    pub(crate) fn raw(&mut self, row: &str, rate: f64) {
        self.rate(row).2.push(rate);
    }

    pub(crate) fn note(&mut self, row: &str, value: f64) {
        eprintln!("  {row}: {value:.3}");
        match self.notes.iter_mut().find(|(name, _)| name == row) {
            Some((_, values)) => values.push(value),
            None => self.notes.push((row.to_owned(), vec![value])),
        }
    }

    fn rate(&mut self, row: &str) -> &mut (String, Vec<f64>, Vec<f64>) {
        let place = self.rates.iter().position(|(name, ..)| name == row).unwrap_or_else(|| {
            self.rates.push((row.to_owned(), Vec::new(), Vec::new()));
            self.rates.len() - 1
        });
        &mut self.rates[place]
    }

    pub(crate) fn print(&self) {
        println!("{:<44} {:>9} {:>9} {:>6}", "", "sendoff", "raw", "ratio");
        for (name, ours, raw) in &self.rates {
            let (ours, raw) = (median(ours), median(raw));
            println!("{name:<44} {ours:>9.0} {raw:>9.0} {:>6.2}", ours / raw);
        }
        for (name, values) in &self.notes {
            println!("{name:<64} {:>9.2}", median(values));
        }
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
