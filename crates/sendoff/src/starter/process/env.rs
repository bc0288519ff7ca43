//! The environment that children get.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fmt,
    os::unix::ffi::OsStringExt,
};

use super::payload::{EnvEntry, RESERVED};
use crate::ports::{Attempt, Refusal};

/// What each child's environment begins with, before a job's own `env` and the `SENDOFF_*` of the
/// attempt. Read once, when the starter is made.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum ProcessEnv {
    /// All of this process's own environment, secrets included.
    Inherit,
    /// Only `PATH`, `HOME`, `LANG` and `TZ` of this process's environment.
    #[default]
    Clean,
    /// Exactly these.
    Only(BTreeMap<String, String>),
}

impl ProcessEnv {
    /// What [`ProcessEnv::Clean`] lets through.
    pub const CLEAN: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
}

impl fmt::Debug for ProcessEnv {
    /// Leaves values out: they may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inherit => f.write_str("Inherit"),
            Self::Clean => f.write_str("Clean"),
            Self::Only(env) => f.debug_tuple("Only").field(&env.keys()).finish(),
        }
    }
}

/// A [`ProcessEnv`] in the form that exec takes.
pub(super) struct BaseEnv {
    entries: Vec<EnvEntry>,
    /// What exec counts for it.
    pub(super) bytes: usize,
}

impl BaseEnv {
    /// # Errors
    /// Names the entry that no environment can hold.
    pub(super) fn new(env: &ProcessEnv) -> Result<Self, Refusal> {
        let entries = match env {
            ProcessEnv::Inherit => inherited(|_| true),
            ProcessEnv::Clean => {
                inherited(|name| ProcessEnv::CLEAN.iter().any(|&kept| kept.as_bytes() == name))
            }
            ProcessEnv::Only(env) => {
                env.iter().map(|(name, value)| EnvEntry::new(name, value)).collect::<Result<_, _>>()?
            }
        };
        let bytes = entries.iter().map(EnvEntry::bytes).sum();
        Ok(Self { entries, bytes })
    }

    /// These entries, a job's own and an attempt's, each name once, the later ones first in rank.
    pub(super) fn with<'a>(&'a self, own: &'a [EnvEntry], facts: &'a [CString]) -> Vec<&'a CStr> {
        let mut all = Vec::with_capacity(self.entries.len() + own.len() + facts.len());
        // A job's own are sorted by name.
        let is_own = |name: &[u8]| own.binary_search_by(|entry| entry.name().cmp(name)).is_ok();
        all.extend(self.entries.iter().filter(|entry| !is_own(entry.name())).map(EnvEntry::text));
        all.extend(own.iter().map(EnvEntry::text));
        all.extend(facts.iter().map(CString::as_c_str));
        all
    }
}

fn inherited(kept: impl Fn(&[u8]) -> bool) -> Vec<EnvEntry> {
    let own = std::env::vars_os().map(|(name, value)| (name.into_vec(), value.into_vec()));
    own.filter(|(name, _)| kept(name) && !RESERVED.iter().any(|reserved| reserved.as_bytes() == name))
        // Neither can hold a NUL: they come from such strings.
        .filter_map(|(name, value)| EnvEntry::from_bytes(name, &value).ok())
        .collect()
}

/// What an attempt tells its child, in the order of [`RESERVED`].
///
/// # Errors
/// The queue's name holds a NUL.
pub(super) fn facts(attempt: &Attempt) -> Result<[CString; 4], std::ffi::NulError> {
    let [guid, queue, number, due_at] = RESERVED;
    Ok([
        CString::new(format!("{guid}={}", attempt.guid))?,
        CString::new(format!("{queue}={}", attempt.queue))?,
        CString::new(format!("{number}={}", attempt.number))?,
        CString::new(format!("{due_at}={}", attempt.due_at))?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&CStr]) -> Vec<String> {
        list.iter().map(|text| text.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_jobs_own_entries_replace_the_base_and_facts_come_last() {
        let pairs = |list: &[(&str, &str)]| {
            list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let base =
            BaseEnv::new(&ProcessEnv::Only(pairs(&[("A", "base"), ("AB", "base"), ("C", "")]))).unwrap();
        let own = [EnvEntry::new("A", "own").unwrap(), EnvEntry::new("B", "x=y").unwrap()];
        let facts = [c"SENDOFF_QUEUE=q".to_owned()];
        assert_eq!(texts(&base.with(&own, &facts)), ["AB=base", "C=", "A=own", "B=x=y", "SENDOFF_QUEUE=q"]);
        assert_eq!(base.bytes, "A=base\0AB=base\0C=\0".len() + 3 * size_of::<usize>());
    }

    #[test]
    fn a_clean_environment_holds_the_four_and_nothing_else() {
        let names = |env: ProcessEnv| {
            let base = BaseEnv::new(&env).unwrap();
            base.entries
                .iter()
                .map(|entry| String::from_utf8_lossy(entry.name()).into_owned())
                .collect::<Vec<_>>()
        };
        let clean = names(ProcessEnv::Clean);
        assert!(clean.iter().all(|name| ProcessEnv::CLEAN.contains(&name.as_str())), "{clean:?}");
        assert!(clean.contains(&"PATH".to_owned()));
        let own = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        let own: Vec<_> = own.filter(|name| !RESERVED.contains(&name.as_str())).collect();
        assert_eq!(names(ProcessEnv::Inherit), own);
    }

    #[test]
    fn debug_and_errors_leave_values_out() {
        let env = ProcessEnv::Only(BTreeMap::from([("TOKEN".to_owned(), "hunter2\0".to_owned())]));
        assert_eq!(format!("{env:?}"), r#"Only(["TOKEN"])"#);
        let err = BaseEnv::new(&env).err().unwrap();
        assert_eq!(err, Refusal::new("env.TOKEN", "its value has a NUL at byte 7"));
    }
}
