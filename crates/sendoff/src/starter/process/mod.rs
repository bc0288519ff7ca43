//! Starts of processes on this machine.
//!
//! A start goes through a queue to one of a few threads (`pool`), which makes argv and environment
//! (`payload`, `env`), calls posix_spawn (`launch`, `spawn`) and hands the child to the thread that
//! waits for children (`reaper`).

mod admit;
#[cfg(feature = "testing")]
mod bare;
mod env;
mod launch;
mod payload;
mod pool;
mod reaper;
mod spawn;

use std::{fmt, sync::Arc, time::Duration};

use rustix::process::{Resource, getrlimit};
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::SharedPolicy;
use crate::{
    error::{Error, Result},
    job::{Delivery, Grant, Payload as _},
    ports::{Attempt, AttemptClock, Checked, Refusal, StartError, StartFuture, Starter, StarterDefaults},
};
use launch::{Launcher, Task};

#[cfg(feature = "testing")]
pub use bare::spawn_in_a_loop;
pub use env::ProcessEnv;
pub use payload::Process;

/// Starts [`Process`]es: without a shell, in sessions of their own, with nothing inherited but the
/// environment, the working directory, the umask, the resource limits and the user.
///
/// *Started* means that exec succeeded. Children outlive this starter and this process. While this
/// process lives, each is reaped when it ends, also after the starter was dropped; no signal
/// handler is installed and no other child is waited for. A start whose exec hangs (a dead network
/// file system) keeps its thread and its job waiting; others go on.
///
/// A crash of this process between exec and the record of it leaves the child running: the job is
/// `unknown` under at_most_once, and started again under at_least_once.
pub struct ProcessStarter {
    pool: pool::Pool<Task>,
    launcher: Arc<Launcher>,
    max_running: usize,
    max_starting: usize,
}

/// Starts claimed for each thread: enough to keep it busy while claims are on their way. A crash
/// leaves so many in doubt.
const STARTING_PER_THREAD: usize = 16;

/// How a [`ProcessStarter`] is to work.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    env: ProcessEnv,
    max_running: usize,
    threads: usize,
    policy: Option<SharedPolicy>,
}

impl Default for ProcessOptions {
    fn default() -> Self {
        Self { env: ProcessEnv::default(), max_running: 1024, threads: 2, policy: None }
    }
}

impl ProcessOptions {
    /// The defaults: a clean environment, 1,024 children alive at once, two threads.
    pub fn new() -> Self {
        Self::default()
    }

    /// What each child's environment begins with. Default [`ProcessEnv::Clean`].
    #[must_use]
    pub fn env(mut self, env: ProcessEnv) -> Self {
        self.env = env;
        self
    }

    /// How many children may be alive at once; at least 1. Default 1,024.
    ///
    /// Each takes a descriptor of this process as long as it lives, but no more than half of those
    /// that the process may open: children beyond that are looked at every 50 ms instead.
    #[must_use]
    pub fn max_running(mut self, children: usize) -> Self {
        self.max_running = children.max(1);
        self
    }

    /// Holds each start to this policy and the job's grant: program, working directory, output files
    /// and variables must be among those of [`Reach`](crate::Reach), by what symbolic links lead to
    /// at the start. What was found so is what is executed, entered and written to; the program
    /// still sees itself called by its path in the job, unless it is a script. Default: none, every
    /// program may be started.
    #[must_use]
    pub fn policy(mut self, policy: SharedPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// How many threads spawn; at least 1. Default 2. When all are stuck there will be more, up
    /// to 16.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads.max(1);
        self
    }
}

/// Threads at most, when all others are stuck in a start.
const MAX_THREADS: usize = 16;

impl ProcessStarter {
    /// A starter with the default [`ProcessOptions`]. Its threads start with the first job.
    pub fn new() -> Self {
        Self::with_options(ProcessOptions::new()).expect("the default options are valid")
    }

    /// A starter with these options. Reads this process's environment, if it is to be passed on.
    ///
    /// # Errors
    /// [`Error::is_invalid`]: an environment entry has an empty name, or holds a `=` or a NUL
    /// where it cannot.
    pub fn with_options(options: ProcessOptions) -> Result<Self> {
        let base = env::BaseEnv::new(&options.env)
            .map_err(|refusal| Error::invalid(format!("{}: {}", refusal.field, refusal.message)))?;
        let launcher = Arc::new(Launcher::new(base, exec_room(), options.policy));
        let limits = pool::Limits {
            threads: options.threads,
            max_threads: options.threads.max(MAX_THREADS),
            stuck_after: Duration::from_secs(1),
            retire_after: Duration::from_secs(10),
        };
        let shared = Arc::clone(&launcher);
        let pool = pool::Pool::new(limits, move || Launcher::worker(Arc::clone(&shared)));
        Ok(Self {
            pool,
            launcher,
            max_running: options.max_running,
            max_starting: options.threads.saturating_mul(STARTING_PER_THREAD),
        })
    }
}

/// What exec takes for arguments and environment, in bytes: a quarter of the stack, at least 128
/// KiB and at most 6 MiB (execve(2)).
fn exec_room() -> usize {
    let stack = getrlimit(Resource::Stack).current.unwrap_or(u64::MAX);
    usize::try_from(stack / 4).unwrap_or(usize::MAX).clamp(128 * 1024, 6 * 1024 * 1024)
}

impl Default for ProcessStarter {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ProcessStarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessStarter").field("max_running", &self.max_running).finish_non_exhaustive()
    }
}

impl Starter for ProcessStarter {
    fn name(&self) -> &str {
        Process::STARTER
    }

    fn defaults(&self) -> StarterDefaults {
        StarterDefaults {
            delivery: Delivery::AtMostOnce,
            max_attempts: 3,
            max_per_destination: usize::MAX,
            max_starting: self.max_starting,
            max_running: Some(self.max_running),
            abandonable: false,
            nonblocking: false,
        }
    }

    /// Refuses what exec would refuse whatever happens until then, and what is not allowed now. A program that is not there is
    /// not refused: it may be installed by the time of the start.
    fn check(&self, payload: &RawValue, grant: Option<&Grant>) -> std::result::Result<Checked, Refusal> {
        let process: Process = Refusal::read(payload)?;
        let program = process.program.clone();
        self.launcher.check(process, grant)?;
        match std::fs::metadata(&program) {
            Ok(found) if found.is_dir() => {
                Err(Refusal::new("program", format!("{program:?} is a directory; name a program in it")))
            }
            Ok(found) if !found.is_file() => {
                Err(Refusal::new("program", format!("{program:?} is not a regular file")))
            }
            Ok(_) | Err(_) => Ok(Checked::default()),
        }
    }

    fn start(&self, attempt: Attempt) -> StartFuture<'_> {
        Box::pin(async move {
            let withdrawal = Withdrawal(Arc::clone(&attempt.clock));
            let (answer, answered) = oneshot::channel();
            self.pool.push(Task { attempt, answer }).map_err(|err| {
                StartError::pressure(format!("no thread can be started to spawn processes: {err}"))
            })?;
            answered.await.unwrap_or_else(|_| {
                // Its thread panicked.
                if withdrawal.0.stop() {
                    Err(StartError::not_started("the start was given up before it began"))
                } else {
                    Err(StartError::ambiguous("the start was given up midway; the process may be running"))
                }
            })
        })
    }
}

/// Sees to it that an attempt whose future is gone does not begin on a spawner thread.
struct Withdrawal(Arc<AttemptClock>);

impl Drop for Withdrawal {
    fn drop(&mut self) {
        self.0.stop();
    }
}
