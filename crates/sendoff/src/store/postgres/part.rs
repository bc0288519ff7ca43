//! This node's part in the store: its connections and the tasks that use them.

use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    runtime::Handle,
    sync::{Notify, mpsc, oneshot},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_postgres::Client;

use super::{
    ask::{Answer, Ask},
    call::{Call, Work},
    connect::Target,
    failure::Failure,
    link::{Link, Turn},
    reader::{self, Headers, Reader},
    shared::Shared,
    writer::{Message, Writer},
};
use crate::{
    error::{Error, ErrorKind, Result},
    job::{Header, JobId},
    ports::{Claim, ClaimVerdict, Fleet, Lease, NodeRecord, StoreFuture, Wake, Wanted},
    time::Clock,
};

/// How long a read may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Between two looks whether the tally has grown, with jitter.
const FOLD: Duration = Duration::from_secs(5);
/// The tally is folded after so many writes of this node.
const FOLD_WRITES: u64 = 500;

pub(super) struct Part {
    pub(super) shared: Arc<Shared>,
    reads: Arc<Link>,
    /// None once the store is closed.
    queue: Mutex<Option<mpsc::UnboundedSender<Message>>>,
    /// Writes called and not answered yet.
    waiting: Arc<AtomicU64>,
    writes: Arc<AtomicU64>,
    #[cfg_attr(
        not(feature = "testing"),
        expect(dead_code, reason = "only a crash does not let it end by itself")
    )]
    writer: AbortHandle,
    upkeep: AbortHandle,
}

impl Part {
    pub(super) fn start(target: Target, shared: Shared) -> Arc<Self> {
        let (queue, messages) = mpsc::unbounded_channel();
        let (shared, waiting, writes) = (Arc::new(shared), Arc::default(), Arc::default());
        let back = Arc::new(Notify::new());
        let link = Arc::new(Link::new(target.clone(), back.clone()));
        let reads = Arc::new(Link::new(target, Arc::default()));
        let writer = Writer::new(messages, link, shared.clone(), Arc::clone(&waiting)).run();
        // Both end with the store, which aborts the one and lets the other come to its end.
        let runtime = Handle::current();
        let writer = runtime.spawn(writer).abort_handle();
        let upkeep = runtime.spawn(upkeep(shared.clone(), reads.clone(), back, Arc::clone(&writes)));
        let queue = Mutex::new(Some(queue));
        Arc::new(Self { shared, reads, queue, waiting, writes, writer, upkeep: upkeep.abort_handle() })
    }

    pub(super) fn write<I, O: Send + 'static>(
        &self,
        input: I,
        work: fn(Call<I, O>) -> Work,
    ) -> StoreFuture<O> {
        let (call, answer) = Call::new(input);
        self.waiting.fetch_add(1, Ordering::AcqRel);
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.send(Message::Write(Box::new(work(call))));
        let shared = self.shared.clone();
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(shared.ended())) })
    }

    fn send(&self, message: Message) {
        if let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
            // An ended task drops the message, and whoever waits for the reply is told.
            let _ = queue.send(message);
        }
    }

    /// Resolves when every write that was called before is done: a read sees them all.
    pub(super) fn written(&self) -> impl Future<Output = ()> + Send + use<> {
        let told = (self.waiting.load(Ordering::Acquire) > 0).then(|| {
            let (tell, told) = oneshot::channel();
            self.send(Message::Written(tell));
            told
        });
        async move {
            if let Some(told) = told {
                // An ended task has nothing more to write.
                let _ = told.await;
            }
        }
    }

    /// # Errors
    /// [`Error::is_closed`], [`Error::is_unavailable`].
    pub(super) async fn reading(&self) -> Result<Arc<Client>> {
        if self.shared.is_closed() {
            return Err(self.shared.ended());
        }
        self.reads.client().await
    }

    /// Held while a read is under way.
    pub(super) async fn turn(&self) -> Turn<'_> {
        self.reads.turn().await
    }

    pub(super) fn reader<'a>(&'a self, client: &'a Client) -> Reader<'a> {
        Reader { ask: Ask::new(client, &self.shared.sql), interned: &self.shared.interned }
    }

    /// What a read came to: it is tried once more on another connection.
    pub(super) async fn judged<T>(
        &self,
        client: &Arc<Client>,
        read: impl Future<Output = Answer<T>> + Send,
        last: bool,
    ) -> ControlFlow<Result<T>> {
        let err = match timeout(LIMIT, read).await {
            Ok(Ok(answer)) => return ControlFlow::Break(Ok(answer)),
            Ok(Err(err)) => err,
            Err(_) => {
                self.reads.lost(client);
                let words = format!("the database did not answer within {} s; try again", LIMIT.as_secs());
                return ControlFlow::Break(Err(Error::new(ErrorKind::Unavailable, words)));
            }
        };
        let failure = Failure::of(&err);
        if failure == Failure::Lost {
            self.reads.lost(client);
        }
        match failure {
            Failure::Lost | Failure::Again if !last => ControlFlow::Continue(()),
            _ => ControlFlow::Break(Err(failure.error(&err))),
        }
    }

    /// Has those quarantined that cannot be read.
    pub(super) fn without_suspects(&self, headers: Headers) -> Vec<Header> {
        if !headers.suspects.is_empty() {
            tracing::error!(
                jobs = headers.suspects.len(),
                "stored jobs cannot be read; they are quarantined"
            );
            drop(self.write(headers.suspects, Work::Quarantine));
        }
        headers.found
    }

    pub(super) fn close(&self) -> StoreFuture<()> {
        let written = self.written();
        if !self.end() {
            return Box::pin(std::future::ready(Err(self.shared.ended())));
        }
        let (shared, reads) = (self.shared.clone(), self.reads.clone());
        Box::pin(async move {
            written.await;
            let left = shared.node.leave().await;
            reads.close();
            left
        })
    }

    /// Takes no more calls; what was called is done. Whether this was the first time.
    pub(super) fn end(&self) -> bool {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.close();
        self.upkeep.abort();
        queue.is_some()
    }

    #[cfg(feature = "testing")]
    pub(super) fn crash(&self) {
        self.shared.node.crash();
        self.writer.abort();
        self.end();
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("node", &self.shared.node)
            .field("reads", &self.reads)
            .finish_non_exhaustive()
    }
}

/// A read of a [`Part`] after all writes so far, on whichever connection there is.
macro_rules! read {
    ($part:expr, $reader:ident => $work:expr) => {{
        let part = $part.clone();
        let written = part.written();
        async move {
            written.await;
            let mut last = false;
            let turn = part.turn().await;
            loop {
                let client = part.reading().await?;
                let $reader = part.reader(&client);
                if let std::ops::ControlFlow::Break(answer) = part.judged(&client, $work, last).await {
                    turn.over();
                    return answer;
                }
                last = true;
            }
        }
    }};
}
pub(super) use read;

/// Tells the engine of connections that came back, and folds the tally now and then.
async fn upkeep(shared: Arc<Shared>, reads: Arc<Link>, back: Arc<Notify>, writes: Arc<AtomicU64>) {
    let mut folded = 0;
    loop {
        tokio::select! {
            () = back.notified() => shared.node.reconnected(),
            () = sleep(FOLD.mul_f64(0.75 + fastrand::f64() / 2.0)) => {
                let now = writes.load(Ordering::Relaxed);
                if now - folded < FOLD_WRITES {
                    continue;
                }
                folded = now;
                let turn = reads.turn().await;
                if let Ok(client) = reads.client().await
                    && let Err(err) = reader::fold(Ask::new(&client, &shared.sql)).await
                {
                    // Counts stay exact without it.
                    tracing::debug!(error = %super::failure::words(&err), "the tally was not folded");
                }
                turn.over();
            }
        }
    }
}

/// What the engine sees of the fleet through this part.
pub(super) struct Seat(pub(super) Arc<Part>);

impl Fleet for Seat {
    fn accepts_at_most_once(&self) -> bool {
        !self.0.shared.refuses_at_most_once()
    }

    fn lease(&self) -> Arc<Lease> {
        self.0.shared.node.lease()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.0.shared.node.clock()
    }

    fn queues(&self) -> Option<Arc<[Arc<str>]>> {
        self.0.shared.node.queues()
    }

    fn poll_interval(&self) -> Duration {
        self.0.shared.node.poll_interval()
    }

    fn woken(&self) -> BoxFuture<'static, Wake> {
        self.0.shared.node.woken()
    }

    fn hint(&self) {
        self.0.shared.node.hint();
    }

    fn report(&self, in_flight: usize) {
        self.0.shared.node.report(in_flight);
    }

    fn claim(&self, wanted: Vec<Wanted>, by: Claim) -> StoreFuture<Vec<ClaimVerdict>> {
        self.0.write((wanted, by), Work::ClaimWithin)
    }

    fn mine(&self) -> StoreFuture<Vec<(JobId, u32)>> {
        let shared = self.0.shared.clone();
        Box::pin(read!(self.0, reader => shared.node.mine(reader.ask)))
    }

    fn nodes(&self) -> StoreFuture<Vec<NodeRecord>> {
        let shared = self.0.shared.clone();
        Box::pin(read!(self.0, reader => shared.node.nodes(reader.ask)))
    }
}
