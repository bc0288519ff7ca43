//! posix_spawn(3): the one place of this crate with `unsafe`.
//!
//! The standard library cannot start a session, reset blocked and ignored signals or close foreign
//! descriptors without forking the whole parent, and a fork costs time in proportion to the
//! parent's memory. posix_spawn does all of it with a child that borrows the parent's memory until
//! its exec. Needs glibc 2.34 or later, for closefrom.

#![expect(unsafe_code, reason = "posix_spawn has no safe interface with these attributes")]

use std::{
    ffi::{CStr, c_char, c_int},
    io,
    marker::PhantomData,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
    ptr,
};

use rustix::{
    fs::{Mode, OFlags},
    process::Pid,
};

/// What is to be executed.
pub(super) struct Command<'a> {
    /// The program's path.
    pub(super) program: &'a CStr,
    /// Its arguments, from the zeroth.
    pub(super) args: Vec<&'a CStr>,
    /// Its environment, as `NAME=value`.
    pub(super) env: Vec<&'a CStr>,
    /// Its working directory; the caller's by default.
    pub(super) cwd: Option<&'a CStr>,
    /// Its standard output, a descriptor that [`raise`] made; `/dev/null` by default.
    pub(super) stdout: Option<BorrowedFd<'a>>,
    /// Its standard error, likewise.
    pub(super) stderr: Option<BorrowedFd<'a>>,
}

/// Spawns children into sessions of their own, with default signal handling, no blocked signals
/// and no descriptors but the standard three.
pub(super) struct Spawner {
    attributes: Attributes,
    /// The file actions of a child without working directory and output files.
    plain: Actions,
    null: OwnedFd,
}

/// A spawn with everything allocated: nothing is left but the call.
pub(super) struct Prepared<'a> {
    attributes: &'a Attributes,
    actions: Choice<'a>,
    program: &'a CStr,
    args: Pointers<'a>,
    env: Pointers<'a>,
}

enum Choice<'a> {
    Plain(&'a Actions),
    Own(Actions),
}

impl Spawner {
    /// A spawner for one thread.
    ///
    /// # Errors
    /// The operating system's: no memory or no descriptors left.
    pub(super) fn new() -> io::Result<Self> {
        let null = raise(rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)?;
        let plain = Actions::new(null.as_raw_fd(), None, None, None)?;
        Ok(Self { attributes: Attributes::new()?, plain, null })
    }

    /// Allocates what the spawn of `command` needs.
    ///
    /// # Errors
    /// No memory left; nothing has been started.
    pub(super) fn prepare<'a>(&'a self, command: &Command<'a>) -> io::Result<Prepared<'a>> {
        let Command { program, ref args, ref env, cwd, stdout, stderr } = *command;
        let actions = if cwd.is_none() && stdout.is_none() && stderr.is_none() {
            Choice::Plain(&self.plain)
        } else {
            Choice::Own(Actions::new(self.null.as_raw_fd(), cwd, stdout, stderr)?)
        };
        Ok(Prepared {
            attributes: &self.attributes,
            actions,
            program,
            args: Pointers::new(args),
            env: Pointers::new(env),
        })
    }
}

impl Prepared<'_> {
    /// Spawns: returns when the child has executed the program, or has failed to. Blocks until
    /// then, and nothing but this thread.
    ///
    /// # Errors
    /// posix_spawn's; no child is left and the program has not run.
    pub(super) fn spawn(self) -> io::Result<Pid> {
        let actions = match &self.actions {
            Choice::Plain(actions) => actions,
            Choice::Own(actions) => actions,
        };
        #[cfg(not(target_env = "gnu"))]
        mark_all_descriptors();
        let mut pid: libc::pid_t = 0;
        // SAFETY: the path and the strings behind `args` and `env` end in NUL and, like the arrays
        // that end in a null pointer, live until the end of this call, after which nobody uses
        // them; posix_spawn does not write to them, despite its signature. Attributes and actions
        // are initialised, and the descriptors that the actions name are borrowed by `self`.
        check(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                self.program.as_ptr(),
                &raw const *actions.0,
                &raw const *self.attributes.0,
                self.args.as_ptr(),
                self.env.as_ptr(),
            )
        })?;
        Ok(Pid::from_raw(pid).expect("posix_spawn succeeds with a pid"))
    }
}

/// The same open file at a descriptor from 3 on, where it is not in the way of the standard ones.
///
/// # Errors
/// No descriptors left.
pub(super) fn raise(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(fd);
    }
    Ok(rustix::io::fcntl_dupfd_cloexec(&fd, libc::STDERR_FILENO + 1)?)
}

/// Boxed, since POSIX does not say that these objects may be moved; immutable once made.
struct Attributes(Box<libc::posix_spawnattr_t>);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut raw = Box::<libc::posix_spawnattr_t>::new_uninit();
        // SAFETY: `raw` points to writable memory for one object.
        check(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: the call above initialised it.
        let mut attributes = Self(unsafe { raw.assume_init() });
        let raw = &raw mut *attributes.0;

        let (mut none, mut all) = (MaybeUninit::uninit(), MaybeUninit::<libc::sigset_t>::uninit());
        // SAFETY: both point to writable memory for one set, which is an array of bits. Not by
        // sigfillset: that leaves out the two signals that C libraries keep for themselves, and
        // those would then be ignored in the child.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            all.as_mut_ptr().write_bytes(0xff, 1);
        }
        let signals = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        let flags = libc::POSIX_SPAWN_SETSID | signals as libc::c_short;
        // SAFETY: `raw` is initialised, and so are the sets, by the calls above.
        unsafe {
            check(libc::posix_spawnattr_setsigmask(raw, none.as_ptr()))?;
            check(libc::posix_spawnattr_setsigdefault(raw, all.as_ptr()))?;
            check(libc::posix_spawnattr_setflags(raw, flags))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: it is initialised and not used after this.
        unsafe { libc::posix_spawnattr_destroy(&raw mut *self.0) };
    }
}

/// What the child does before its exec. Boxed and immutable like [`Attributes`].
struct Actions(Box<libc::posix_spawn_file_actions_t>);

impl Actions {
    /// Names the descriptors by number: they must be open at the spawn.
    fn new(
        null: RawFd,
        cwd: Option<&CStr>,
        stdout: Option<BorrowedFd<'_>>,
        stderr: Option<BorrowedFd<'_>>,
    ) -> io::Result<Self> {
        let mut raw = Box::<libc::posix_spawn_file_actions_t>::new_uninit();
        // SAFETY: `raw` points to writable memory for one object.
        check(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: the call above initialised it.
        let mut actions = Self(unsafe { raw.assume_init() });
        let raw = &raw mut *actions.0;

        let number = |file: Option<BorrowedFd<'_>>| file.map_or(null, |file| file.as_raw_fd());
        for (from, to) in [
            (null, libc::STDIN_FILENO),
            (number(stdout), libc::STDOUT_FILENO),
            (number(stderr), libc::STDERR_FILENO),
        ] {
            // SAFETY: `raw` is initialised; the numbers are only noted.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(raw, from, to) })?;
        }
        if let Some(cwd) = cwd {
            // SAFETY: `raw` is initialised; the path ends in NUL and is copied.
            check(unsafe { libc::posix_spawn_file_actions_addchdir_np(raw, cwd.as_ptr()) })?;
        }
        #[cfg(target_env = "gnu")]
        // SAFETY: `raw` is initialised.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(raw, libc::STDERR_FILENO + 1) })?;
        Ok(actions)
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: it is initialised and not used after this.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut *self.0) };
    }
}

/// An array of strings as exec takes it, with a null pointer at its end.
struct Pointers<'a>(Vec<*mut c_char>, PhantomData<&'a CStr>);

impl<'a> Pointers<'a> {
    fn new(strings: &[&'a CStr]) -> Self {
        let ends = std::iter::once(ptr::null_mut());
        Self(strings.iter().map(|text| text.as_ptr().cast_mut()).chain(ends).collect(), PhantomData)
    }

    fn as_ptr(&self) -> *const *mut c_char {
        self.0.as_ptr()
    }
}

/// Where the C library cannot close descriptors in the child, marks all of this process's, so that
/// exec closes them.
#[cfg(not(target_env = "gnu"))]
fn mark_all_descriptors() {
    const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;
    let (first, last) = (3 as libc::c_uint, libc::c_uint::MAX);
    // SAFETY: the call takes numbers only and changes nothing but the close-on-exec flags.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOSE_RANGE_CLOEXEC) };
}

fn check(code: c_int) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}
