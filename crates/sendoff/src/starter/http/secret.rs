//! Secrets that a job names: what may be named, and the look-up at each attempt.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::{
    ports::StartError,
    starter::{
        policy::Bounds,
        reach::{names, paths},
    },
};

/// The largest file that is read, in bytes.
const MAX_FILE: usize = 64 * 1024;
/// The longest path, without its NUL.
const MAX_PATH: usize = 4095;

/// Where a secret is.
#[derive(Debug)]
pub(super) enum Reference {
    Env(String),
    File(PathBuf),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl Reference {
    /// # Errors
    /// Says what is wrong, without the text: somebody may have given the secret itself.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains(char::is_control) {
            return Err("the reference to a secret holds a control character");
        }
        if let Some(name) = text.strip_prefix("env:") {
            if name.is_empty() || name.contains('=') {
                return Err("env: needs the name of a variable, like env:TOKEN");
            }
            return Ok(Self::Env(name.to_owned()));
        }
        let Some(path) = text.strip_prefix("file:") else {
            return Err("is no reference to a secret; write env:NAME or file:/PATH");
        };
        let path = Path::new(path);
        if !path.is_absolute() || paths::goes_up(path) || path.as_os_str().len() > MAX_PATH {
            return Err("file: needs an absolute path without .., like file:/run/secrets/token");
        }
        Ok(Self::File(path.to_owned()))
    }

    /// Whether the job may name it. Where symbolic links of a path lead is asked at the attempt.
    pub(super) fn admit(&self, bounds: &Bounds<'_>) -> Result<(), String> {
        let allowed = bounds.allow(|reach| match self {
            Self::Env(name) => names::holds_env_secret(&reach.secrets, name),
            Self::File(path) => names::holds_file_secret(&reach.secrets, path, false),
        });
        if allowed {
            Ok(())
        } else {
            Err(bounds.refuse(format_args!("the secret {self} is not among those allowed")))
        }
    }

    /// The secret itself.
    pub(super) async fn read(&self, bounds: Option<&Bounds<'_>>) -> Result<Vec<u8>, StartError> {
        if let Some(bounds) = bounds {
            self.admit(bounds).map_err(StartError::permanent)?;
        }
        let bytes = match self {
            Self::Env(name) => std::env::var_os(name).map(std::os::unix::ffi::OsStringExt::into_vec),
            Self::File(path) => Some(self.read_file(path, bounds).await?),
        };
        match bytes {
            None => Err(StartError::not_started(format!("the secret {self} is not set"))),
            Some(bytes) if bytes.is_empty() => {
                Err(StartError::not_started(format!("the secret {self} is empty")))
            }
            Some(bytes) => Ok(bytes),
        }
    }

    async fn read_file(&self, path: &Path, bounds: Option<&Bounds<'_>>) -> Result<Vec<u8>, StartError> {
        let unreadable =
            |err: io::Error| StartError::not_started(format!("the secret {self} cannot be read: {err}"));
        let path = path.to_owned();
        let resolved = apart(move || path.canonicalize()).await.map_err(unreadable)?;
        if let Some(bounds) = bounds
            && !bounds.allow(|reach| names::holds_file_secret(&reach.secrets, &resolved, true))
        {
            // Where links lead may be none of the submitter's business.
            let why = format_args!("the secret {self} leads to a place that is not allowed");
            return Err(StartError::permanent(bounds.refuse(why)));
        }
        apart(move || read_resolved(&resolved)).await.map_err(unreadable)
    }
}

/// Runs what may block, on a dead network file system for ever, where it holds up nothing else.
async fn apart<T: Send + 'static>(task: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(task).await?
}

fn read_resolved(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = File::from(paths::open_resolved(path, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
    }
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_that_are_none_are_refused_without_being_repeated() {
        for text in [
            "",
            "hunter2",
            "env:",
            "env:A=hunter2",
            "env:A\nB",
            "ENV:A",
            "file:",
            "file:token",
            "file:/a/../hunter2",
            "file:/a\0",
            "vault:hunter2",
        ] {
            let why = Reference::parse(text).unwrap_err();
            assert!(!why.contains("hunter2"), "{text}: {why}");
        }
        for text in ["env:TOKEN", "file:/run/secrets/token"] {
            assert_eq!(Reference::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn only_small_regular_files_are_read_and_one_line_break_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let file = root.join("secret");
        for (content, read) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("\n", ""), ("a\r", "a\r")]
        {
            std::fs::write(&file, content).unwrap();
            assert_eq!(read_resolved(&file).unwrap(), read.as_bytes());
        }
        std::fs::write(&file, vec![b'x'; MAX_FILE]).unwrap();
        assert_eq!(read_resolved(&file).unwrap().len(), MAX_FILE);
        std::fs::write(&file, vec![b'x'; MAX_FILE + 1]).unwrap();
        assert!(read_resolved(&file).unwrap_err().to_string().contains("larger"));
        assert!(read_resolved(&root).unwrap_err().to_string().contains("not a regular file"));
        let fifo = root.join("fifo");
        let owner = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, owner, 0).unwrap();
        assert!(read_resolved(&fifo).unwrap_err().to_string().contains("not a regular file"));
    }
}
