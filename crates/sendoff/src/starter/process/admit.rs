//! What a policy says to a start: at submit as far as it can be told, at the start by where paths
//! lead then.

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};

use super::{launch::class, payload::Ready};
use crate::{
    job::Reach,
    ports::{Refusal, StartError},
    starter::{
        policy::Bounds,
        reach::{names, paths},
    },
};

/// Refuses what is not allowed as things are now. What is not there yet can only be judged as it is
/// written.
pub(super) fn check(ready: &Ready, bounds: &Bounds<'_>) -> Result<(), Refusal> {
    plain(ready, bounds)?;
    for (need, path) in needs(ready) {
        match need.find(path, bounds) {
            Err(Denial::Refused(why)) => return Err(Refusal::new(need.field(), why)),
            Ok(_) | Err(Denial::Absent(_)) => {}
        }
    }
    Ok(())
}

/// Replaces the paths of a start by what they lead to, if all of that is allowed now. The program
/// keeps its name as argument zero.
pub(super) fn resolve(ready: &mut Ready, bounds: &Bounds<'_>) -> Result<(), StartError> {
    plain(ready, bounds)
        .map_err(|Refusal { field, message }| StartError::permanent(format!("{field}: {message}")))?;
    let mut found = Vec::with_capacity(4);
    for (need, path) in needs(ready) {
        let place = need.find(path, bounds).map_err(|denial| match denial {
            Denial::Refused(why) => StartError::permanent(format!("{}: {why}", need.field())),
            Denial::Absent(err) => StartError::new(class(&err), format!("{}: {path:?}: {err}", need.field())),
        })?;
        let place = CString::new(place.into_os_string().into_vec());
        found.push((need, place.expect("the operating system's paths hold no NUL")));
    }
    for (need, place) in found {
        let field = match need {
            Need::Program => &mut ready.executable,
            Need::Cwd => &mut ready.cwd,
            Need::Stdout => &mut ready.stdout,
            Need::Stderr => &mut ready.stderr,
        };
        *field = Some(place);
    }
    Ok(())
}

/// What can be said without the file system.
fn plain(ready: &Ready, bounds: &Bounds<'_>) -> Result<(), Refusal> {
    for entry in &ready.env {
        let name = String::from_utf8_lossy(entry.name());
        if !bounds.allow(|reach| names::holds_variable(&reach.env, &name)) {
            let why = bounds.refuse("is no variable that this job may set");
            return Err(Refusal::new(format!("env.{}", name.escape_debug()), why));
        }
    }
    for (need, path) in needs(ready) {
        if paths::goes_up(as_path(path)) {
            return Err(Refusal::new(need.field(), format!("{path:?} holds a \"..\"; write where it leads")));
        }
    }
    Ok(())
}

fn needs(ready: &Ready) -> impl Iterator<Item = (Need, &CStr)> {
    let program = (Need::Program, Some(&ready.program));
    let others = [
        (Need::Cwd, ready.cwd.as_ref()),
        (Need::Stdout, ready.stdout.as_ref()),
        (Need::Stderr, ready.stderr.as_ref()),
    ];
    let all = std::iter::once(program).chain(others);
    all.filter_map(|(need, path)| Some((need, path?.as_c_str())))
}

fn as_path(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}

/// What a path is for.
#[derive(Clone, Copy)]
enum Need {
    Program,
    Cwd,
    Stdout,
    Stderr,
}

/// Why a path is of no use.
enum Denial {
    /// In words, which do not tell where links lead: that may be none of the submitter's business.
    Refused(String),
    /// It would be allowed, but it cannot be followed.
    Absent(io::Error),
}

impl Need {
    fn field(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Cwd => "cwd",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    fn find(self, path: &CStr, bounds: &Bounds<'_>) -> Result<PathBuf, Denial> {
        let written = as_path(path);
        let allowed = |path: &Path| bounds.allow(|reach| paths::holds_resolved(self.entries(reach), path));
        match self.follow(written) {
            Ok(place) if allowed(&place) => Ok(place),
            Err(err) if allowed(written) => Err(Denial::Absent(err)),
            _ => {
                let what = match self {
                    Self::Program => "the programs",
                    _ => "the directories",
                };
                let how = if allowed(written) { "leads to a place that is not" } else { "is not" };
                Err(Denial::Refused(bounds.refuse(format_args!("{path:?} {how} among {what} allowed"))))
            }
        }
    }

    /// The path without symbolic links. A file to write to may be absent, and is never followed.
    fn follow(self, path: &Path) -> io::Result<PathBuf> {
        match (self, path.parent(), path.file_name()) {
            (Self::Stdout | Self::Stderr, Some(directory), Some(name)) => {
                Ok(directory.canonicalize()?.join(name))
            }
            _ => path.canonicalize(),
        }
    }

    fn entries(self, reach: &Reach) -> &[PathBuf] {
        match self {
            Self::Program => &reach.programs,
            _ => &reach.directories,
        }
    }
}
