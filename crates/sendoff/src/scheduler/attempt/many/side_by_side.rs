//! Attempts that a starter makes one by one, side by side in one task.

use std::{
    any::Any,
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use super::{super::panicked, Ends};
use crate::{
    job::Receipt,
    ports::{Attempt, StartError, StartFuture, Starter},
    scheduler::unordered::Unordered,
};

/// The attempts that have not ended; each is polled only when it was woken.
pub(super) struct SideBySide<'a>(Unordered<Making<'a>>);

impl<'a> SideBySide<'a> {
    pub(super) fn new(starter: &'a dyn Starter, attempts: Vec<Attempt>) -> Self {
        let making = attempts.into_iter().enumerate().map(|(place, attempt)| {
            let start = catch_unwind(AssertUnwindSafe(|| starter.start(attempt)));
            let start = start.unwrap_or_else(|panic| Box::pin(ready(Err(panicked(&*panic)))));
            Making { place, start: Some(start) }
        });
        Self(making.collect())
    }

    /// The ends that there are by now.
    pub(super) fn poll_ends(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ends>> {
        let mut ends = Vec::new();
        loop {
            match self.0.poll_next(cx) {
                Poll::Ready(Some(end)) => ends.push(end),
                _ if !ends.is_empty() => return Poll::Ready(Some(ends)),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Drops a start midway. What is left of it is never woken, and goes with the others.
    pub(super) fn give_up(&mut self, place: usize) -> Option<StartError> {
        let mut making = self.0.iter_mut();
        let panic = making.find(|making| making.place == place)?.let_go().err()?;
        Some(panicked(&*panic))
    }
}

/// One start. A panic of it ends no other.
struct Making<'a> {
    place: usize,
    /// None once it has ended.
    start: Option<StartFuture<'a>>,
}

impl Making<'_> {
    /// Drops it, which may panic as well.
    fn let_go(&mut self) -> Result<(), Box<dyn Any + Send>> {
        catch_unwind(AssertUnwindSafe(|| drop(self.start.take())))
    }
}

impl Future for Making<'_> {
    type Output = (usize, Result<Receipt, StartError>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(start) = &mut self.start else { return Poll::Pending };
        let polled = catch_unwind(AssertUnwindSafe(|| start.as_mut().poll(cx)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => Ok(result),
            Err(panic) => Err(panic),
        };
        // As of one in a task of its own, a panic of its drop counts, too.
        let result = match ended.and_then(|result| self.let_go().map(|()| result)) {
            Ok(result) => result,
            Err(panic) => {
                // It may be there still, and panic once more.
                let _ = self.let_go();
                Err(panicked(&*panic))
            }
        };
        Poll::Ready((self.place, result))
    }
}
