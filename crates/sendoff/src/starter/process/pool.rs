//! Threads that make blocking calls, and others that take over when those are stuck.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// What a thread of a pool does with a task.
pub(super) type Worker<T> = Box<dyn FnMut(T)>;

/// How many threads, and when there are to be more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// As many as there is work for, up to this.
    pub(super) threads: usize,
    /// Up to this while all others are stuck.
    pub(super) max_threads: usize,
    /// Stuck: work waits and no thread has taken any for this long.
    pub(super) stuck_after: Duration,
    /// A thread beyond `threads` that is idle for this long ends.
    pub(super) retire_after: Duration,
}

/// A queue of tasks and the threads that serve it, started when first needed.
///
/// Dropping it drops the tasks that wait and ends the threads, each after the task that it is at.
pub(super) struct Pool<T: Send + 'static>(Arc<Shared<T>>);

struct Shared<T> {
    limits: Limits,
    new_worker: Box<dyn Fn() -> Worker<T> + Send + Sync>,
    state: Mutex<State<T>>,
    /// Wakes an idle thread.
    work: Condvar,
    /// Wakes the watcher.
    waiting: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    /// Tasks taken from the queue so far.
    taken: u64,
    threads: usize,
    idle: usize,
    watcher: Watcher,
    closed: bool,
}

#[derive(PartialEq, Eq)]
enum Watcher {
    NotStarted,
    Asleep,
    Watching,
}

impl<T: Send + 'static> Pool<T> {
    /// A pool whose threads each make themselves a worker.
    pub(super) fn new(limits: Limits, new_worker: impl Fn() -> Worker<T> + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            limits,
            new_worker: Box::new(new_worker),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                taken: 0,
                threads: 0,
                idle: 0,
                watcher: Watcher::NotStarted,
                closed: false,
            }),
            work: Condvar::new(),
            waiting: Condvar::new(),
        }))
    }

    /// Queues a task.
    ///
    /// # Errors
    /// There is no thread and none can be started; the task is dropped undone.
    pub(super) fn push(&self, task: T) -> io::Result<()> {
        let shared = &self.0;
        let mut state = shared.lock();
        if state.queue.len() >= state.idle && state.threads < shared.limits.threads {
            let started = shared.start_thread(&mut state);
            if state.threads == 0 {
                started?;
            }
        }
        state.queue.push_back(task);
        if state.work_waits() {
            shared.wake_watcher(&mut state);
        }
        // Busy threads look at the queue before they sleep; waking nobody would be a system call, too.
        let asleep = state.idle > 0;
        drop(state);
        if asleep {
            shared.work.notify_one();
        }
        Ok(())
    }
}

impl<T: Send + 'static> Drop for Pool<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        drop(dropped);
        self.0.work.notify_all();
        self.0.waiting.notify_all();
    }
}

impl<T> State<T> {
    /// There are more tasks than idle threads, which take one each.
    fn work_waits(&self) -> bool {
        self.queue.len() > self.idle
    }
}

impl<T: Send + 'static> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_thread(self: &Arc<Self>, state: &mut State<T>) -> io::Result<()> {
        let shared = Arc::clone(self);
        thread::Builder::new().name("sendoff-spawn".into()).spawn(move || shared.serve())?;
        state.threads += 1;
        Ok(())
    }

    fn wake_watcher(self: &Arc<Self>, state: &mut State<T>) {
        match state.watcher {
            Watcher::Watching => return,
            Watcher::Asleep => self.waiting.notify_one(),
            Watcher::NotStarted => {
                let shared = Arc::clone(self);
                let thread = thread::Builder::new().name("sendoff-watch".into());
                if thread.spawn(move || shared.watch()).is_err() {
                    return; // tried again with the next task
                }
            }
        }
        state.watcher = Watcher::Watching;
    }

    fn serve(&self) {
        let _counted = Counted(self);
        let mut worker = (self.new_worker)();
        let mut state = self.lock();
        loop {
            if let Some(task) = state.queue.pop_front() {
                state.taken += 1;
                drop(state);
                worker(task);
                state = self.lock();
                continue;
            }
            if state.closed {
                return;
            }
            state.idle += 1;
            if state.threads > self.limits.threads {
                let (back, wait) = self
                    .work
                    .wait_timeout(state, self.limits.retire_after)
                    .unwrap_or_else(PoisonError::into_inner);
                state = back;
                if wait.timed_out() && state.queue.is_empty() && state.threads > self.limits.threads {
                    state.idle -= 1;
                    return;
                }
            } else {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle -= 1;
        }
    }

    fn watch(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.closed {
            if !state.work_waits() {
                state.watcher = Watcher::Asleep;
                state = self.waiting.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.watcher = Watcher::Watching;
                continue;
            }
            let taken = state.taken;
            let (back, wait) = self
                .waiting
                .wait_timeout(state, self.limits.stuck_after)
                .unwrap_or_else(PoisonError::into_inner);
            state = back;
            let stuck = wait.timed_out() && state.taken == taken && state.work_waits() && !state.closed;
            if stuck && state.threads < self.limits.max_threads {
                tracing::warn!(
                    threads = state.threads,
                    waiting = state.queue.len(),
                    "all spawner threads are stuck in a start; adding one"
                );
                // If the system has no thread left to give, the next round tries again.
                let _ = self.start_thread(&mut state);
            }
        }
    }
}

/// Takes a thread out of the count when it ends, also by a panic.
struct Counted<'a, T: Send + 'static>(&'a Shared<T>);

impl<T: Send + 'static> Drop for Counted<'_, T> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LIMITS: Limits = Limits {
        threads: 2,
        max_threads: 3,
        stuck_after: Duration::from_millis(20),
        retire_after: Duration::from_millis(20),
    };
    const LONG: Duration = Duration::from_secs(20);

    /// A task that says that it runs, then waits to be let go.
    struct Stuck {
        runs: mpsc::Sender<usize>,
        number: usize,
        gate: mpsc::Receiver<()>,
    }

    fn stuck(runs: &mpsc::Sender<usize>, number: usize) -> (Stuck, mpsc::Sender<()>) {
        let (let_go, gate) = mpsc::channel();
        (Stuck { runs: runs.clone(), number, gate }, let_go)
    }

    fn pool(limits: Limits) -> Pool<Stuck> {
        Pool::new(limits, || {
            Box::new(|task: Stuck| {
                task.runs.send(task.number).unwrap();
                let _ = task.gate.recv();
            })
        })
    }

    /// Waits until the pool's state satisfies `wanted`.
    fn until(pool: &Pool<Stuck>, wanted: impl Fn(&State<Stuck>) -> bool) {
        let mut state = pool.0.lock();
        while !wanted(&state) {
            drop(state);
            thread::yield_now();
            state = pool.0.lock();
        }
    }

    #[test]
    fn a_third_thread_starts_when_two_are_stuck_up_to_the_cap_and_retires() {
        let pool = pool(LIMITS);
        let (runs, running) = mpsc::channel();
        let mut gates = Vec::new();
        for number in 0..4 {
            let (task, let_go) = stuck(&runs, number);
            pool.push(task).unwrap();
            gates.push(let_go);
        }
        let mut seen: Vec<_> = (0..3).map(|_| running.recv_timeout(LONG).unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2], "the third runs although two are stuck");
        assert!(
            running.recv_timeout(LIMITS.stuck_after * 5).is_err(),
            "the fourth waits: the cap is three threads"
        );
        gates.remove(0);
        assert_eq!(running.recv_timeout(LONG).unwrap(), 3, "a thread that comes back takes it");
        drop(gates);
        until(&pool, |state| state.threads == 2 && state.idle == 2);
    }

    #[test]
    fn threads_start_only_for_work_and_idle_ones_are_used_again() {
        let pool = pool(LIMITS);
        assert_eq!(pool.0.lock().threads, 0);
        let (runs, running) = mpsc::channel();
        for number in 0..10 {
            let (task, let_go) = stuck(&runs, number);
            pool.push(task).unwrap();
            drop(let_go);
            assert_eq!(running.recv_timeout(LONG).unwrap(), number);
            until(&pool, |state| state.idle == state.threads);
        }
        assert_eq!(pool.0.lock().threads, 1);
    }

    #[test]
    fn a_dropped_pool_drops_what_waits_and_ends_its_threads() {
        let limits = Limits { threads: 1, max_threads: 1, ..LIMITS };
        let pool = pool(limits);
        let (runs, running) = mpsc::channel();
        let (first, let_go) = stuck(&runs, 0);
        let (second, _keep) = stuck(&runs, 1);
        pool.push(first).unwrap();
        pool.push(second).unwrap();
        assert_eq!(running.recv_timeout(LONG).unwrap(), 0);
        let shared = Arc::downgrade(&pool.0);
        drop(pool);
        drop(let_go);
        drop(runs);
        assert_eq!(running.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_panic_costs_one_thread_and_no_task() {
        let limits = Limits { threads: 1, max_threads: 1, ..LIMITS };
        let (runs, running) = mpsc::channel();
        let pool: Pool<usize> = Pool::new(limits, move || {
            let runs = runs.clone();
            Box::new(move |number| {
                assert_ne!(number, 0, "planted");
                runs.send(number).unwrap();
            })
        });
        pool.push(0).unwrap();
        while pool.0.lock().taken < 1 || pool.0.lock().threads > 0 {
            thread::yield_now();
        }
        pool.push(1).unwrap();
        assert_eq!(running.recv_timeout(LONG).unwrap(), 1);
    }
}
