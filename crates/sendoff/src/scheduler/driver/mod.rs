//! The one loop: waits for commands, answers of the store, ends of attempts and the next due time,
//! tells the dispatcher, and does what it says. It never waits for anything else.

mod answers;
mod commands;
mod fleet;
mod live;
mod stop;

use std::{
    collections::{BTreeMap, VecDeque},
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{runtime::Handle, sync::mpsc};

use super::{Shared, command::Command, unordered::Unordered};
use crate::{
    dispatcher::{Action, AttemptEnd, Dispatcher, Event, Now},
    error::Result,
    job::{ById, Job, QueueLimits},
    notice::Notice,
    ports::{Store, StoreFuture},
    state::State,
    time::{Timer, Timestamp},
};
use answers::Answer;
pub(super) use commands::CANCELS;
use commands::{QueueChange, refuse};
use fleet::Among;
use live::{Live, Together};
use stop::Stopping;

/// Commands, or ends of attempts, taken at once.
const TAKE: usize = 4_096;

/// What attempts and started things tell the loop.
pub(super) enum Message {
    Ended(AttemptEnd),
    EndedTogether(Vec<AttemptEnd>),
    RunEnded(Arc<str>),
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
    /// Where attempts run, each in a task of its own or with others.
    runtime: Handle,
    live: ById<Live>,
    /// Whether anybody listened when the actions at hand were begun.
    listened_to: bool,
    /// Attempts for starters that start many at once, until it is known how many there are.
    together: Vec<Together>,
    answers: Unordered<BoxFuture<'static, Answer>>,
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
            runtime: Handle::current(),
            live: ById::default(),
            listened_to: false,
            together: Vec::new(),
            answers: Unordered::new(),
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
            self.live.values().for_each(Live::abort_together);
            self.shared.fatal.send_replace(Some(Arc::new(fatal)));
        }
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            refuse(command, &self.shared.closed());
        }
        crash_point!(DrainBeforeClose);
        // Lets go of the store's file, so that it can be opened again at once.
        if let Err(err) = self.shared.store.close().await {
            tracing::warn!(error = %err, "closing the store");
            if err.is_fatal() && self.shared.fatal.borrow().is_none() {
                self.shared.fatal.send_replace(Some(Arc::new(err)));
            }
        }
        crash_point!(DrainClosed);
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
        while !self.is_done() {
            self.arm();
            poll_fn(|cx| self.poll_sources(cx, &mut commands, &mut messages)).await?;
            self.pursue_stop();
        }
        Ok(())
    }

    /// Takes what each source has, one after the other; ready if there was anything. Every turn looks
    /// at all of them, so none starves another, and in the same order, so the same events are taken in
    /// the same way (`select!` would draw lots).
    fn poll_sources(
        &mut self,
        cx: &mut Context<'_>,
        commands: &mut Vec<Command>,
        messages: &mut Vec<Message>,
    ) -> Poll<Result<()>> {
        let mut found = false;
        if !self.deserted
            && let Poll::Ready(count) = self.inbox.poll_recv_many(cx, commands, TAKE)
        {
            found = true;
            if count == 0 {
                self.deserted = true;
                self.handles_dropped();
            }
            self.take_commands(commands.drain(..));
        }
        if self.messages.poll_recv_many(cx, messages, TAKE).is_ready() {
            found = true;
            self.take_messages(messages.drain(..));
        }
        while let Poll::Ready(Some(answer)) = self.answers.poll_next(cx) {
            found = true;
            self.take_answer(answer)?;
        }
        if let Poll::Ready(wake) = fleet::poll_woken(&mut self.among, cx) {
            found = true;
            self.woken(wake);
        }
        if self.timer.poll_ring(cx).is_ready() {
            found = true;
            self.armed = None;
            self.feed(Event::Tick);
        }
        if found { Poll::Ready(Ok(())) } else { Poll::Pending }
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
        let is_blank = self.dispatcher.is_blank();
        // Who waits for idleness looks at this too, and it may change with any answer: that there is
        // nothing in any lane can be the last one.
        if self.shared.blank.swap(is_blank, Ordering::AcqRel) != is_blank && is_blank {
            self.shared.lull.notify_waiters();
        }
        self.listened_to = self.shared.has_listeners();
        for action in actions {
            self.act(now, action);
        }
        self.start_together();
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

    fn take_messages(&mut self, messages: impl Iterator<Item = Message>) {
        let mut ends = Vec::new();
        for message in messages {
            match message {
                Message::Ended(end) => ends.push(end),
                Message::EndedTogether(more) if ends.is_empty() => ends = more,
                Message::EndedTogether(more) => ends.extend(more),
                Message::RunEnded(starter) => self.feed(Event::RunEnded(starter)),
            }
        }
        if !ends.is_empty() {
            for end in &ends {
                if let Some(live) = self.live.get_mut(&end.id) {
                    live.ended = true;
                }
            }
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
