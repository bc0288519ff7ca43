//! Idle connections, kept per origin, and the few tasks that look after them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use http::HeaderValue;
use tokio::{
    task::{AbortHandle, JoinSet, unconstrained},
    time::{Instant, timeout},
};

use super::{
    connect::{self, Connector, Endpoint},
    link::Link,
    prepare::Place,
    rest::Progress,
};
use crate::{
    ports::{Refusal, StartError},
    starter::policy::Bounds,
};

/// Connections to all origins together that are kept, idle or in use again; one more is closed instead.
const MAX_KEPT: usize = 1_024;
/// Answers whose rest is read after their start has ended, and for how long. An answer beyond
/// either is not worth its connection: a new one costs less.
const MAX_FINISHING: usize = 256;
const FINISH_WITHIN: Duration = Duration::from_secs(1);
/// URLs known at a time, and the longest of them in bytes.
const MAX_KNOWN: usize = 1_024;
const MAX_KNOWN_LENGTH: usize = 512;
/// How often idle connections are looked after, at least.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// What a pool may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Idle connections per origin.
    pub(super) idle_per_origin: usize,
    /// How long a connection may idle.
    pub(super) idle_time: Duration,
    /// How much of an answer's body is read to keep its connection, in bytes.
    pub(super) body_cap: usize,
}

/// All origins and their idle connections.
pub(super) struct Pool {
    connector: Connector,
    limits: Limits,
    origins: RwLock<HashMap<Box<str>, Arc<Origin>>>,
    /// What the URLs of late came to: reading one costs as much as writing the whole request.
    urls: RwLock<HashMap<Box<str>, Arc<Known>>>,
    kept: Arc<AtomicUsize>,
    tasks: Mutex<Tasks>,
}

/// Where a URL leads.
pub(super) struct Known {
    pub(super) origin: Arc<Origin>,
    /// Path and query.
    pub(super) target: Box<str>,
}

/// A connection's place among those that are kept, until it is closed: to count it only then spares
/// each start two changes to what all threads share.
pub(super) struct Seat(Arc<AtomicUsize>);

#[derive(Default)]
struct Tasks {
    /// Dropped, and so ended, with the pool.
    set: JoinSet<()>,
    sweeper: Option<AbortHandle>,
}

/// A scheme, host and port, and the idle connections to it.
pub(super) struct Origin {
    endpoint: Endpoint,
    limits: Limits,
    kept: Arc<AtomicUsize>,
    /// The last one kept is the first one used again, so that those not needed grow old.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    link: Box<Link>,
    since: Instant,
}

impl Pool {
    pub(super) fn new(connector: Connector, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            connector,
            limits,
            origins: RwLock::default(),
            urls: RwLock::default(),
            kept: Arc::default(),
            tasks: Mutex::default(),
        })
    }

    /// Where `url` leads.
    pub(super) fn place(self: &Arc<Self>, url: &str) -> Result<Arc<Known>, Refusal> {
        if let Some(known) = self.urls.read().unwrap_or_else(PoisonError::into_inner).get(url) {
            return Ok(known.clone());
        }
        let place = Place::read(url)?;
        // Also origins that are never connected to have to be forgotten.
        self.sweep_from_now_on();
        let found = Arc::new(Known { origin: self.origin(&place)?, target: place.target.as_str().into() });
        if url.len() <= MAX_KNOWN_LENGTH {
            let mut urls = self.urls.write().unwrap_or_else(PoisonError::into_inner);
            if urls.len() >= MAX_KNOWN {
                urls.clear();
            }
            urls.insert(url.into(), found.clone());
        }
        Ok(found)
    }

    fn origin(&self, place: &Place) -> Result<Arc<Origin>, Refusal> {
        let key = place.origin();
        let known = self.origins.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        if let Some(origin) = known {
            return Ok(origin);
        }
        let origin = Origin {
            endpoint: place.endpoint()?,
            limits: self.limits,
            kept: Arc::clone(&self.kept),
            idle: Mutex::default(),
        };
        let mut origins = self.origins.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(origins.entry(key.into()).or_insert_with(|| Arc::new(origin))))
    }

    /// A new connection, within `bounds`.
    pub(super) async fn connect(
        self: &Arc<Self>,
        origin: &Origin,
        bounds: Option<&Bounds<'_>>,
    ) -> Result<Box<Link>, StartError> {
        self.sweep_from_now_on();
        let (stream, peer) = self.connector.connect(&origin.endpoint, bounds).await?;
        Ok(Box::new(Link::new(stream, peer)))
    }

    /// Reads the rest of an answer and keeps the connection. What has arrived already is read at
    /// once; nobody waits for the rest.
    pub(super) fn finish(&self, origin: &Arc<Origin>, mut link: Box<Link>) {
        let cap = self.limits.body_cap;
        match link.settle(cap) {
            Progress::Done => return origin.keep(link),
            Progress::Spoiled => return,
            Progress::More => {}
        }
        let origin = Arc::clone(origin);
        let mut rest = Box::pin(async move {
            if let Ok(true) = timeout(FINISH_WITHIN, link.finish(cap)).await {
                origin.keep(link);
            }
        });
        // Whoever waits is the task, which polls it again first of all.
        if rest.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            let mut tasks = self.tasks();
            while tasks.set.try_join_next().is_some() {}
            if tasks.set.len() < MAX_FINISHING {
                tasks.set.spawn(rest);
            }
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that connections are swept, also after the runtime of the last sweeper is gone.
    fn sweep_from_now_on(self: &Arc<Self>) {
        let mut tasks = self.tasks();
        if tasks.sweeper.as_ref().is_none_or(AbortHandle::is_finished) {
            let every = SWEEP_EVERY.min(self.limits.idle_time / 4).max(Duration::from_millis(1));
            let sweeper = tasks.set.spawn(sweep(Arc::downgrade(self), every));
            tasks.sweeper = Some(sweeper);
        }
    }

    /// Closes what has idled too long or was closed by the target, and forgets origins not in use.
    fn sweep(&self) {
        // Known URLs would hold on to their origins for ever.
        self.urls.write().unwrap_or_else(PoisonError::into_inner).clear();
        let origins: Vec<_> =
            self.origins.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut unused = 0;
        for origin in origins {
            unused += usize::from(origin.sweep() == 0);
        }
        if unused > 0 {
            let mut origins = self.origins.write().unwrap_or_else(PoisonError::into_inner);
            // Only with the map locked does a count of one mean that nobody is about to use it.
            origins.retain(|_, origin| Arc::strong_count(origin) > 1 || !origin.idle().is_empty());
        }
    }
}

async fn sweep(pool: Weak<Pool>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        // More connections may be polled here than a task may poll at a time.
        unconstrained(async { pool.sweep() }).await;
    }
}

impl Origin {
    /// Host and port, for messages.
    pub(super) fn destination(&self) -> &str {
        &self.endpoint.destination
    }

    pub(super) fn host_header(&self) -> &HeaderValue {
        &self.endpoint.host_header
    }

    /// An idle connection that is still open, as far as known, to an address within `bounds`: jobs
    /// that may reach more have left some to others.
    pub(super) fn take(&self, bounds: Option<&Bounds<'_>>) -> Option<Box<Link>> {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            let Idle { mut link, since } = self.pop(bounds)?;
            if since.elapsed() < self.limits.idle_time && link.poll_idle(&mut cx) {
                return Some(link);
            }
        }
    }

    fn pop(&self, bounds: Option<&Bounds<'_>>) -> Option<Idle> {
        let mut idle = self.idle();
        if bounds.is_none() {
            return idle.pop();
        }
        let last = idle.iter().rposition(|idle| connect::admit(idle.link.peer, bounds).is_ok())?;
        Some(idle.remove(last))
    }

    /// Keeps an idle connection for the next start, or closes it if there are enough.
    pub(super) fn keep(&self, mut link: Box<Link>) {
        link.seat = link.seat.or_else(|| Seat::take(&self.kept));
        let mut idle = self.idle();
        if link.seat.is_some() && idle.len() < self.limits.idle_per_origin {
            idle.push(Idle { link, since: Instant::now() });
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes what is too old or closed; how many are left.
    fn sweep(&self) -> usize {
        let mut idle = self.idle();
        let mut cx = Context::from_waker(Waker::noop());
        idle.retain_mut(|Idle { link, since }| {
            since.elapsed() < self.limits.idle_time && link.poll_idle(&mut cx)
        });
        idle.len()
    }
}

impl Seat {
    fn take(kept: &Arc<AtomicUsize>) -> Option<Self> {
        let seat = Self(Arc::clone(kept));
        // One that finds all taken is given back right away.
        (kept.fetch_add(1, Ordering::Relaxed) < MAX_KEPT).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
