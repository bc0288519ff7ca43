//! Names of runs, and where their stores are.

use std::{
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::position::hex;
use crate::{config::DatabaseUrl, failure::Failure};

/// Where jobs are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "PathBuf")]
pub(crate) enum Place {
    /// Nowhere but in memory.
    Memory,
    /// In this file.
    File(PathBuf),
    /// In this database.
    Postgres(DatabaseUrl),
}

impl From<PathBuf> for Place {
    fn from(store: PathBuf) -> Self {
        Self::given(&store)
    }
}

impl Place {
    /// The file, if it is one.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Memory | Self::Postgres(_) => None,
            Self::File(path) => Some(path),
        }
    }

    /// What `--store` says.
    pub(crate) fn given(store: &Path) -> Self {
        match store.to_str().and_then(DatabaseUrl::given) {
            Some(url) => Self::Postgres(url),
            None if store == Path::new("memory") => Self::Memory,
            None => Self::File(store.into()),
        }
    }

    /// The default for the run of this name.
    pub(crate) fn of_run(name: &str) -> Result<Self, Failure> {
        Ok(Self::File(runs_directory()?.join(file_name(name))))
    }

    /// Whether a store is there already.
    pub(crate) fn exists(&self) -> bool {
        match self {
            Self::Memory | Self::Postgres(_) => false,
            Self::File(path) => path.exists(),
        }
    }

    /// Makes the default directory, for its owner only.
    pub(crate) fn prepare(&self) -> Result<(), Failure> {
        let Self::File(path) = self else { return Ok(()) };
        let directory = runs_directory();
        let Some(parent) = path.parent().filter(|parent| directory.is_ok_and(|ours| ours == *parent)) else {
            return Ok(());
        };
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|err| {
            Failure::store(format!(
                "{}: the directory of stores cannot be made: {err}; choose another place with --store",
                parent.display()
            ))
        })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(url) => url.fmt(f),
        }
    }
}

/// `$XDG_STATE_HOME/sendoff/runs`.
fn runs_directory() -> Result<PathBuf, Failure> {
    // The XDG specification has relative paths ignored.
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("sendoff/runs"))
        .ok_or_else(|| {
            Failure::store(
                "there is no place for the store: neither XDG_STATE_HOME nor HOME is an absolute path; give --store",
            )
        })
}

/// The readable end of the name and a hash of all of it.
fn file_name(name: &str) -> String {
    const READABLE: usize = 40;
    let path = name.split(" -- ").next().unwrap_or(name);
    let last = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or("run");
    let slug: String = last
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .take(READABLE)
        .collect();
    format!("{}-{}.db", slug.trim_start_matches('.'), hex(&Sha256::digest(name)[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_readable_and_differ_with_the_whole_name() {
        let a = file_name("/data/a b/jobs.ndjson");
        assert!(a.starts_with("jobs.ndjson-") && a.ends_with(".db"), "{a}");
        assert_ne!(a, file_name("/data/jobs.ndjson"));
        assert!(file_name("/x/hosts.txt -- ping {} /etc/x").starts_with("hosts.txt-"));
        for odd in ["", "/", "..", "...", "ü/ö", &"x".repeat(300), "a\nb"] {
            let name = file_name(odd);
            assert!(name.len() < 80 && !name.contains('/') && !name.starts_with('.'), "{name}");
        }
    }
}
