//! What the engine is woken for, coalesced.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::ports::Wake;

/// Wakes that the engine has not seen yet: at most one of each kind.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    hint: AtomicBool,
    reconnected: AtomicBool,
    changed: Notify,
}

impl Wakes {
    pub(super) fn wake(&self, wake: Wake) {
        self.flag(wake).store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// The next wake. Nothing is lost if it is dropped before it resolves.
    pub(super) async fn next(&self) -> Wake {
        loop {
            for wake in [Wake::Reconnected, Wake::Hint] {
                if self.flag(wake).swap(false, Ordering::AcqRel) {
                    return wake;
                }
            }
            self.changed.notified().await;
        }
    }

    fn flag(&self, wake: Wake) -> &AtomicBool {
        match wake {
            Wake::Hint => &self.hint,
            Wake::Reconnected => &self.reconnected,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn each_kind_wakes_once_however_often_it_came() {
        let wakes = Wakes::default();
        assert_eq!(wakes.next().now_or_never(), None);
        for wake in [Wake::Hint, Wake::Reconnected, Wake::Hint] {
            wakes.wake(wake);
        }
        assert_eq!(wakes.next().now_or_never(), Some(Wake::Reconnected));
        assert_eq!(wakes.next().now_or_never(), Some(Wake::Hint));
        assert_eq!(wakes.next().now_or_never(), None);
    }

    #[test]
    fn a_wait_that_is_dropped_loses_nothing() {
        let wakes = Wakes::default();
        {
            let mut waits = Box::pin(wakes.next());
            assert_eq!((&mut waits).now_or_never(), None);
            wakes.wake(Wake::Hint);
        }
        assert_eq!(wakes.next().now_or_never(), Some(Wake::Hint));
    }
}
