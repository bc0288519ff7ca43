//! NOTIFY between nodes: makes them look sooner, and nothing depends on it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time};
use tokio_postgres::types::Type;

use super::Shared;
use crate::{
    ports::Wake,
    store::postgres::{
        ask::{Answer, Ask},
        sql::Sql,
    },
};

/// One at most in this time, whatever this node has to hint at.
const THROTTLE: Duration = Duration::from_millis(100);
/// All nodes hear a hint at the same moment; up to so many milliseconds spread them out.
const SPREAD: u64 = 20;
/// The engine is woken for hints no more often than this.
const REST: Duration = Duration::from_millis(100);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Listens and hints until dropped, on a connection of its own that comes back by itself. A
/// pooler in between may swallow both.
pub(super) async fn run(shared: Arc<Shared>) {
    // Tells this node's own hints apart.
    let tag = format!("{:016x}", fastrand::u64(..));
    let heard = Arc::new(Notify::new());
    tokio::join!(listen(&shared, &tag, &heard), pass_on(&shared, &heard));
}

/// Wakes the engine once for all that was heard in a moment.
async fn pass_on(shared: &Shared, heard: &Notify) {
    loop {
        heard.notified().await;
        time::sleep(Duration::from_millis(fastrand::u64(..=SPREAD))).await;
        shared.wakes.wake(Wake::Hint);
        // However many nodes hint: a look reads some thousand rows.
        time::sleep(REST).await;
    }
}

async fn listen(shared: &Shared, tag: &str, heard: &Arc<Notify>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let notified = {
            let (own, heard) = (tag.to_owned(), heard.clone());
            move |notification: tokio_postgres::Notification| {
                if notification.payload() != own {
                    heard.notify_one();
                }
            }
        };
        if let Ok(connected) = shared.target.connect_listening(notified).await {
            let ask = Ask::new(&connected.client, &shared.texts);
            let talk = async {
                ask.rows(Sql::Listen, &[]).await?;
                // What was hinted at while nobody listened.
                heard.notify_one();
                pause = FIRST_PAUSE;
                hint(shared, ask, tag).await
            };
            let ended = tokio::select! {
                ended = connected.driver => ended,
                ended = talk => ended,
            };
            if let Err(err) = ended {
                tracing::debug!(error = %super::super::failure::words(&err), "the connection for hints ended");
            }
        }
        time::sleep(pause.mul_f64(0.75 + 0.5 * fastrand::f64())).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Tells the others what was asked for meanwhile, once in each [`THROTTLE`].
async fn hint(shared: &Shared, ask: Ask<'_>, tag: &str) -> Answer<()> {
    loop {
        shared.hint.notified().await;
        ask.rows(Sql::Notify, &[(&tag, Type::TEXT)]).await?;
        time::sleep(THROTTLE).await;
    }
}
