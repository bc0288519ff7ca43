//! Where the daemon's unix socket is, for the daemon and for those who look for it.

use std::path::PathBuf;

/// Where a daemon of this user listens by default; none if the environment names no directory.
pub(crate) fn default_socket() -> Option<PathBuf> {
    candidates().into_iter().next()
}

/// Where one may listen: a daemon that was started without `XDG_RUNTIME_DIR` (at boot, by cron) is
/// found by a shell that has it.
pub(crate) fn candidates() -> Vec<PathBuf> {
    // The XDG specification has relative paths ignored.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let directories = [absolute("XDG_RUNTIME_DIR"), state];
    directories.into_iter().flatten().map(|directory| directory.join("sendoff/sendoff.sock")).collect()
}
