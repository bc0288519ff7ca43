//! Where things lie and who runs them. PostgreSQL refuses to run as root, so root runs it as nobody,
//! who must be able to reach the programs and the data.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::error::{Context, Error, Result};

const NOBODY: u32 = 65534;
/// Leaves room for a file name within the 107 bytes of a socket's path.
const LONGEST_TEMP: usize = 60;

/// The user that servers run as.
pub(crate) fn owner() -> u32 {
    let user = rustix::process::geteuid();
    if user.is_root() { NOBODY } else { user.as_raw() }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command that runs as the servers' user, speaks English, has nothing on its input and `/` as its folder: the
/// current one may be closed to that user.
pub(crate) fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new(program.as_ref());
    command.stdin(Stdio::null()).current_dir("/").env("LC_ALL", "C");
    // Such as PGPORT and PGOPTIONS, by which a developer's shell would change the servers.
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// Runs a command to its end; its error output is part of the error.
pub(crate) fn finish(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().context(format_args!("cannot run {name}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::new(format!("{name} failed ({}): {}", output.status, said.trim())))
}

/// Whether the servers' user can read what lies at the path.
pub(crate) fn reachable(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    !is_root()
        || path
            .ancestors()
            .all(|part| fs::metadata(part).is_ok_and(|meta| meta.permissions().mode() & 1 == 1))
}

/// The temp directory: the system's, if it is short enough for sockets and open to the servers' user.
pub(crate) fn temp() -> PathBuf {
    let chosen = env::temp_dir();
    if chosen.as_os_str().len() <= LONGEST_TEMP && reachable(&chosen) { chosen } else { "/tmp".into() }
}

/// A new directory in the temp directory, owned by the servers' user.
pub(crate) fn new_directory() -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = temp().join(format!("sendoff-pg-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => {
                give(&path)?;
                return Ok(path);
            }
            // Left behind by a process that had the same id.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(format_args!("cannot create {}", path.display())),
        }
    }
}

/// Gives a file or directory to the servers' user.
pub(crate) fn give(path: &Path) -> Result<()> {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY))
            .context(format_args!("cannot give away {}", path.display()))?;
    }
    Ok(())
}

/// The folder for what is kept from run to run: `pg` in cargo's target folder.
pub(crate) fn cache() -> Result<PathBuf> {
    let folder = target().join("pg");
    fs::create_dir_all(&folder).context(format_args!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// The same, or the temp directory if the servers' user cannot reach it.
pub(crate) fn open_cache() -> Result<PathBuf> {
    let folder = cache()?;
    Ok(if reachable(&folder) { folder } else { temp() })
}

fn target() -> PathBuf {
    if let Some(given) = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|path| path.is_absolute())
    {
        return given;
    }
    // Cargo marks its target folder with this file, also where a configuration file has moved it.
    let program = env::current_exe().unwrap_or_default();
    let marked = program.ancestors().skip(1).find(|folder| folder.join("CACHEDIR.TAG").exists());
    marked.map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), Path::to_path_buf)
}

/// Makes `path` once, whatever number of processes ask for it at once: `make` fills a directory beside it,
/// which is then renamed into place.
pub(crate) fn once(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let lock = fs::File::create(beside(".lock"))
        .context(format_args!("cannot create a lock for {}", path.display()))?;
    lock.lock().context("cannot lock")?;
    if path.exists() {
        return Ok(());
    }
    let unfinished = beside(".new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).context(format_args!("cannot remove {}", unfinished.display()))?;
    }
    make(&unfinished)?;
    fs::rename(&unfinished, path).context(format_args!("cannot rename to {}", path.display()))
}

/// Whether only this process's user (or root) can have made the path.
pub(crate) fn is_ours(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        meta.uid() == rustix::process::geteuid().as_raw() && meta.permissions().mode() & 0o022 == 0
    })
}
