//! What the starter is measured against: the same spawns in a loop, and nothing else.

use std::{collections::VecDeque, ffi::CStr, io};

use rustix::process::{WaitOptions, waitpid};

use super::{
    env::{BaseEnv, ProcessEnv},
    spawn::{Command, Spawner},
};

/// Starts this program so often from the calling thread, without arguments and with this process's
/// environment, and waits for the oldest child when so many are alive. For benchmarks.
///
/// # Errors
/// The operating system's; some children may be left.
pub fn spawn_in_a_loop(program: &CStr, starts: usize, alive: usize) -> io::Result<()> {
    let base = BaseEnv::new(&ProcessEnv::Inherit).map_err(|refusal| io::Error::other(refusal.message))?;
    let spawner = Spawner::new()?;
    let mut children = VecDeque::with_capacity(alive);
    for _ in 0..starts {
        if children.len() >= alive {
            waitpid(children.pop_front(), WaitOptions::empty())?;
        }
        let (args, env) = (vec![program], base.with(&[], &[]));
        let command = Command { program, args, env, cwd: None, stdout: None, stderr: None };
        children.push_back(spawner.prepare(&command)?.spawn()?);
    }
    for child in children {
        waitpid(Some(child), WaitOptions::empty())?;
    }
    Ok(())
}
