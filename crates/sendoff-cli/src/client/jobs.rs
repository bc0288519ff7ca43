//! `sendoff reschedule`, `start-now` and `resolve`: decisions about one job.

use sendoff::Guid;
use serde_json::{Map, Value, json, value::RawValue};

use super::{
    each::each,
    http::{Call, Client},
    output::{Output, Record},
    select::{resolve as select, selectors},
    wait::tell,
};
use crate::{
    args::{Decision, RescheduleArgs, ResolveArgs, StartNowArgs},
    failure::{Exit, Failure},
};

pub(super) async fn reschedule(
    client: &Client,
    output: Output,
    args: &RescheduleArgs,
) -> Result<Exit, Failure> {
    let mut request = Map::<String, Value>::new();
    if let Some(delay) = args.delay {
        request.insert("delay".into(), delay.to_string().into());
    }
    if let Some(at) = args.at {
        request.insert("run_at".into(), at.to_string().into());
    }
    let guid = select(client, &args.job).await?;
    let record = decide(client, Call::post(format!("/v1/jobs/{guid}:reschedule")).json(&request)).await?;
    tell(output, &record)?;
    Ok(Exit::Ok)
}

pub(super) async fn start_now(client: &Client, output: Output, args: &StartNowArgs) -> Result<Exit, Failure> {
    // Asked twice, a job that started meanwhile would be refused.
    let ask = |guid: Guid| decide(client, Call::post(format!("/v1/jobs/{guid}:start-now")).only_once());
    each(client, output, selectors(&args.jobs), ask, |record| {
        tell(output, &record)?;
        Ok(Exit::Ok)
    })
    .await
}

pub(super) async fn resolve(client: &Client, output: Output, args: &ResolveArgs) -> Result<Exit, Failure> {
    let to = match args.to {
        Decision::Started => "started",
        Decision::Failed => "failed",
        Decision::Pending => "pending",
    };
    let guid = select(client, &args.job).await?;
    let call = Call::post(format!("/v1/jobs/{guid}:resolve")).json(&json!({ "to": to })).only_once();
    tell(output, &decide(client, call).await?)?;
    Ok(Exit::Ok)
}

/// The record that a decision leads to.
async fn decide(client: &Client, call: Call) -> Result<Record, Failure> {
    let json: Box<RawValue> = client.call(&call).await?.json()?;
    Record::read(json)
}
