//! What is being measured, on stderr: a bar on a terminal, a line for each case elsewhere.

use std::{cell::RefCell, io::IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::out;

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    /// The line that was printed last.
    told: RefCell<String>,
}

impl Progress {
    /// Of so many runs.
    pub(super) fn new(runs: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(runs), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {pos} of {len} {elapsed}  {wide_msg}");
            bar.with_style(style.expect("the template is valid"))
        });
        Self { bar, told: RefCell::default() }
    }

    /// This side's turn.
    pub(super) fn begin(&self, name: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(name.to_owned()),
            None => {
                let case = name.split(':').next().unwrap_or(name);
                if *self.told.borrow() != case {
                    out::note(&format!("measuring {case}"));
                    case.clone_into(&mut self.told.borrow_mut());
                }
            }
        }
    }

    /// It has run.
    pub(super) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Prints without the bar in between.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
