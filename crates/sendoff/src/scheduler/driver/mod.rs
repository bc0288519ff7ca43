//! The one loop: waits for commands, answers of the store, ends of attempts and the next due time,
//! tells the dispatcher, and does what it says. It never waits for anything else.

mod answers;
mod commands;
mod fleet;
mod stop;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, task::AbortHandle};
use tokio_util::task::TaskTracker;

use super::{Shared, attempt, command::Command};
use crate::{
    dispatcher::{Action, AttemptEnd, Backoff, Dispatcher, Event, Now},
    error::Result,
    job::{Job, JobId, QueueLimits},
    notice::Notice,
    ports::{AttemptClock, Claimed, Running, StartError, StartErrorClass, Store, StoreFuture},
    state::State,
    time::{Timer, Timestamp},
};
use answers::Answer;
pub(super) use commands::CANCELS;
use commands::{QueueChange, refuse};
use fleet::Among;
use stop::Stopping;

/// Commands, or ends of attempts, taken at once.
const TAKE: usize = 4_096;
/// What attempts and started things tell the loop.
pub(super) enum Message {
    Ended(AttemptEnd),
    RunEnded(Arc<str>),
}

/// An attempt under way.
struct Live {
    /// None if it was ended before it was tried.
    task: Option<AbortHandle>,
    clock: Arc<AttemptClock>,
    abandonable: bool,
    claimed: Arc<Claimed>,
    /// Its end was told, or was decided for it; the outcome is on its way to the store.
    ended: bool,
}

impl Live {
    fn abort(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

pub(super) struct Driver {
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
    inbox: mpsc::UnboundedReceiver<Command>,
    /// Every handle is gone: an inbox that is closed is always ready, and must not be asked again.
    deserted: bool,
    messages: mpsc::UnboundedReceiver<Message>,
    sender: mpsc::UnboundedSender<Message>,
    timer: Box<dyn Timer>,
    armed: Option<Timestamp>,
    tasks: TaskTracker,
    live: HashMap<JobId, Live>,
    answers: FuturesUnordered<BoxFuture<'static, Answer>>,
    /// The first is on its way to the store, the others wait for it.
    queue_changes: VecDeque<QueueChange>,
    stopping: Option<Stopping>,
    /// What there is to know in a fleet.
    among: Option<Among>,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        dispatcher: Dispatcher,
        inbox: mpsc::UnboundedReceiver<Command>,
        timer: Box<dyn Timer>,
        stored_queues: BTreeMap<Arc<str>, QueueLimits>,
    ) -> Self {
        let among = shared.membership.fleet().map(|fleet| Among::new(fleet.clone(), stored_queues));
        let (sender, messages) = mpsc::unbounded_channel();
        Self {
            shared,
            dispatcher,
            inbox,
            deserted: false,
            messages,
            sender,
            timer,
            armed: None,
            tasks: TaskTracker::new(),
            live: HashMap::new(),
            answers: FuturesUnordered::new(),
            queue_changes: VecDeque::new(),
            stopping: None,
            among,
        }
    }

    /// Runs until a shutdown is done, every handle is dropped, or the store is poisoned.
    pub(super) async fn run(mut self) {
        let outcome = self.turn().await;
        if let Err(fatal) = outcome {
            tracing::error!(error = %fatal, "the store is poisoned: nothing is started or acknowledged any more");
            self.live.values().for_each(Live::abort);
            self.shared.fatal.send_replace(Some(Arc::new(fatal)));
        }
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            refuse(command, &self.shared.closed());
        }
        // Lets go of the store's file, so that it can be opened again at once.
        if let Err(err) = self.shared.store.close().await {
            tracing::warn!(error = %err, "closing the store");
            if err.is_fatal() && self.shared.fatal.borrow().is_none() {
                self.shared.fatal.send_replace(Some(Arc::new(err)));
            }
        }
        self.shared.end();
        if let Some(stopping) = self.stopping.take() {
            // Nobody may be waiting for the report any more.
            let _ = stopping.reply.send(stopping.report);
        }
    }

    async fn turn(&mut self) -> Result<()> {
        let mut commands = Vec::new();
        let mut messages = Vec::new();
        self.feed(Event::Tick);
        loop {
            if self.is_done() {
                return Ok(());
            }
            self.arm();
            tokio::select! {
                count = self.inbox.recv_many(&mut commands, TAKE), if !self.deserted => {
                    if count == 0 {
                        self.deserted = true;
                        self.handles_dropped();
                    }
                    self.take_commands(commands.drain(..));
                }
                _ = self.messages.recv_many(&mut messages, TAKE) => self.take_messages(messages.drain(..)),
                Some(answer) = self.answers.next(), if !self.answers.is_empty() => {
                    self.take_answer(answer)?;
                    while let Some(Some(answer)) = self.answers.next().now_or_never() {
                        self.take_answer(answer)?;
                    }
                }
                wake = fleet::woken(&mut self.among) => self.woken(wake),
                () = poll_fn(|cx| self.timer.poll_ring(cx)) => {
                    self.armed = None;
                    self.feed(Event::Tick);
                }
            }
            self.pursue_stop();
        }
    }

    fn now(&self) -> Now {
        Now { wall: self.shared.clock.now(), elapsed: self.shared.clock.elapsed() }
    }

    fn arm(&mut self) {
        let now = self.now();
        let longest = now.wall.saturating_add(self.shared.clock.longest_sleep());
        let mut wake = self.dispatcher.next_wake(now).map_or(longest, |wake| wake.min(longest));
        if let Some(stopping) = &self.stopping {
            let limit = if stopping.abandoned { stopping.last_settle() } else { stopping.grace_ends };
            wake = wake.min(now.wall.saturating_add(limit.saturating_sub(now.elapsed)));
        }
        // An alarm that rings too early does no harm, and sparing system calls does some good.
        if self.armed.is_some_and(|armed| armed <= wake) {
            return;
        }
        self.armed = Some(wake);
        self.timer.arm(Some(wake));
    }

    /// Tells the dispatcher and does what it says.
    fn feed(&mut self, event: Event) {
        let now = self.now();
        let actions = self.dispatcher.handle(now, event);
        self.count_in_flight();
        self.shared.blank.store(self.dispatcher.is_blank(), Ordering::Release);
        for action in actions {
            self.act(now, action);
        }
    }

    fn count_in_flight(&self) {
        let in_flight = self.dispatcher.in_flight();
        if self.shared.in_flight.swap(in_flight, Ordering::Relaxed) != in_flight
            && let Some(among) = &self.among
        {
            among.fleet.report(in_flight);
        }
    }

    fn act(&mut self, now: Now, action: Action) {
        match action {
            Action::Start(claimed) => self.start(claimed),
            Action::Claim(wanted) => self.claim(wanted, now),
            Action::Queues => self.read_queues(),
            Action::Hint => self.among.iter().for_each(|among| among.fleet.hint()),
            Action::Settle(settlements) => {
                let told = settlements.clone();
                self.call(
                    "settle",
                    |store| store.settle(told, now.wall),
                    |result| Answer::Settled(settlements, result),
                );
            }
            Action::Due { after, until, limit } => {
                self.call("due", |store| store.due(Some(after), until, limit), Answer::Due);
            }
            Action::Lanes { after, limit } => {
                self.call("lanes", |store| store.lanes(after, limit), Answer::Lanes);
            }
            Action::Ready { lane, until, limit } => {
                let asked = lane.clone();
                self.call(
                    "ready",
                    |store| store.ready(asked, until, limit),
                    move |result| Answer::Ready(lane, limit, result),
                );
            }
            Action::Expire { limit } => {
                self.call("expire", |store| store.expire(limit, now.wall), Answer::Expired);
            }
        }
    }

    /// Asks the store; the answer is taken when it has come. Only an observer makes it look at the clock.
    fn call<T: Send + 'static>(
        &mut self,
        name: &'static str,
        ask: impl FnOnce(&dyn Store) -> StoreFuture<T>,
        take: impl FnOnce(Result<T>) -> Answer + Send + 'static,
    ) {
        let store = &*self.shared.store;
        let answer = match self.shared.observer.clone() {
            None => ask(store).map(take).boxed(),
            Some(observer) => {
                let clock = self.shared.clock.clone();
                let began = clock.elapsed();
                let answer = ask(store);
                async move {
                    let result = answer.await;
                    let took = clock.elapsed().saturating_sub(began);
                    observer.store_answered(name, took, result.is_ok());
                    take(result)
                }
                .boxed()
            }
        };
        self.answers.push(answer);
    }

    fn start(&mut self, claimed: Arc<Claimed>) {
        self.notify(&claimed.job, State::Starting, claimed.attempt, claimed.claimed_at);
        let id = claimed.id;
        let lease = self.among.as_mut().and_then(|among| among.take_lease(&claimed));
        let clock = attempt::stamps(&self.shared.clock, lease, &claimed);
        let Some((starter, defaults)) = self.shared.resolver.starter(&claimed.job.lane.starter) else {
            // The dispatcher claims only for starters that are there.
            let live = Live { task: None, clock, abandonable: true, claimed, ended: false };
            self.live.insert(id, live);
            return self.release(id, "no such starter");
        };
        let name = claimed.job.lane.starter.clone();
        let running = match defaults.max_running {
            None => Running::unlimited(),
            Some(_) => {
                let sender = self.sender.clone();
                Running::new(move || {
                    // The loop may be gone, and with it the limit.
                    let _ = sender.send(Message::RunEnded(name));
                })
            }
        };
        let abandonable = defaults.abandonable;
        if self.stopping.is_some() {
            self.live.insert(id, Live { task: None, clock, abandonable, claimed, ended: false });
            return self.release(id, "sendoff is stopping");
        }
        let run = attempt::run(starter.clone(), abandonable, claimed.clone(), clock.clone(), running);
        let sender = self.sender.clone();
        let task = self.tasks.spawn(async move {
            // The loop outlives its attempts, but for the end of the runtime.
            let _ = sender.send(Message::Ended(run.await));
        });
        let task = Some(task.abort_handle());
        self.live.insert(id, Live { task, clock, abandonable, claimed, ended: false });
    }

    /// Ends an attempt that has not begun and will not.
    fn release(&mut self, id: JobId, why: &str) {
        let error = StartError::new(StartErrorClass::Released, why);
        let end = AttemptEnd { id, begun: None, result: Err(error), backoff: Backoff::default() };
        // The receiver is ours.
        let _ = self.sender.send(Message::Ended(end));
    }

    fn take_messages(&mut self, messages: impl Iterator<Item = Message>) {
        let mut ends = Vec::new();
        for message in messages {
            match message {
                Message::Ended(end) => {
                    if let Some(live) = self.live.get_mut(&end.id) {
                        live.ended = true;
                    }
                    ends.push(end);
                }
                Message::RunEnded(starter) => self.feed(Event::RunEnded(starter)),
            }
        }
        if !ends.is_empty() {
            self.feed(Event::Ended(ends));
        }
    }

    fn notify(&self, job: &Job, state: State, attempt: u32, at: Timestamp) {
        if self.shared.has_listeners() {
            self.shared.notify(Notice { guid: job.guid, queue: job.lane.queue.clone(), state, attempt, at });
        }
    }

    fn tell_if_idle(&self) {
        if self.dispatcher.is_drained() {
            self.shared.lull.notify_waiters();
        }
    }
}

impl Drop for Driver {
    /// However the loop ends, by a panic or with its runtime: nobody waits for it for ever.
    fn drop(&mut self) {
        self.shared.end();
    }
}
