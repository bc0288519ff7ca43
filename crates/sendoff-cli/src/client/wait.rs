//! `sendoff wait`: until jobs have started or will not.

use std::{cell::Cell, time::Duration};

use futures_util::StreamExt;
use sendoff::{
    Guid, State,
    time::{Clock, Span, SystemClock},
};
use serde_json::value::RawValue;

use super::{
    each::{each, worse},
    http::{Call, Client},
    output::{Output, Record, standing},
    select::selectors,
};
use crate::{
    args::WaitArgs,
    failure::{Exit, Failure},
};

/// How long the daemon is asked to hold one answer back.
const AT_A_TIME: Duration = Duration::from_secs(30);
/// Before it is asked again if it did not hold it back: it is stopping.
const PAUSE: Duration = Duration::from_millis(250);

pub(super) async fn run(client: &Client, output: Output, args: &WaitArgs) -> Result<Exit, Failure> {
    let deadline = deadline(args.timeout);
    let ran_out = Cell::new(false);
    let given = selectors(&args.jobs).take_until(async {
        match args.timeout {
            Some(timeout) => tokio::time::sleep(timeout.duration()).await,
            None => std::future::pending().await,
        }
        ran_out.set(true);
    });
    let exit = each(
        client,
        output,
        given,
        |guid| until_final(client, guid, deadline),
        |record| {
            tell(output, &record)?;
            Ok(exit(&record))
        },
    )
    .await?;
    in_time(if ran_out.get() { worse(exit, Exit::TimedOut) } else { exit })
}

/// Says so if it is the time that ran out.
pub(super) fn in_time(exit: Exit) -> Result<Exit, Failure> {
    match exit {
        Exit::TimedOut => Err(Failure::timed_out("the time ran out; `sendoff show` says what it waits for")),
        exit => Ok(exit),
    }
}

/// The elapsed time of the clock at which so long has passed.
pub(super) fn deadline(timeout: Option<Span>) -> Option<Duration> {
    timeout.map(|timeout| SystemClock.elapsed().saturating_add(timeout.duration()))
}

/// The job's record when it is final, or as it is at the deadline.
pub(super) async fn until_final(
    client: &Client,
    guid: Guid,
    deadline: Option<Duration>,
) -> Result<Record, Failure> {
    loop {
        let left = deadline.map_or(AT_A_TIME, |deadline| deadline.saturating_sub(SystemClock.elapsed()));
        let wait = left.min(AT_A_TIME);
        let call = Call::get(format!("/v1/jobs/{guid}?wait={}", Span::from(wait))).waiting(wait);
        let asked = SystemClock.elapsed();
        let json: Box<RawValue> = client.call(&call).await?.json()?;
        let record = Record::read(json)?;
        let now = SystemClock.elapsed();
        if record.job.state.is_final() || deadline.is_some_and(|deadline| now >= deadline) {
            return Ok(record);
        }
        let early = wait.saturating_sub(now.saturating_sub(asked));
        tokio::time::sleep(early.min(PAUSE)).await;
    }
}

pub(super) fn tell(output: Output, record: &Record) -> Result<(), Failure> {
    output.job(record, |job| format!("{}  {}", job.guid, standing(job)))
}

pub(super) fn exit(record: &Record) -> Exit {
    match record.job.state {
        State::Started => Exit::Ok,
        state if state.is_final() => Exit::NotAll,
        _ => Exit::TimedOut,
    }
}
