//! Attempts that a starter makes together; each has its own end and its own timeout.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout_at};

use super::{Given, Open, panicked, timed_out};
use crate::{
    dispatcher::AttemptEnd,
    job::Receipt,
    ports::{StartError, Starter},
    time::Clock,
};

/// The attempts of one call of the starter, by place, as long as they have not ended.
struct Together {
    open: Vec<Option<(Instant, Open)>>,
    left: usize,
    clock: Arc<dyn Clock>,
    /// None of them times out before this.
    next_timeout: Option<Instant>,
    abandonable: bool,
}

/// Runs these attempts to their ends and tells of those as they come.
pub(in crate::scheduler) async fn run_many(
    starter: Arc<dyn Starter>,
    abandonable: bool,
    given: Vec<Given>,
    clock: Arc<dyn Clock>,
    tell: impl Fn(Vec<AttemptEnd>),
) {
    let now = Instant::now();
    let mut attempts = Vec::with_capacity(given.len());
    let mut open = Vec::with_capacity(given.len());
    let mut unreadable = Vec::new();
    let mut given = given.into_iter().peekable();
    // The request of the next attempt, if it is the same as this one's: it is not read again then.
    let mut same = None;
    while let Some(one) = given.next() {
        let request = match same.take().map_or_else(|| one.read(), Ok) {
            Ok(request) => request,
            Err(end) => {
                unreadable.push(end);
                continue;
            }
        };
        if given.peek().is_some_and(|next| next.claimed.job.request == one.claimed.job.request) {
            same = Some(request.clone());
        }
        let (attempt, opened) = one.open(request);
        attempts.push(attempt);
        open.push(Some((now + opened.timeout, opened)));
    }
    tell(unreadable);
    let mut together = Together { left: open.len(), open, clock, next_timeout: None, abandonable };
    together.find_next_timeout();
    // Also what a starter does before its stream is polled, and while it is dropped, may panic.
    let run = AssertUnwindSafe(async {
        let Some(many) = starter.many().filter(|_| together.left > 0) else { return };
        let mut answers = many.start_many(attempts);
        while together.left > 0 {
            let answered = match together.next_timeout {
                Some(at) => timeout_at(at, answers.next()).await,
                None => Ok(answers.next().await),
            };
            tell(match answered {
                Ok(Some(answers)) => together.end(answers),
                Ok(None) => return,
                Err(_) => together.time_out(Instant::now()),
            });
        }
    });
    let error = match run.catch_unwind().await {
        Ok(()) => StartError::ambiguous("the starter gave no answer"),
        Err(panic) => panicked(&*panic),
    };
    if together.left > 0 {
        let rest = (0..together.open.len()).map(|place| (place, Err(error.clone()))).collect();
        tell(together.end(rest));
    }
}

impl Together {
    /// The ends of these attempts, but of those that have ended already.
    fn end(&mut self, answers: Vec<(usize, Result<Receipt, StartError>)>) -> Vec<AttemptEnd> {
        let now = self.clock.elapsed();
        let mut ends = Vec::with_capacity(answers.len());
        for (place, result) in answers {
            if let Some((_, open)) = self.open.get_mut(place).and_then(Option::take) {
                self.left -= 1;
                crash_point!(StartEnded);
                ends.push(open.end(result, now));
            }
        }
        ends
    }

    fn time_out(&mut self, now: Instant) -> Vec<AttemptEnd> {
        let late = self.open.iter().enumerate().filter_map(|(place, open)| {
            let (at, open) = open.as_ref()?;
            (*at <= now).then(|| (place, Err(timed_out(&open.clock, open.timeout))))
        });
        let late = late.collect();
        let ends = self.end(late);
        self.find_next_timeout();
        ends
    }

    fn find_next_timeout(&mut self) {
        let timeouts = self.open.iter().flatten().map(|(at, _)| *at);
        self.next_timeout = timeouts.min().filter(|_| self.abandonable);
    }
}
