//! Futures side by side in one task, each polled only when it was woken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{StreamExt, stream::FuturesUnordered, task::AtomicWaker};

/// It is being polled: who wakes it now is heard without its task.
const POLLING: u8 = 1;
/// It was woken since it began to be polled.
const WOKEN: u8 = 2;

/// [`FuturesUnordered`] that wakes its task only if something is to be done.
///
/// By itself it wakes the task that polls it whenever it has polled as many futures as it holds, so also
/// when the only one is new and waits. That costs a poll, and a runtime of many threads wakes a second
/// one for a task that wakes itself: 5 % of the time of a durable submit by one caller.
pub(super) struct Unordered<F> {
    futures: FuturesUnordered<F>,
    ear: Arc<Ear>,
    waker: Waker,
}

/// What the futures wake.
struct Ear {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) & POLLING == 0 {
            self.task.wake();
        }
    }
}

impl<F: Future> Unordered<F> {
    pub(super) fn new() -> Self {
        Self::of(FuturesUnordered::new())
    }

    fn of(futures: FuturesUnordered<F>) -> Self {
        let ear = Arc::new(Ear { state: AtomicU8::new(0), task: AtomicWaker::new() });
        Self { futures, waker: Waker::from(ear.clone()), ear }
    }

    /// To be polled before it can wake anybody.
    pub(super) fn push(&mut self, future: F) {
        self.futures.push(future);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.futures.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut F>
    where
        F: Unpin,
    {
        self.futures.iter_mut()
    }

    /// The next output, none if there are no futures. The task is woken for more only after this was
    /// pending.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        self.ear.task.register(cx.waker());
        // Once more after it woke itself, then others get their turn.
        for _ in 0..2 {
            self.ear.state.store(POLLING, Ordering::Release);
            let polled = self.futures.poll_next_unpin(&mut Context::from_waker(&self.waker));
            if self.ear.state.swap(0, Ordering::AcqRel) == POLLING || polled.is_ready() {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<F: Future> FromIterator<F> for Unordered<F> {
    fn from_iter<I: IntoIterator<Item = F>>(futures: I) -> Self {
        Self::of(futures.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Count {
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::SeqCst)
        }
    }

    #[test]
    fn the_task_is_woken_by_what_happens_and_by_nothing_else() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = &mut Context::from_waker(&waker);
        let mut unordered = Unordered::new();
        assert_eq!(unordered.poll_next(cx), Poll::Ready(None));
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel::<u8>()).unzip();
        for receiver in receivers {
            unordered.push(receiver);
            assert!(unordered.poll_next(cx).is_pending());
            assert_eq!(count.take(), 0, "something new that waits is no news");
        }
        for (n, sender) in (0..3).zip(senders) {
            sender.send(n).unwrap();
            assert_eq!(count.take(), 1);
            assert_eq!(unordered.poll_next(cx), Poll::Ready(Some(Ok(n))));
        }
        assert_eq!(unordered.poll_next(cx), Poll::Ready(None));
        assert_eq!(count.take(), 0);
    }

    #[test]
    fn one_that_wakes_itself_for_ever_lets_the_task_go_on() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let cx = &mut Context::from_waker(&waker);
        let restless = poll_fn(|cx: &mut Context<'_>| {
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        });
        let mut unordered: Unordered<_> = std::iter::once(restless).collect();
        for _ in 0..3 {
            assert!(unordered.poll_next(cx).is_pending());
            assert_eq!(count.take(), 1);
        }
    }

    #[tokio::test]
    async fn nothing_that_another_thread_says_is_missed() {
        for round in 0..2_000_usize {
            let size = 1 + round % 5;
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..size).map(|_| oneshot::channel()).unzip();
            let mut unordered: Unordered<_> = receivers.into_iter().collect();
            let sending = std::thread::spawn(move || {
                for (n, sender) in senders.into_iter().enumerate() {
                    let _ = sender.send(n);
                }
            });
            let mut sum = 0;
            while let Some(n) = poll_fn(|cx| unordered.poll_next(cx)).await {
                sum += n.unwrap();
            }
            assert_eq!(sum, size * (size - 1) / 2);
            sending.join().unwrap();
        }
    }
}
