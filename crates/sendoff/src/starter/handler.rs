//! Starts inside this process: async closures registered by name.

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    error::{Error, Result},
    guid::Guid,
    job::{Payload, Receipt},
    ports::{Attempt, Checked, Refusal, StartError, StartFuture, Starter, StarterDefaults},
};

/// A call of a registered handler: `{"handler": {"name": "greet", "payload": …}}`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// The handler's name.
    pub name: String,
    /// What it gets, as JSON; `null` if left out.
    #[serde(default = "null")]
    pub payload: Box<RawValue>,
}

fn null() -> Box<RawValue> {
    RawValue::NULL.to_owned()
}

impl Call {
    /// A call of the handler `name` with `payload`.
    ///
    /// # Errors
    /// [`Error::is_invalid`] if `payload` has no JSON form.
    pub fn new<T: Serialize>(name: impl Into<String>, payload: &T) -> Result<Self> {
        let payload = serde_json::value::to_raw_value(payload)
            .map_err(|err| Error::invalid(format!("the payload has no JSON form: {err}")))?;
        Ok(Self { name: name.into(), payload })
    }
}

impl fmt::Debug for Call {
    /// Names the handler and the payload's length: a payload may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({}, {} bytes)", self.name, self.payload.get().len())
    }
}

impl Payload for Call {
    const STARTER: &'static str = "handler";
}

type Handler = Arc<dyn Fn(Guid, Box<RawValue>) -> BoxFuture<'static, Result<(), StartError>> + Send + Sync>;

/// Runs [`Call`]s. A handler is *started* when its future is `Ok`; an error's class says whether
/// it is tried again.
#[derive(Clone, Default)]
pub struct HandlerStarter {
    handlers: BTreeMap<String, Handler>,
}

impl HandlerStarter {
    /// A starter without handlers.
    pub fn new() -> Self {
        Self::default()
    }

    /// With `handler` under `name`: it gets the job's guid, the same for each attempt, and the
    /// payload. A panic of the handler counts as an ambiguous outcome.
    #[must_use]
    pub fn handler<F, Fut, T>(mut self, name: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Guid, T) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), StartError>> + Send + 'static,
        T: serde::de::DeserializeOwned + Send + 'static,
    {
        let handler: Handler = Arc::new(move |guid, payload| match serde_json::from_str(payload.get()) {
            Ok(payload) => Box::pin(handler(guid, payload)),
            Err(err) => {
                // Its words would repeat a value, which may be a secret.
                let words = format!("the payload does not fit the handler (column {})", err.column());
                Box::pin(std::future::ready(Err(StartError::permanent(words))))
            }
        });
        self.handlers.insert(name.into(), handler);
        self
    }

    fn named(&self, name: &str) -> Result<&Handler, Refusal> {
        self.handlers.get(name).ok_or_else(|| {
            let known: Vec<_> = self.handlers.keys().map(String::as_str).collect();
            Refusal::new(
                "name",
                format!("no handler {name:?} is registered; there are: {}", known.join(", ")),
            )
        })
    }
}

impl fmt::Debug for HandlerStarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.handlers.keys()).finish()
    }
}

impl Starter for HandlerStarter {
    fn name(&self) -> &str {
        Call::STARTER
    }

    fn defaults(&self) -> StarterDefaults {
        StarterDefaults::default()
    }

    fn check(&self, payload: &RawValue, _grant: Option<&crate::job::Grant>) -> Result<Checked, Refusal> {
        let call: Call = Refusal::read(payload)?;
        self.named(&call.name)?;
        Ok(Checked::default())
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        Box::pin(async move {
            let permanent = |refusal: Refusal| StartError::permanent(refusal.message);
            let call: Call = Refusal::read(&attempt.payload).map_err(permanent)?;
            let handler = self.named(&call.name).map_err(permanent)?;
            attempt.begin()?;
            handler(attempt.guid, call.payload).await.map(|()| Receipt::default())
        })
    }
}
