//! How a run is getting on, on stderr.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sendoff::{
    State,
    ports::{Counts, Store},
    time::{Clock, Span, SystemClock, Timestamp},
};

use super::report::{counted, grouped};
use crate::out;

/// Shows how many jobs have ended: a bar on a terminal, lines elsewhere.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    total: Option<u64>,
}

/// How often a bar moves.
const BAR: Duration = Duration::from_millis(100);
/// How often a line is printed.
const LINES: Duration = Duration::from_secs(5);

impl Progress {
    /// Of `total` jobs, if that is known.
    pub(crate) fn new(total: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            let template = match total {
                Some(_) => "{bar:24} {human_pos} of {human_len}{wide_msg}",
                None => "{spinner} {human_pos}{wide_msg}",
            };
            bar.with_style(ProgressStyle::with_template(template).expect("the template is valid"))
        });
        Self { bar, total }
    }

    /// Goes on until it is dropped.
    pub(crate) async fn run(&self, store: &Arc<dyn Store>) {
        let every = if self.bar.is_some() { BAR } else { LINES };
        // What a run before this one left behind is no rate.
        let ended_before = store.counts().await.map_or(0, |counts| ended(&counts));
        let mut before = (SystemClock.elapsed(), ended_before);
        loop {
            tokio::time::sleep(every).await;
            let Ok(counts) = store.counts().await else { continue };
            let now = SystemClock.elapsed();
            let ended = ended(&counts);
            let (then, ended_then) = before;
            let seconds = now.saturating_sub(then).as_secs_f64().max(1e-3);
            let rate = ended.saturating_sub(ended_then) as f64 / seconds;
            before = (now, ended);
            let mut message = format!(" ended, {}", grouped(rate.round() as u64));
            message.push_str(" a second");
            for state in [State::Starting, State::Pending, State::Failed, State::Unknown] {
                let count = counts.total(state);
                if count > 0 {
                    message.push_str(&format!(", {} {state}", grouped(count)));
                }
            }
            if counts.total(State::Starting) == 0
                && let Some(wait) = until_next(store).await
            {
                message.push_str(&format!(", next in {wait}"));
            }
            match (&self.bar, self.total) {
                (Some(bar), _) => {
                    bar.set_position(ended);
                    bar.set_message(message);
                }
                (None, Some(total)) => {
                    out::note(&format!("{} of {}{message}", grouped(ended), counted(total, "job")))
                }
                (None, None) => out::note(&format!("{}{message}", grouped(ended))),
            }
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

fn ended(counts: &Counts) -> u64 {
    State::ALL.into_iter().filter(|state| state.is_final()).map(|state| counts.total(state)).sum()
}

/// How long nothing will start, in whole seconds, if that is worth telling.
async fn until_next(store: &Arc<dyn Store>) -> Option<Span> {
    let next = store.due(None, Timestamp::MAX, 1).await.ok()?;
    let wait = next.first()?.next_at.saturating_since(SystemClock.now());
    (wait >= Duration::from_secs(1)).then(|| Duration::from_secs(wait.as_secs()).into())
}
