//! A case says what it expects by assertions; here they become results.

use std::{
    cell::RefCell,
    panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook},
    pin::pin,
    sync::Once,
    task::Poll,
};

thread_local! {
    /// What a panic of this thread said, while panics are caught here.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a future to its end, or to its panic: then the error says what and where. Panics elsewhere
/// are reported as ever.
pub(super) async fn caught(run: impl Future<Output = ()>) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |panic| {
            let said =
                CAUGHT.with_borrow_mut(|caught| caught.as_mut().map(|caught| *caught = panic.to_string()));
            if said.is_none() {
                before(panic);
            }
        }));
    });
    let mut run = pin!(run);
    std::future::poll_fn(|context| {
        CAUGHT.set(Some(String::new()));
        let polled = catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context)));
        let said = CAUGHT.take().unwrap_or_default();
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
            Err(_) => Poll::Ready(Err(said)),
        }
    })
    .await
}
