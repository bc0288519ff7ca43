//! Where things are unless the configuration says otherwise.

use std::path::PathBuf;

use crate::failure::Failure;

/// The directory of what sendoff keeps: `$XDG_STATE_HOME/sendoff`.
pub(crate) fn state() -> Result<PathBuf, Failure> {
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("sendoff"))
        .ok_or_else(|| {
            Failure::usage(
                "there is no place for the daemon's files: neither XDG_STATE_HOME nor HOME is an absolute path",
            )
        })
}

/// The daemon's socket: `$XDG_RUNTIME_DIR/sendoff/sendoff.sock`, else in [`state`].
pub(crate) fn socket() -> Result<PathBuf, Failure> {
    let directory = absolute("XDG_RUNTIME_DIR").map(|run| run.join("sendoff"));
    Ok(directory.map_or_else(state, Ok)?.join("sendoff.sock"))
}

/// Where a daemon may listen: one that was started without `XDG_RUNTIME_DIR` (at boot, by cron) is
/// found by a shell that has it.
pub(crate) fn sockets() -> Vec<PathBuf> {
    let directories = [socket().ok(), state().ok().map(|state| state.join("sendoff.sock"))];
    let mut sockets: Vec<_> = directories.into_iter().flatten().collect();
    sockets.dedup();
    sockets
}

/// The configuration's file, if there is one: the user's, else the machine's.
pub(super) fn file() -> Option<PathBuf> {
    let user = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let places = [user, Some(PathBuf::from("/etc"))];
    places.into_iter().flatten().map(|place| place.join("sendoff/sendoff.toml")).find(|path| path.exists())
}

/// The XDG specification has relative paths ignored.
fn absolute(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}
