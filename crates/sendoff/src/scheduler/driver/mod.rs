//! The one loop: waits for commands, answers of the store, ends of attempts and the next due time,
//! tells the dispatcher, and does what it says. It never waits for anything else.

mod answers;

use std::{collections::HashMap, future::poll_fn, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    task::AbortHandle,
};
use tokio_util::task::TaskTracker;

use super::{
    Shared, attempt,
    command::{Accepted, Command, NewBatch, Reply, ShutdownReport},
};
use crate::{
    dispatcher::{Action, AttemptEnd, Backoff, Dispatcher, Event, Now},
    error::{Error, Result},
    guid::Guid,
    job::{Job, JobId},
    notice::Notice,
    ports::{
        AttemptClock, CancelVerdict, Claim, Claimed, InsertBatch, NewJob, Running, StartError,
        StartErrorClass,
    },
    state::State,
    time::{Timer, Timestamp},
};
use answers::{Answer, Replies, Submitted};

/// Commands, or ends of attempts, taken at once.
const TAKE: usize = 4_096;
/// After the grace period, how long to wait for the store to take the last outcomes.
const LAST_SETTLE: Duration = Duration::from_secs(5);

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

struct Stopping {
    reply: oneshot::Sender<ShutdownReport>,
    report: ShutdownReport,
    grace_ends: Duration,
    abandoned: bool,
}

impl Stopping {
    /// When to stop waiting for the store.
    const fn last_settle(&self) -> Duration {
        self.grace_ends.saturating_add(LAST_SETTLE)
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
    stopping: Option<Stopping>,
}

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        dispatcher: Dispatcher,
        inbox: mpsc::UnboundedReceiver<Command>,
        timer: Box<dyn Timer>,
    ) -> Self {
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
            stopping: None,
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
        for action in self.dispatcher.handle(now, event) {
            self.act(now, action);
        }
    }

    fn act(&mut self, now: Now, action: Action) {
        let store = &self.shared.store;
        let answer: BoxFuture<'static, Answer> = match action {
            Action::Start(claimed) => return self.start(claimed),
            Action::Claim(ids) => {
                let claim = Claim { node: self.shared.node.clone(), now: now.wall };
                let answer = store.claim(ids.clone(), claim);
                answer.map(|result| Answer::Claimed(ids, result)).boxed()
            }
            Action::Settle(settlements) => {
                let answer = store.settle(settlements.clone(), now.wall);
                answer.map(|result| Answer::Settled(settlements, result)).boxed()
            }
            Action::Due { after, limit } => {
                store.due(Some(after), Timestamp::MAX, limit).map(Answer::Due).boxed()
            }
            Action::Lanes { after, limit } => store.lanes(after, limit).map(Answer::Lanes).boxed(),
            Action::Ready { lane, until, limit } => {
                let answer = store.ready(lane.clone(), until, limit);
                answer.map(move |result| Answer::Ready(lane, limit, result)).boxed()
            }
            Action::Expire { limit } => store.expire(limit, now.wall).map(Answer::Expired).boxed(),
        };
        self.answers.push(answer);
    }

    fn start(&mut self, claimed: Arc<Claimed>) {
        self.notify(&claimed.job, State::Starting, claimed.attempt, claimed.claimed_at);
        let id = claimed.id;
        let clock = attempt::stamps(&self.shared.clock, &claimed);
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

    fn take_commands(&mut self, commands: impl Iterator<Item = Command>) {
        let mut submits = Vec::new();
        let mut replies = Vec::new();
        let mut cancels = Vec::new();
        let mut cancel_replies = Vec::new();
        for command in commands {
            // What came before a command of another kind goes to the store before it.
            if !matches!(command, Command::Submit { .. }) && !submits.is_empty() {
                self.submit_singles(std::mem::take(&mut submits), std::mem::take(&mut replies));
            }
            if !matches!(command, Command::Cancel { .. }) && !cancels.is_empty() {
                self.cancel(std::mem::take(&mut cancels), std::mem::take(&mut cancel_replies));
            }
            let store = &self.shared.store;
            let now = self.shared.clock.now();
            match command {
                command @ (Command::Submit { .. } | Command::Batch { .. }) if self.stopping.is_some() => {
                    refuse(command, &Error::closed());
                }
                Command::Submit { job, reply, room } => {
                    submits.push(job);
                    replies.push((reply, room));
                }
                Command::Batch { batch, reply, room } => {
                    self.submit(batch, Replies::Batch { reply, _room: room })
                }
                Command::Cancel { guid, reply } => {
                    cancels.push(guid);
                    cancel_replies.push(reply);
                }
                Command::Reschedule { guid, run_at, reply } => {
                    let answer = store.reschedule(guid, run_at, now);
                    self.answers.push(answer.map(|result| Answer::Rescheduled(reply, result.into())).boxed());
                }
                Command::Resolve { guid, to, reply } => {
                    let answer = store.resolve(guid, to, now);
                    self.answers.push(answer.map(|result| Answer::Resolved(reply, result.into())).boxed());
                }
                Command::Barrier(reply) => {
                    // Writes take effect, and are answered, in the order of their calls.
                    let answer = store.settle(Vec::new(), now);
                    self.answers.push(answer.map(|result| Answer::Reached(reply, result.map(drop))).boxed());
                }
                Command::QueueLimits(queue, limits) => self.feed(Event::QueueLimits(queue, limits)),
                Command::Shutdown { grace, reply } => self.stop(grace, reply),
            }
        }
        if !submits.is_empty() {
            self.submit_singles(submits, replies);
        }
        if !cancels.is_empty() {
            self.cancel(cancels, cancel_replies);
        }
    }

    fn submit_singles(&mut self, jobs: Vec<Arc<Job>>, replies: Vec<(Reply<Accepted>, OwnedSemaphorePermit)>) {
        self.submit(NewBatch { jobs, atomic: false, bookmark: None }, Replies::Single(replies));
    }

    fn submit(&mut self, batch: NewBatch, replies: Replies) {
        let now = self.now();
        let node = &self.shared.node;
        let mut jobs = Vec::with_capacity(batch.jobs.len());
        let mut new_jobs = Vec::with_capacity(batch.jobs.len());
        for job in batch.jobs {
            let admitted = self.dispatcher.admit(now, &job.lane, job.run_at, job.expires_at);
            new_jobs.push(NewJob { job: job.clone(), claim: admitted.then(|| node.clone()) });
            jobs.push((job, admitted));
        }
        let batch =
            InsertBatch { jobs: new_jobs, atomic: batch.atomic, bookmark: batch.bookmark, now: now.wall };
        let answer = self.shared.store.insert(batch);
        let batch = Submitted { jobs, replies };
        let answer = answer.map(move |result| Answer::Submitted { batch, result, now: now.wall });
        self.answers.push(answer.boxed());
    }

    fn cancel(&mut self, guids: Vec<Guid>, replies: Vec<Reply<CancelVerdict>>) {
        let answer = self.shared.store.cancel(guids, self.shared.clock.now());
        self.answers.push(answer.map(|result| Answer::Cancelled(replies, result)).boxed());
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

    /// Every handle is gone: nobody can submit, cancel or shut down any more.
    fn handles_dropped(&mut self) {
        if self.stopping.is_none() {
            let (reply, _) = oneshot::channel();
            self.stop(super::DEFAULT_GRACE, reply);
        }
    }

    fn stop(&mut self, grace: Duration, reply: oneshot::Sender<ShutdownReport>) {
        if self.stopping.is_some() {
            // The first one's grace period counts; this caller learns of the end by its dropped reply.
            return;
        }
        let grace_ends = self.now().elapsed.saturating_add(grace);
        self.stopping =
            Some(Stopping { reply, report: ShutdownReport::default(), grace_ends, abandoned: false });
        self.feed(Event::Stop);
        let mut ends = Vec::new();
        for (id, live) in self.live.iter().filter(|(_, live)| !live.ended) {
            // One that may not be dropped midway finds out when it wants to begin.
            if live.clock.stop() && live.abandonable {
                live.abort();
                ends.push(*id);
            }
        }
        if let Some(stopping) = &mut self.stopping {
            stopping.report.released = ends.len();
        }
        for id in ends {
            self.release(id, "sendoff is stopping");
        }
    }

    /// After the grace period gives up the attempts that are still under way.
    fn pursue_stop(&mut self) {
        let elapsed = self.shared.clock.elapsed();
        let Some(stopping) = &mut self.stopping else { return };
        if stopping.abandoned || elapsed < stopping.grace_ends {
            return;
        }
        stopping.abandoned = true;
        // Whoever has ended by now has ended by itself.
        let mut told = Vec::new();
        while let Ok(message) = self.messages.try_recv() {
            told.push(message);
        }
        self.take_messages(told.into_iter());
        let Some(stopping) = &mut self.stopping else { return };
        let mut ends = Vec::new();
        for (id, live) in self.live.iter_mut().filter(|(_, live)| !live.ended) {
            live.ended = true;
            live.abort();
            // What has not begun is known not to have started, also if it would not be dropped.
            let error = if live.clock.stop() {
                stopping.report.released += 1;
                StartError::new(StartErrorClass::Released, "sendoff stopped")
            } else {
                stopping.report.abandoned += 1;
                StartError::ambiguous("sendoff stopped before the target had answered")
            };
            let begun = live.clock.read();
            ends.push(AttemptEnd { id: *id, begun, result: Err(error), backoff: Backoff::default() });
        }
        self.feed(Event::Ended(ends));
    }

    fn is_done(&mut self) -> bool {
        let Some(stopping) = &mut self.stopping else { return false };
        stopping.report.unsettled = self.live.len();
        if self.dispatcher.is_drained() && self.answers.is_empty() {
            return true;
        }
        stopping.abandoned && self.shared.clock.elapsed() >= stopping.last_settle()
    }
}

impl Drop for Driver {
    /// However the loop ends, by a panic or with its runtime: nobody waits for it for ever.
    fn drop(&mut self) {
        self.shared.end();
    }
}

fn refuse(command: Command, error: &Error) {
    match command {
        Command::Submit { reply, .. } => drop(reply.send(Err(error.again()))),
        Command::Batch { reply, .. } => drop(reply.send(Err(error.again()))),
        Command::Cancel { reply, .. } => drop(reply.send(Err(error.again()))),
        Command::Reschedule { reply, .. } | Command::Resolve { reply, .. } => {
            drop(reply.send(Err(error.again())));
        }
        Command::Barrier(reply) => drop(reply.send(Err(error.again()))),
        Command::QueueLimits(..) | Command::Shutdown { .. } => {}
    }
}
