//! Queues: what is in them, and their limits.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use schemars::JsonSchema;
use sendoff::{Error, QueueLimits, State};
use serde::Serialize;

use super::{
    Answered, Api, Call, json,
    problem::{INVALID_QUEUE, NO_QUEUE, Problem},
    read, schema,
};

/// All queues that have jobs or limits, by name.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Queues {
    queues: Vec<Queue>,
}

/// A queue.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Queue {
    name: String,
    #[schemars(schema_with = "schema::limits")]
    limits: QueueLimits,
    /// Jobs by state; zeros are left out.
    #[schemars(with = "BTreeMap<String, u64>")]
    counts: BTreeMap<State, u64>,
}

impl Queue {
    fn new(name: String) -> Self {
        Self { name, limits: QueueLimits::default(), counts: BTreeMap::new() }
    }
}

async fn all(api: &Api) -> Result<BTreeMap<String, Queue>, Problem> {
    let mut queues = BTreeMap::new();
    for (name, counts) in api.scheduler.counts().await?.queues {
        queues.insert(name.clone(), Queue { counts, ..Queue::new(name) });
    }
    for (name, limits) in api.scheduler.queues().await? {
        queues.entry(name.to_string()).or_insert_with(|| Queue::new(name.to_string())).limits = limits;
    }
    Ok(queues)
}

pub(crate) async fn list(api: Arc<Api>, _: Call) -> Answered {
    let queues = all(&api).await?.into_values().collect();
    json(StatusCode::OK, &Queues { queues })
}

pub(crate) async fn show(api: Arc<Api>, call: Call) -> Answered {
    match all(&api).await?.remove(&call.part) {
        Some(queue) => json(StatusCode::OK, &queue),
        None => {
            Err(NO_QUEUE.says(format!("there is no queue {:?}: it has neither jobs nor limits", call.part)))
        }
    }
}

pub(crate) async fn set(api: Arc<Api>, call: Call) -> Answered {
    let limits: QueueLimits = read::json(&call.headers, call.body).await?;
    let _one = api.changing_queues.lock().await;
    change(&api, &call.who.name, "queue_set", &call.part, Some(limits)).await
}

pub(crate) async fn forget(api: Arc<Api>, call: Call) -> Answered {
    read::nothing(call.body).await?;
    let _one = api.changing_queues.lock().await;
    change(&api, &call.who.name, "queue_forget", &call.part, None).await
}

pub(crate) async fn pause(api: Arc<Api>, call: Call) -> Answered {
    set_paused(api, call, true).await
}

pub(crate) async fn resume(api: Arc<Api>, call: Call) -> Answered {
    set_paused(api, call, false).await
}

async fn set_paused(api: Arc<Api>, call: Call, paused: bool) -> Answered {
    read::nothing(call.body).await?;
    let _one = api.changing_queues.lock().await;
    let known = api.scheduler.queues().await?.get(call.part.as_str()).copied();
    let limits = QueueLimits { paused, ..known.unwrap_or_default() };
    // Limits that limit nothing need not be kept.
    let limits = (limits != QueueLimits::default()).then_some(limits);
    let action = if paused { "queue_pause" } else { "queue_resume" };
    change(&api, &call.who.name, action, &call.part, limits).await
}

/// Sets the limits and answers with the queue.
async fn change(api: &Api, who: &str, action: &str, name: &str, limits: Option<QueueLimits>) -> Answered {
    api.scheduler.set_queue_limits(name, limits).await.map_err(refused)?;
    tracing::info!(target: "audit", who, action, queue = name, ?limits);
    let queue = all(api).await?.remove(name).unwrap_or_else(|| Queue::new(name.to_owned()));
    json(StatusCode::OK, &queue)
}

fn refused(err: Error) -> Problem {
    if err.is_invalid() { Problem::of_field(&INVALID_QUEUE, &err.to_string()) } else { err.into() }
}
