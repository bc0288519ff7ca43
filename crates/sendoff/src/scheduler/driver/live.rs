//! Attempts under way: each in a task of its own, or with others of the same starter.

use std::sync::{Arc, OnceLock};

use tokio::task::{AbortHandle, JoinHandle};

use super::{
    super::{
        attempt::{self, Given},
        resolve::Kind,
    },
    Driver, Message,
};
use crate::{
    dispatcher::{AttemptEnd, Backoff},
    job::JobId,
    ports::{AttemptClock, Claimed, Running, StartError, StartErrorClass, Starter},
    state::State,
};

/// Attempts handed to a starter in one call, at most: enough to share what they share, few enough to
/// stay in the caches of a processor.
const TOGETHER: usize = 256;
/// Attempts made one by one in one task, at most: enough to share what a task costs, few enough to leave
/// some to other threads.
const SIDE_BY_SIDE: usize = 32;

/// An attempt under way.
pub(super) struct Live {
    pub(super) task: Task,
    pub(super) clock: Arc<AttemptClock>,
    pub(super) abandonable: bool,
    pub(super) claimed: Arc<Claimed>,
    /// Its end was told, or was decided for it; the outcome is on its way to the store.
    pub(super) ended: bool,
}

/// What makes an attempt.
pub(super) enum Task {
    /// It was ended before it was tried.
    None,
    Own(JoinHandle<()>),
    /// Set once it runs.
    Shared(Arc<OnceLock<AbortHandle>>),
}

impl Live {
    /// Drops this attempt, if no other would go with it.
    pub(super) fn abort(&self) {
        if let Task::Own(task) = &self.task {
            task.abort();
        }
    }

    /// Drops this attempt and those that are made with it.
    pub(super) fn abort_together(&self) {
        match &self.task {
            Task::None => {}
            Task::Own(task) => task.abort(),
            Task::Shared(task) => task.get().into_iter().for_each(AbortHandle::abort),
        }
    }
}

/// Attempts that one task will make.
pub(super) struct Together {
    starter: Arc<dyn Starter>,
    abandonable: bool,
    /// So many at most.
    most: usize,
    given: Vec<Given>,
    task: Arc<OnceLock<AbortHandle>>,
}

impl Driver {
    pub(super) fn start(&mut self, claimed: Arc<Claimed>) {
        if self.listened_to {
            self.notify(&claimed.job, State::Starting, claimed.attempt, claimed.claimed_at);
        }
        let id = claimed.id;
        let lease = self.among.as_mut().and_then(|among| among.take_lease(&claimed));
        let clock = attempt::stamps(&self.shared.clock, lease, &claimed);
        let Some(Kind { starter, defaults, many }) =
            self.shared.resolver.kind(&claimed.job.lane.starter).cloned()
        else {
            // The dispatcher claims only for starters that are there.
            let live = Live { task: Task::None, clock, abandonable: true, claimed, ended: false };
            self.live.insert(id, live);
            return self.release(id, "no such starter");
        };
        let abandonable = defaults.abandonable;
        let most = match (many, defaults.nonblocking) {
            (true, _) => TOGETHER,
            (false, true) => SIDE_BY_SIDE,
            (false, false) => 1,
        };
        let running = match defaults.max_running {
            None => Running::unlimited(),
            Some(_) => {
                let name = claimed.job.lane.starter.clone();
                let sender = self.sender.clone();
                Running::new(move || {
                    // The loop may be gone, and with it the limit.
                    let _ = sender.send(Message::RunEnded(name));
                })
            }
        };
        if self.stopping.is_some() {
            self.live.insert(id, Live { task: Task::None, clock, abandonable, claimed, ended: false });
            return self.release(id, "sendoff is stopping");
        }
        let given = Given { claimed: claimed.clone(), clock: clock.clone(), running };
        let task = if most > 1 {
            self.gather(starter, abandonable, most, given)
        } else {
            self.start_alone(starter, abandonable, given)
        };
        self.live.insert(id, Live { task, clock, abandonable, claimed, ended: false });
    }

    fn start_alone(&self, starter: Arc<dyn Starter>, abandonable: bool, given: Given) -> Task {
        let run = attempt::run(starter, abandonable, given);
        let sender = self.sender.clone();
        Task::Own(self.runtime.spawn(async move {
            // The loop outlives its attempts, but for the end of the runtime.
            let _ = sender.send(Message::Ended(run.await));
        }))
    }

    fn gather(&mut self, starter: Arc<dyn Starter>, abandonable: bool, most: usize, given: Given) -> Task {
        let same = |together: &Together| Arc::ptr_eq(&together.starter, &starter);
        let at = self.together.iter().position(same).unwrap_or_else(|| {
            let (given, task) = (Vec::with_capacity(most), Arc::new(OnceLock::new()));
            self.together.push(Together { starter, abandonable, most, given, task });
            self.together.len() - 1
        });
        let together = &mut self.together[at];
        together.given.push(given);
        let task = together.task.clone();
        if together.given.len() >= together.most {
            let full = self.together.swap_remove(at);
            self.run_together(full);
        }
        Task::Shared(task)
    }

    /// Starts what was gathered.
    pub(super) fn start_together(&mut self) {
        for mut together in std::mem::take(&mut self.together) {
            if together.given.len() > 1 {
                self.run_together(together);
            } else if let Some(given) = together.given.pop() {
                let id = given.claimed.id;
                let alone = self.start_alone(together.starter, together.abandonable, given);
                if let Some(live) = self.live.get_mut(&id) {
                    live.task = alone;
                }
            }
        }
    }

    fn run_together(&self, together: Together) {
        let Together { starter, abandonable, given, task, .. } = together;
        let (sender, clock) = (self.sender.clone(), self.shared.clock.clone());
        let run = self.runtime.spawn(async move {
            let tell = |ends: Vec<AttemptEnd>| {
                if !ends.is_empty() {
                    // As for one alone.
                    let _ = sender.send(Message::EndedTogether(ends));
                }
            };
            tokio::select! {
                biased;
                () = attempt::run_many(starter, abandonable, given, clock, tell) => {}
                // Those that were given back at a shutdown may never be answered.
                () = sender.closed() => {}
            }
        });
        // It is set here and nowhere else.
        let _ = task.set(run.abort_handle());
    }

    /// Ends an attempt that has not begun and will not.
    pub(super) fn release(&mut self, id: JobId, why: &str) {
        let error = StartError::new(StartErrorClass::Released, why);
        let end = AttemptEnd { id, begun: None, result: Err(error), backoff: Backoff::default() };
        // The receiver is ours.
        let _ = self.sender.send(Message::Ended(end));
    }
}
