//! Turning programs and paths of a job into absolute ones when it is submitted, so that it starts
//! the same thing wherever and whenever it starts.

use std::{
    borrow::Cow,
    collections::HashMap,
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use sendoff::JobSpec;
use serde_json::{Map, Value, value::RawValue};

/// Where bare program names and relative paths are looked up.
pub(crate) struct Lookup {
    cwd: PathBuf,
    path: Option<OsString>,
    found: HashMap<String, Option<String>>,
}

/// Bare names that are remembered; a file with more distinct ones looks them up again.
const REMEMBERED: usize = 1_024;

impl Lookup {
    /// By this process's working directory and PATH.
    ///
    /// # Errors
    /// The working directory is gone.
    pub(crate) fn of_this_process() -> std::io::Result<Self> {
        Ok(Self::new(std::env::current_dir()?, std::env::var_os("PATH")))
    }

    fn new(cwd: PathBuf, path: Option<OsString>) -> Self {
        Self { cwd, path, found: HashMap::new() }
    }

    /// Makes the program, the working directory and the output files of a process absolute. What
    /// is not of the expected form is left to the starter's own check.
    ///
    /// # Errors
    /// In words, naming the field: the program is not in PATH.
    pub(crate) fn resolve(&mut self, spec: &mut JobSpec) -> Result<(), String> {
        if spec.start.starter != "process" {
            return Ok(());
        }
        let Ok(mut payload) = serde_json::from_str::<Map<String, Value>>(spec.start.payload.get()) else {
            return Ok(());
        };
        let mut changed = false;
        if let Some(Value::String(program)) = payload.get_mut("program") {
            let resolved = self.program(program).ok_or_else(|| {
                format!(
                    "start.process.program: there is no program {program:?} in PATH; install it or give its path"
                )
            })?;
            changed |= replace(program, resolved);
        }
        for field in ["cwd", "stdout", "stderr"] {
            if let Some(Value::String(path)) = payload.get_mut(field) {
                let resolved = self.absolute(path);
                changed |= replace(path, resolved);
            }
        }
        if changed {
            let json = serde_json::to_string(&payload).expect("JSON that was read can be written");
            spec.start.payload = RawValue::from_string(json).expect("written JSON can be read");
        }
        Ok(())
    }

    fn program(&mut self, program: &str) -> Option<Cow<'static, str>> {
        if program.is_empty() || program.contains('\0') {
            return Some(Cow::Owned(program.to_owned()));
        }
        if program.contains('/') {
            return Some(self.absolute(program));
        }
        if let Some(found) = self.found.get(program) {
            return found.clone().map(Cow::Owned);
        }
        let found = self.search(program);
        if self.found.len() < REMEMBERED {
            self.found.insert(program.to_owned(), found.clone());
        }
        found.map(Cow::Owned)
    }

    /// As a shell would: the first regular file in PATH that somebody may execute.
    fn search(&self, program: &str) -> Option<String> {
        let path = self.path.as_deref()?;
        std::env::split_paths(path).find_map(|directory| {
            // An empty entry of PATH is the working directory.
            let candidate = self.cwd.join(directory).join(program);
            is_executable(&candidate).then(|| candidate.into_os_string().into_string().ok()).flatten()
        })
    }

    fn absolute(&self, path: &str) -> Cow<'static, str> {
        if path.is_empty() || path.starts_with('/') {
            return Cow::Owned(path.to_owned());
        }
        // A working directory that is not UTF-8 has no form in JSON: the starter refuses the
        // relative path then.
        let joined = self.cwd.join(path).into_os_string().into_string();
        Cow::Owned(joined.unwrap_or_else(|_| path.to_owned()))
    }
}

fn replace(text: &mut String, by: Cow<'static, str>) -> bool {
    if *text == by {
        return false;
    }
    *text = by.into_owned();
    true
}

fn is_executable(path: &Path) -> bool {
    !path.as_os_str().as_bytes().contains(&0)
        && path.is_file()
        && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn resolved(lookup: &mut Lookup, payload: &str) -> Result<String, String> {
        let json = format!(r#"{{"start":{{"process":{payload}}}}}"#);
        let mut spec = JobSpec::from_json(json.as_bytes()).unwrap();
        lookup.resolve(&mut spec)?;
        Ok(spec.start.payload.get().to_owned())
    }

    #[test]
    fn bare_names_are_found_in_path_and_relative_paths_in_the_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_str().unwrap();
        let tool = dir.path().join("bin/tool");
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        std::fs::create_dir_all(dir.path().join("first/tool")).unwrap();
        std::fs::write(&tool, "").unwrap();
        let mut lookup = Lookup::new(dir.path().into(), Some(format!("{at}/first:{at}/bin").into()));

        let missing = resolved(&mut lookup, r#"{"program":"tool"}"#).unwrap_err();
        assert!(missing.contains("start.process.program") && missing.contains("\"tool\""), "{missing}");

        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut lookup = Lookup::new(dir.path().into(), Some(format!("{at}/first:{at}/bin").into()));
        for _ in 0..2 {
            assert_eq!(
                resolved(&mut lookup, r#"{"program":"tool","args":["tool"]}"#).unwrap(),
                format!(r#"{{"args":["tool"],"program":"{at}/bin/tool"}}"#)
            );
        }
        assert_eq!(
            resolved(&mut lookup, r#"{"program":"./bin/tool","cwd":"x","stdout":"out","stderr":"/err"}"#)
                .unwrap(),
            format!(r#"{{"cwd":"{at}/x","program":"{at}/./bin/tool","stderr":"/err","stdout":"{at}/out"}}"#)
        );
    }

    #[test]
    fn what_is_absolute_or_malformed_is_left_as_it_is() {
        let mut lookup = Lookup::new("/nowhere".into(), None);
        for payload in [r#"{"program": "/bin/true"}"#, r#"{"program": 7}"#, "[1]", r#"{"program":""}"#] {
            assert_eq!(resolved(&mut lookup, payload).unwrap(), payload);
        }
        let mut http = JobSpec::from_json(br#"{"start":{"http":{"program":"x"}}}"#).unwrap();
        lookup.resolve(&mut http).unwrap();
        assert_eq!(http.start.payload.get(), r#"{"program":"x"}"#);
    }
}
