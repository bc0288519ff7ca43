//! The limits: the same work by the shortest means. Nothing here uses sendoff.

use tokio::{sync::oneshot, task::JoinSet};
use uuid::Uuid;

use super::sample::{Times, now};

pub(super) mod heap;
pub(super) mod http;
pub(super) mod postgres;
pub(super) mod process;
pub(super) mod sqlite;
pub(super) mod tasks;
pub(super) mod timing;

/// A row's name, and whom to tell when it is kept.
type Row = (Uuid, oneshot::Sender<()>);

/// Callers that each hand `each` rows to a writer, one after the other, and how long each waited for
/// its answer. What `send` holds is let go when all are done.
fn start_callers(callers: u64, each: u64, send: impl Fn(Row) + Clone + Send + 'static) -> JoinSet<Times> {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let send = send.clone();
        tasks.spawn(async move {
            let mut times = Times::new();
            for _ in 0..each {
                let began = now();
                let (reply, answer) = oneshot::channel();
                send((Uuid::now_v7(), reply));
                // Without a writer there is no answer, and the writer says why.
                let _ = answer.await;
                times.add(now() - began);
            }
            times
        });
    }
    tasks
}

/// The times of all callers, when they are done.
async fn finish(callers: JoinSet<Times>) -> Times {
    let mut times = Times::new();
    callers.join_all().await.iter().for_each(|caller| times.merge(caller));
    times
}
