//! Changes of state as server-sent events, numbered, with a buffer to resume from.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::HeaderName;
use sendoff::{
    Guid, Notice, Notices, Scheduler, State,
    time::{Clock, SystemClock},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::{
    Answered, Api, Call,
    body::{self, Writer},
    list,
    problem::{Problem, TOO_MANY_STREAMS},
    read::{self, Query, bad_parameter},
    streamed,
};
use crate::access::Identity;

pub(crate) static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Events kept for listeners that come back, or are slow.
pub(crate) const KEPT: usize = 4_096;
/// Streams open at once.
pub(crate) const STREAMS: usize = 256;
/// A comment is sent when nothing else was for so long.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Without a listener for so long, nobody keeps events any more.
const KEEP: Duration = Duration::from_secs(300);
/// Events that go out in one piece.
const PIECE: usize = 256;

/// What listeners share: the last events, kept by one task while anybody listens.
pub(crate) struct Events {
    scheduler: Scheduler,
    kept: Mutex<Kept>,
    /// The number of the last event; changes wake the streams.
    last: watch::Sender<u64>,
    streams: Arc<Semaphore>,
}

struct Kept {
    events: VecDeque<Event>,
    /// The number of the next event. Numbers begin at the time when the first listener came, in
    /// microseconds, so that they go on ascending after a restart.
    next: u64,
    /// Numbers below this were never given, or in another life.
    first: u64,
    /// A task keeps events.
    running: bool,
    /// The scheduler has stopped: there will be no more.
    closed: bool,
}

struct Event {
    /// None: some were missed here.
    notice: Option<Notice>,
    text: String,
}

/// Which events a listener wants.
struct Wanted {
    guid: Option<Guid>,
    queue: Option<String>,
    state: Option<State>,
}

impl Wanted {
    fn read(query: &Query) -> Result<Self, Problem> {
        Ok(Self {
            guid: query.read("guid", |text| text.parse::<Guid>())?,
            queue: query.get("queue").map(str::to_owned),
            state: query.read("state", list::state)?,
        })
    }

    fn wants(&self, event: &Event) -> bool {
        event.notice.as_ref().is_none_or(|notice| {
            self.guid.is_none_or(|guid| guid == notice.guid)
                && self.state.is_none_or(|state| state == notice.state)
                && self.queue.as_ref().is_none_or(|queue| **queue == *notice.queue)
        })
    }
}

pub(crate) async fn listen(api: Arc<Api>, call: Call) -> Answered {
    let wanted = Wanted::read(&call.query)?;
    let resume = match read::header_text(&call.headers, &LAST_EVENT_ID)? {
        None | Some("") => None,
        Some(text) => {
            let number = text.parse::<u64>();
            Some(number.map_err(|_| bad_parameter("Last-Event-ID", "it is no number that an event had"))?)
        }
    };
    let place = api.events.streams.clone().try_acquire_owned().map_err(|_| {
        TOO_MANY_STREAMS.says(format!("{STREAMS} event streams are open, which is the most; close some"))
    })?;
    let (writer, body) = body::written(1);
    let stopping = api.stopping();
    let (next, greeting) = api.events.clone().join(resume);
    let stream = Stream { events: api.events.clone(), who: call.who, wanted, next, writer, _place: place };
    // It ends when the listener goes, or at shutdown.
    drop(Handle::current().spawn(stream.run(greeting, stopping)));
    Ok(streamed("text/event-stream", body))
}

impl Events {
    pub(crate) fn new(scheduler: Scheduler) -> Self {
        Self {
            scheduler,
            kept: Mutex::new(Kept {
                events: VecDeque::new(),
                next: 1,
                first: 1,
                running: false,
                closed: false,
            }),
            last: watch::channel(0).0,
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a listener begins, and what it is told first.
    fn join(self: Arc<Self>, resume: Option<u64>) -> (u64, String) {
        let mut kept = self.kept();
        if !kept.running {
            kept.running = true;
            kept.events.clear();
            let now = SystemClock.now().as_micros().unsigned_abs();
            kept.next = kept.next.saturating_add(1).max(now);
            kept.first = kept.next;
            // It ends with the scheduler, or some time after the last listener.
            drop(Handle::current().spawn(self.clone().keep(self.scheduler.notices())));
        }
        let here = kept.next - 1;
        match resume {
            // The comment lets the listener know at once that it listens.
            None => (kept.next, ":\n\n".to_owned()),
            Some(seen) if seen >= kept.first - 1 && seen <= here => (seen + 1, ":\n\n".to_owned()),
            Some(_) => (kept.next, lagged(here, None)),
        }
    }

    /// Numbers what the scheduler tells and keeps the last of it.
    async fn keep(self: Arc<Self>, mut notices: Notices) {
        let mut look = tokio::time::interval(HEARTBEAT);
        let mut alone = Duration::ZERO;
        loop {
            tokio::select! {
                told = notices.next() => match told {
                    Some(Ok(notice)) => self.push(Some(notice), None),
                    Some(Err(lagged)) => self.push(None, Some(lagged.0)),
                    None => {
                        self.kept().closed = true;
                        self.last.send_replace(0);
                        return;
                    }
                },
                _ = look.tick() => {
                    let mut kept = self.kept();
                    // Whoever joins has a place among the streams already, and waits for this lock.
                    let listened = self.streams.available_permits() < STREAMS;
                    alone = if listened { Duration::ZERO } else { alone + HEARTBEAT };
                    if alone >= KEEP {
                        kept.running = false;
                        return;
                    }
                }
            }
        }
    }

    fn push(&self, notice: Option<Notice>, missed: Option<u64>) {
        let mut kept = self.kept();
        let number = kept.next;
        let text = match &notice {
            Some(notice) => job(number, notice),
            None => lagged(number, missed),
        };
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(Event { notice, text });
        kept.next += 1;
        drop(kept);
        self.last.send_replace(number);
    }

    /// Of the events from `next` on, those that are wanted, as text; how far that went. None at the end.
    fn read(&self, next: &mut u64, wanted: &Wanted) -> Option<String> {
        let kept = self.kept();
        let mut text = String::new();
        let oldest = kept.next - kept.events.len() as u64;
        if *next < oldest {
            text.push_str(&lagged(oldest - 1, Some(oldest - *next)));
            *next = oldest;
        }
        if kept.closed && *next == kept.next && text.is_empty() {
            return None;
        }
        let skip = usize::try_from(*next - oldest).unwrap_or(usize::MAX);
        for event in kept.events.iter().skip(skip).take(PIECE) {
            *next += 1;
            if wanted.wants(event) {
                text.push_str(&event.text);
            }
        }
        Some(text)
    }
}

/// One listener.
struct Stream {
    events: Arc<Events>,
    who: Identity,
    wanted: Wanted,
    /// The number of the next event.
    next: u64,
    writer: Writer,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// Writes until the listener goes, its token is no longer good, or the scheduler or the daemon ends.
    async fn run(mut self, greeting: String, mut stopping: watch::Receiver<bool>) {
        let mut last = self.events.last.subscribe();
        // Of this stream, whatever happens that it does not want.
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut text = greeting;
        loop {
            if !text.is_empty() {
                if !self.who.holds() || self.writer.send(text.into()).await.is_err() {
                    return;
                }
                heartbeat.reset();
            }
            last.mark_unchanged();
            let before = self.next;
            match self.events.read(&mut self.next, &self.wanted) {
                Some(more) => text = more,
                None => return,
            }
            if self.next != before || !text.is_empty() {
                continue;
            }
            tokio::select! {
                _ = last.changed() => {}
                () = self.writer.closed() => return,
                _ = stopping.wait_for(|stopping| *stopping) => return,
                _ = heartbeat.tick() => text.push_str(":\n\n"),
            }
        }
    }
}

fn job(number: u64, notice: &Notice) -> String {
    let data = serde_json::to_string(notice).unwrap_or_default();
    format!("id: {number}\nevent: job\ndata: {data}\n\n")
}

/// So many events were missed, or nobody knows how many; the next ones follow this number.
fn lagged(number: u64, missed: Option<u64>) -> String {
    let missed = missed.map_or_else(|| "null".to_owned(), |missed| missed.to_string());
    format!("id: {number}\nevent: lagged\ndata: {{\"missed\":{missed}}}\n\n")
}
