//! How a move is getting on, on stderr: a bar on a terminal, lines elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sendoff::{
    store::transfer::{Progress, Step},
    time::{Clock, SystemClock},
};

use crate::{out, run::grouped};

/// How often a line is printed.
const LINES: Duration = Duration::from_secs(5);

pub(super) struct Bar {
    bar: Option<ProgressBar>,
    /// When the last line was printed.
    told: Duration,
}

impl Bar {
    pub(super) fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {human_pos} of {human_len} {msg}, {per_sec}");
            bar.with_style(style.expect("the template is valid"))
        });
        Self { bar, told: SystemClock.elapsed() }
    }

    pub(super) fn show(&mut self, Progress { step, done, total }: Progress) {
        let what = match step {
            Step::Moving => "moved",
            Step::Checking => "checked",
        };
        match &self.bar {
            Some(bar) => {
                if bar.message() != what {
                    bar.reset();
                    bar.set_message(what);
                }
                bar.set_length(total);
                bar.set_position(done);
            }
            None => {
                let now = SystemClock.elapsed();
                if now.saturating_sub(self.told) >= LINES {
                    self.told = now;
                    out::note(&format!("{} of {} {what}", grouped(done), grouped(total)));
                }
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
