//! One command for many jobs.

use std::pin::pin;

use futures_util::{Stream, StreamExt};
use sendoff::Guid;

use super::{http::Client, output::Output, select};
use crate::failure::{Exit, Failure};

/// Calls under way at once, each on a connection of its own.
const AT_ONCE: usize = 32;

/// Asks about each job and tells the answers in the order of the selectors. A job that cannot be
/// asked about hinders no other; a daemon that cannot be reached ends it.
pub(super) async fn each<T, F>(
    client: &Client,
    output: Output,
    selectors: impl Stream<Item = Result<String, Failure>>,
    ask: impl Fn(Guid) -> F,
    mut tell: impl FnMut(T) -> Result<Exit, Failure>,
) -> Result<Exit, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let ask = &ask;
    let answers = selectors
        .map(|selector| async move {
            let selector = selector?;
            let answer = match select::resolve(client, &selector).await {
                Ok(guid) => ask(guid).await,
                Err(failure) => Err(failure),
            };
            Ok::<_, Failure>((selector, answer))
        })
        .buffered(AT_ONCE);
    let mut answers = pin!(answers);
    let mut exit = Exit::Ok;
    while let Some(answer) = answers.next().await {
        let (selector, answer) = answer?;
        let one = match answer {
            Ok(answer) => tell(answer)?,
            Err(failure) if failure.exit == Exit::Store => return Err(failure),
            Err(failure) => {
                output.error(&selector, &failure);
                failure.exit
            }
        };
        exit = worse(exit, one);
    }
    Ok(exit)
}

/// The exit code for both.
pub(super) fn worse(one: Exit, other: Exit) -> Exit {
    let order = [Exit::Store, Exit::Usage, Exit::NotFound, Exit::TimedOut, Exit::NotAll];
    order.into_iter().find(|exit| [one, other].contains(exit)).unwrap_or(Exit::Ok)
}
