//! Attempts made in one task; each has its own end and its own timeout.

mod side_by_side;

use std::{
    future::poll_fn,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt, StreamExt};
use tokio::{
    task::unconstrained,
    time::{Instant, sleep_until},
};

use super::{Given, Open, panicked, timed_out};
use crate::{
    dispatcher::AttemptEnd,
    job::Receipt,
    ports::{Answers, StartError, Starter},
    time::Clock,
};
use side_by_side::SideBySide;

/// Places of attempts, and how these ended.
type Ends = Vec<(usize, Result<Receipt, StartError>)>;

/// The attempts of one task, by place, as long as they have not ended.
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
        if together.left == 0 {
            return;
        }
        let mut starts = match starter.many() {
            Some(many) => Starts::InOne(many.start_many(attempts)),
            None => Starts::SideBySide(SideBySide::new(&*starter, attempts)),
        };
        // One timer for all of them: it is set anew only when it has rung.
        let mut alarm = pin!(sleep_until(together.next_timeout.unwrap_or(now)));
        while together.left > 0 {
            let answered = tokio::select! {
                biased;
                answered = poll_fn(|cx| starts.poll_ends(cx)) => answered.map(|ends| together.end(ends)),
                // It rings also when the starts have used up what a task may do in one turn.
                () = unconstrained(&mut alarm), if together.next_timeout.is_some() => {
                    let ends = together.time_out(Instant::now(), &mut starts);
                    together.next_timeout.into_iter().for_each(|at| alarm.as_mut().reset(at));
                    Some(ends)
                }
            };
            let Some(ends) = answered else { return };
            tell(ends);
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

/// How the starter makes them.
enum Starts<'a> {
    InOne(Answers<'a>),
    SideBySide(SideBySide<'a>),
}

impl Starts<'_> {
    fn poll_ends(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ends>> {
        match self {
            Self::InOne(answers) => answers.poll_next_unpin(cx),
            Self::SideBySide(starts) => starts.poll_ends(cx),
        }
    }

    /// Drops a start midway, if it can be dropped alone; if that panics, what it says.
    fn give_up(&mut self, place: usize) -> Option<StartError> {
        match self {
            Self::InOne(_) => None,
            Self::SideBySide(starts) => starts.give_up(place),
        }
    }
}

impl Together {
    /// The ends of these attempts, but of those that have ended already.
    fn end(&mut self, answers: Ends) -> Vec<AttemptEnd> {
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

    fn time_out(&mut self, now: Instant, starts: &mut Starts<'_>) -> Vec<AttemptEnd> {
        let mut late = Vec::new();
        for (place, open) in self.open.iter().enumerate() {
            if let Some((at, open)) = open
                && *at <= now
            {
                // It is dropped before it is asked whether it had begun.
                let panic = starts.give_up(place);
                late.push((place, Err(panic.unwrap_or_else(|| timed_out(&open.clock, open.timeout)))));
            }
        }
        let ends = self.end(late);
        self.find_next_timeout();
        ends
    }

    fn find_next_timeout(&mut self) {
        let timeouts = self.open.iter().flatten().map(|(at, _)| *at);
        self.next_timeout = timeouts.min().filter(|_| self.abandonable);
    }
}
