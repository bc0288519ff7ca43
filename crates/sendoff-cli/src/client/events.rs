//! The daemon's events, as a stream that goes on after a lost connection.

#[cfg(test)]
pub(crate) mod fuzz;

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use sendoff::{
    Guid, State, Timestamp,
    time::{Clock, SystemClock},
};
use serde::Deserialize;

use super::http::{Call, Client, NotOpen, strange};
use crate::failure::Failure;

/// How long a daemon that went away may take to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);
/// A daemon that is silent for so long is gone: it says something at least every 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest line that makes sense.
const LONGEST: usize = 64 * 1024;

/// What an event says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    Job(Change, String),
    /// So many were missed, if that is known.
    Lagged(Option<u64>),
}

/// A job reached a state.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Change {
    pub(super) guid: Guid,
    pub(super) queue: String,
    pub(super) state: State,
    pub(super) attempt: u32,
    pub(super) at: Timestamp,
}

/// Listens.
pub(super) struct Events<'a> {
    client: &'a Client,
    path: String,
    body: Option<Incoming>,
    reader: Reader,
    /// The daemon has been there.
    was_there: bool,
}

impl<'a> Events<'a> {
    pub(super) fn of(client: &'a Client, path: String) -> Self {
        Self { client, path, body: None, reader: Reader::default(), was_there: false }
    }

    /// Begins to listen, unless it does already: what happens from now on will be told.
    ///
    /// # Errors
    /// The daemon refuses, or is not there.
    pub(super) async fn open(&mut self) -> Result<(), Failure> {
        match self.body {
            Some(_) => Ok(()),
            None => self.connect().await.map_err(|NotOpen { failure, .. }| failure),
        }
    }

    /// The next event.
    ///
    /// # Errors
    /// The daemon refuses, or went away and did not come back.
    pub(super) async fn next(&mut self) -> Result<Event, Failure> {
        let mut gone_at = None;
        loop {
            if let Some(event) = self.reader.next()? {
                return Ok(event);
            }
            let Some(body) = &mut self.body else {
                match self.connect().await {
                    Ok(()) => gone_at = None,
                    Err(NotOpen { failure, passing }) => {
                        let gone_at = *gone_at.get_or_insert_with(|| SystemClock.elapsed());
                        let gone = SystemClock.elapsed().saturating_sub(gone_at);
                        if !self.was_there || !passing || gone >= PATIENCE {
                            return Err(failure);
                        }
                        tokio::time::sleep(PAUSE).await;
                    }
                }
                continue;
            };
            match tokio::time::timeout(SILENCE, body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.reader.take(&data)?;
                    }
                }
                _ => {
                    self.body = None;
                    self.reader.broke();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn connect(&mut self) -> Result<(), NotOpen> {
        let mut call = Call::get(&self.path);
        if let Some(last) = &self.reader.last_id {
            call = call.header("last-event-id", last);
        }
        self.body = Some(self.client.open(&call).await?);
        self.was_there = true;
        Ok(())
    }
}

/// Reads `text/event-stream`.
#[derive(Debug, Default)]
struct Reader {
    bytes: Vec<u8>,
    last_id: Option<String>,
    name: String,
    data: String,
}

impl Reader {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > LONGEST && !self.bytes.contains(&b'\n') {
            return Err(strange(&"an event without end"));
        }
        Ok(())
    }

    /// What had come of an event counts for nothing.
    fn broke(&mut self) {
        self.bytes.clear();
        self.name.clear();
        self.data.clear();
    }

    fn next(&mut self) -> Result<Option<Event>, Failure> {
        while let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.bytes.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
                if let Some(event) = event(&name, data)? {
                    return Ok(Some(event));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.last_id = Some(value.to_owned()),
                "event" => value.clone_into(&mut self.name),
                "data" => self.data.push_str(value),
                // A comment, or something newer.
                _ => {}
            }
        }
        Ok(None)
    }
}

fn event(name: &str, data: String) -> Result<Option<Event>, Failure> {
    #[derive(Deserialize)]
    struct Lagged {
        missed: Option<u64>,
    }
    match name {
        "job" => {
            let change = serde_json::from_str(&data).map_err(|err| strange(&err))?;
            Ok(Some(Event::Job(change, data)))
        }
        "lagged" => {
            let lagged: Lagged = serde_json::from_str(&data).map_err(|err| strange(&err))?;
            Ok(Some(Event::Lagged(lagged.missed)))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_whatever_pieces_they_come_in() {
        let job = r#"{"guid":"018f2b1e-0000-7000-8000-00000000000a","queue":"mail","state":"started","attempt":1,"at":"2027-01-01T12:00:00Z"}"#;
        let text = format!(
            ":\n\nid: 7\nevent: job\ndata: {job}\n\n:\n\nevent: newer\ndata: x\n\nid: 9\r\nevent: lagged\r\ndata: {{\"missed\":2}}\r\n\r\n"
        );
        for piece in [1, 7, text.len()] {
            let mut reader = Reader::default();
            let mut events = Vec::new();
            for bytes in text.as_bytes().chunks(piece) {
                reader.take(bytes).unwrap();
                while let Some(event) = reader.next().unwrap() {
                    events.push(event);
                }
            }
            let change = serde_json::from_str(job).unwrap();
            assert_eq!(events, [Event::Job(change, job.into()), Event::Lagged(Some(2))]);
            assert_eq!(reader.last_id.as_deref(), Some("9"));
        }
    }
}
