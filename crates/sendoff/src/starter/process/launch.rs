//! One start, on a spawner thread: from the payload to a child, or to the reason why there is none.

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::{
    fs::{Access, AtFlags, CWD, Mode, OFlags},
    io::Errno,
    process::Pid,
};
use tokio::sync::oneshot;

use super::{
    admit,
    env::{self, BaseEnv},
    payload::{Process, Ready},
    pool::Worker,
    reaper::Reaper,
    spawn::{Command, Spawner, raise},
};
use crate::{
    job::{Grant, Receipt},
    ports::{Attempt, Refusal, StartError, StartErrorClass},
    starter::{SharedPolicy, reach::paths},
};

/// A start that waits for a spawner thread, and where its answer goes.
pub(super) struct Task {
    pub(super) attempt: Attempt,
    pub(super) answer: oneshot::Sender<Result<Receipt, StartError>>,
}

/// What all starts of one starter share.
pub(super) struct Launcher {
    base: BaseEnv,
    room: usize,
    policy: Option<SharedPolicy>,
    /// Started with the first child. The thread ends when the starter and its threads have gone
    /// and the last child has ended.
    reaper: Mutex<Option<Arc<Reaper>>>,
}

impl Launcher {
    pub(super) fn new(base: BaseEnv, room: usize, policy: Option<SharedPolicy>) -> Self {
        Self { base, room, policy, reaper: Mutex::new(None) }
    }

    /// The form that exec takes, or why exec would never take it.
    pub(super) fn ready(&self, process: Process) -> Result<Ready, Refusal> {
        Ready::new(process, self.base.bytes, self.room)
    }

    /// The same at submit, which also asks the policy.
    pub(super) fn check(&self, process: Process, grant: Option<&Grant>) -> Result<(), Refusal> {
        let ready = self.ready(process)?;
        self.policy.as_ref().map_or(Ok(()), |policy| admit::check(&ready, &policy.bounds(grant)))
    }

    /// What a spawner thread does.
    pub(super) fn worker(launcher: Arc<Self>) -> Worker<Task> {
        let mut tools = None;
        Box::new(move |Task { attempt, answer }| {
            if answer.is_closed() {
                return;
            }
            match launcher.launch(&attempt, &mut tools) {
                Ok((pid, reaper)) => {
                    let number = u32::try_from(pid.as_raw_nonzero().get()).ok();
                    // Whether or not somebody listens: there is a child, and it is to be reaped.
                    let _ = answer.send(Ok(Receipt { status: None, pid: number }));
                    reaper.adopt(pid, attempt.running);
                }
                Err(err) => {
                    let _ = answer.send(Err(err));
                }
            }
        })
    }

    fn launch<'a>(
        &self,
        attempt: &Attempt,
        tools: &'a mut Option<Tools>,
    ) -> Result<(Pid, &'a Reaper), StartError> {
        let permanent =
            |Refusal { field, message }: Refusal| StartError::permanent(format!("{field}: {message}"));
        let process: Process = Refusal::read(&attempt.payload).map_err(permanent)?;
        let mut ready = self.ready(process).map_err(permanent)?;
        if let Some(policy) = &self.policy {
            admit::resolve(&mut ready, &policy.bounds(attempt.grant.as_deref()))?;
        }
        let facts = env::facts(attempt).map_err(|_| StartError::permanent("the queue's name holds a NUL"))?;

        // Everything that takes descriptors or memory comes before the attempt begins.
        let tools = match tools {
            Some(tools) => tools,
            None => tools.insert(Tools {
                spawner: Spawner::new().map_err(|err| lacking("a spawner thread", &err))?,
                reaper: self.reaper().map_err(|err| lacking("the thread that waits for processes", &err))?,
            }),
        };
        let outputs = Outputs::open(&ready)?;
        let command = Command {
            program: ready.executable.as_ref().unwrap_or(&ready.program),
            args: std::iter::once(&ready.program).chain(&ready.args).map(CString::as_c_str).collect(),
            env: self.base.with(&ready.env, &facts),
            cwd: ready.cwd.as_deref(),
            stdout: outputs.stdout.as_ref().map(AsFd::as_fd),
            stderr: outputs.stderr().map(AsFd::as_fd),
        };
        let prepared = tools.spawner.prepare(&command).map_err(|err| lacking("a spawn", &err))?;
        attempt.begin()?;
        crash_point!(SpawnBefore);
        let pid = prepared.spawn().map_err(|err| refused(&ready, &err))?;
        crash_point!(SpawnAfter);
        Ok((pid, &tools.reaper))
    }

    fn reaper(&self) -> io::Result<Arc<Reaper>> {
        let mut reaper = self.reaper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reaper) = &*reaper {
            return Ok(Arc::clone(reaper));
        }
        Ok(Arc::clone(reaper.insert(Arc::new(Reaper::start()?))))
    }
}

/// What a spawner thread holds from its first start on.
struct Tools {
    spawner: Spawner,
    reaper: Arc<Reaper>,
}

/// The files that a child writes to.
struct Outputs {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    same: bool,
}

impl Outputs {
    fn open(ready: &Ready) -> Result<Self, StartError> {
        let file = |field: &str, path: &Option<CString>| match path {
            Some(path) => {
                open(path, ready.is_resolved()).map(Some).map_err(|err| unopened(field, path, &err))
            }
            None => Ok(None),
        };
        let same = ready.stdout.is_some() && ready.stdout == ready.stderr;
        Ok(Self {
            stdout: file("stdout", &ready.stdout)?,
            stderr: if same { None } else { file("stderr", &ready.stderr)? },
            same,
        })
    }

    fn stderr(&self) -> Option<&OwnedFd> {
        if self.same { self.stdout.as_ref() } else { self.stderr.as_ref() }
    }
}

/// Opens a file to append to. Here and not in the child, so that a failure is known to be its own.
fn open(path: &CStr, resolved: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC
        | OFlags::NOCTTY
        // A FIFO that nobody reads fails instead of keeping this thread.
        | OFlags::NONBLOCK;
    let mode = Mode::RUSR | Mode::WUSR;
    let file = if resolved {
        paths::open_resolved(Path::new(OsStr::from_bytes(path.to_bytes())), flags, mode)?
    } else {
        rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, mode))?
    };
    // The child's own writes are to wait.
    rustix::fs::fcntl_setfl(&file, OFlags::APPEND)?;
    raise(file)
}

/// Something that every start needs is not to be had.
fn lacking(what: &str, err: &io::Error) -> StartError {
    let class = if is_pressure(err) { StartErrorClass::Pressure } else { StartErrorClass::NotStarted };
    StartError::new(class, format!("{what} could not be set up: {err}"))
}

fn unopened(field: &str, path: &CStr, err: &io::Error) -> StartError {
    let advice = match Errno::from_io_error(err) {
        Some(Errno::LOOP) => "; it is a symbolic link, which is not followed: name the file itself",
        Some(Errno::NXIO) => "; it is a FIFO that nobody reads, or no file at all",
        _ => "",
    };
    let class = match Errno::from_io_error(err) {
        // Of a file, these two mean that others hold it, not that the machine is short of anything.
        Some(Errno::AGAIN | Errno::TXTBSY) => StartErrorClass::NotStarted,
        _ => class(err),
    };
    StartError::new(class, format!("{field}: {path:?}: {err}{advice}"))
}

/// posix_spawn failed: whose fault it was, as far as that can be told afterwards.
fn refused(ready: &Ready, err: &io::Error) -> StartError {
    let class = class(err);
    if class == StartErrorClass::Pressure {
        let program = &ready.program;
        return StartError::new(class, format!("no resources to start {program:?}: {err}"));
    }
    if let Some(cwd) = &ready.cwd
        && let Err(cause) = enter(cwd)
    {
        return StartError::new(class, format!("cwd: {cwd:?}: {}", io::Error::from(cause)));
    }
    let program = &ready.program;
    let message = match Errno::from_io_error(err) {
        Some(Errno::NOENT) if rustix::fs::stat(program).is_ok() => format!(
            "program: {program:?} is there, but not the interpreter or loader that its first bytes name: {err}"
        ),
        Some(Errno::NOEXEC) => format!(
            "program: {program:?} is neither a binary for this machine nor a script with a #! line: {err}"
        ),
        Some(Errno::ACCESS) => {
            format!("program: {program:?} is not a file that this user may execute: {err}")
        }
        Some(Errno::TOOBIG) => {
            format!("args: arguments and environment of {program:?} are longer than the system allows: {err}")
        }
        _ => format!("program: {program:?}: {err}"),
    };
    StartError::new(class, message)
}

/// Whether this user can enter the directory.
fn enter(directory: &CStr) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty())?;
    rustix::fs::accessat(CWD, directory, Access::EXEC_OK, AtFlags::EACCESS)
}

/// What an error of exec, of what leads up to it, or of an output file means. Whatever it is,
/// there is no child.
pub(super) fn class(err: &io::Error) -> StartErrorClass {
    if is_pressure(err) {
        return StartErrorClass::Pressure;
    }
    match Errno::from_io_error(err) {
        Some(
            Errno::NOENT
            | Errno::ACCESS
            | Errno::PERM
            | Errno::NOEXEC
            | Errno::NOTDIR
            | Errno::ISDIR
            | Errno::TOOBIG
            | Errno::LOOP
            | Errno::NAMETOOLONG
            | Errno::INVAL
            | Errno::LIBBAD
            | Errno::ROFS,
        ) => StartErrorClass::Permanent,
        _ => StartErrorClass::NotStarted,
    }
}

/// Errors that say nothing of the job, only of the machine at this moment.
fn is_pressure(err: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(err),
        Some(Errno::AGAIN | Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::TXTBSY)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        guid::Guid,
        job::Payload as _,
        ports::Running,
        starter::process::{ProcessEnv, exec_room},
    };

    fn launcher() -> Launcher {
        Launcher::new(BaseEnv::new(&ProcessEnv::Clean).unwrap(), exec_room(), None)
    }

    fn attempt(process: &Process) -> Attempt {
        let payload = serde_json::value::to_raw_value(process).unwrap();
        Attempt::for_test(Guid::from_bytes([7; 16]), payload, Running::unlimited())
    }

    #[test]
    fn every_error_has_the_class_of_the_contract() {
        use StartErrorClass::{NotStarted, Permanent, Pressure};
        for (errno, wanted) in [
            (Errno::NOENT, Permanent),
            (Errno::ACCESS, Permanent),
            (Errno::NOEXEC, Permanent),
            (Errno::NOTDIR, Permanent),
            (Errno::TOOBIG, Permanent),
            (Errno::ISDIR, Permanent),
            (Errno::LOOP, Permanent),
            (Errno::NAMETOOLONG, Permanent),
            (Errno::AGAIN, Pressure),
            (Errno::NOMEM, Pressure),
            (Errno::MFILE, Pressure),
            (Errno::NFILE, Pressure),
            (Errno::TXTBSY, Pressure),
            (Errno::IO, NotStarted),
            (Errno::STALE, NotStarted),
            (Errno::NOSPC, NotStarted),
        ] {
            let ready = launcher().ready(Process::new("/bin/true").arg("hunter2")).unwrap();
            let err = refused(&ready, &errno.into());
            assert_eq!(err.class, wanted, "{errno:?}");
            assert!(err.message.contains("/bin/true") && !err.message.contains("hunter2"), "{err}");
        }
    }

    #[test]
    fn an_attempt_that_nobody_awaits_any_more_is_not_begun() {
        let attempt = attempt(&Process::new("/bin/true"));
        let clock = Arc::clone(&attempt.clock);
        let (answer, answered) = oneshot::channel();
        drop(answered);
        Launcher::worker(Arc::new(launcher()))(Task { attempt, answer });
        assert!(clock.read().is_none());
    }

    #[test]
    fn an_attempt_that_was_stopped_does_not_spawn() {
        let attempt = attempt(&Process::new("/bin/true"));
        attempt.clock.stop();
        let (answer, mut answered) = oneshot::channel();
        Launcher::worker(Arc::new(launcher()))(Task { attempt, answer });
        let err = answered.try_recv().unwrap().unwrap_err();
        assert_eq!(err.class, StartErrorClass::Released);
    }

    #[test]
    fn what_fails_before_exec_fails_before_the_beginning() {
        let file = tempfile::tempdir().unwrap();
        let missing = file.path().join("no/such").to_str().unwrap().to_owned();
        let attempt = attempt(&Process::new("/bin/true").stdout(missing));
        let clock = Arc::clone(&attempt.clock);
        let (answer, mut answered) = oneshot::channel();
        Launcher::worker(Arc::new(launcher()))(Task { attempt, answer });
        let err = answered.try_recv().unwrap().unwrap_err();
        assert_eq!(err.class, StartErrorClass::Permanent);
        assert!(err.message.starts_with("stdout: "), "{err}");
        assert!(clock.read().is_none());
        assert_eq!(Process::STARTER, "process");
    }
}
