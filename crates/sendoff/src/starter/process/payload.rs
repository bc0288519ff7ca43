//! What a process job says, and what of it can never start.

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{job::Payload, ports::Refusal};

/// The longest argument or `NAME=value`, its NUL included (Linux's MAX_ARG_STRLEN with pages of 4 KiB).
const MAX_STRING: usize = 128 * 1024;
/// The longest path, its NUL included (PATH_MAX).
const MAX_PATH: usize = 4096;
/// What an attempt itself adds to the environment: four entries, of which a queue's name may be long.
const FACTS: usize = 1024;

/// The variables that sendoff sets for each attempt.
pub(super) const RESERVED: [&str; 4] = ["SENDOFF_GUID", "SENDOFF_QUEUE", "SENDOFF_ATTEMPT", "SENDOFF_DUE_AT"];

/// A program to start:
/// `{"process": {"program": "/usr/bin/env", "args": ["true"], "env": {"A": "b"}, "cwd": "/tmp", "stdout": "/tmp/out"}}`.
///
/// There is no shell: `args` reach the program as they are. The process gets a session of its own
/// and outlives sendoff. It has *started* when its exec succeeded. Arguments are visible to other
/// users of the machine while it runs, so pass secrets in `env`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program's absolute path.
    #[cfg_attr(feature = "schema", schemars(length(max = 4_095), regex(pattern = r"^/[^\u0000]*$")))]
    pub program: String,
    /// Its arguments, without the zeroth, which is the program's path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(inner(length(max = 131_071), regex(pattern = r"^[^\u0000]*$"))))]
    pub args: Vec<String>,
    /// Added to the starter's own environment ([`ProcessEnv`](super::ProcessEnv)) or replacing
    /// entries of it. `SENDOFF_GUID`, `SENDOFF_QUEUE`, `SENDOFF_ATTEMPT` and `SENDOFF_DUE_AT` are
    /// sendoff's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(
        feature = "schema",
        schemars(
            description = "Added to the environment that the starter gives, or replacing entries of it. \
                           SENDOFF_GUID, SENDOFF_QUEUE, SENDOFF_ATTEMPT and SENDOFF_DUE_AT are sendoff's.",
            extend(
                "propertyNames" = {"pattern": r"^[^=\u0000]+$", "not": {"enum": RESERVED}},
                "additionalProperties" = {"type": "string", "pattern": r"^[^\u0000]*$"},
            )
        )
    )]
    pub env: BTreeMap<String, String>,
    /// The working directory, absolute; sendoff's own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 4_095), regex(pattern = r"^/[^\u0000]*$")))]
    pub cwd: Option<String>,
    /// A file, absolute, to append standard output to: made if absent, for its owner only, and
    /// never through a symbolic link. `/dev/null` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 4_095), regex(pattern = r"^/[^\u0000]*$")))]
    pub stdout: Option<String>,
    /// The same for standard error; may be the same file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(max = 4_095), regex(pattern = r"^/[^\u0000]*$")))]
    pub stderr: Option<String>,
}

impl Process {
    /// The program at this absolute path, without arguments.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            stdout: None,
            stderr: None,
        }
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// With this environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// In this directory.
    #[must_use]
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// With standard output appended to this file.
    #[must_use]
    pub fn stdout(mut self, path: impl Into<String>) -> Self {
        self.stdout = Some(path.into());
        self
    }

    /// With standard error appended to this file.
    #[must_use]
    pub fn stderr(mut self, path: impl Into<String>) -> Self {
        self.stderr = Some(path.into());
        self
    }
}

impl Payload for Process {
    const STARTER: &'static str = "process";
}

impl fmt::Debug for Process {
    /// Counts arguments and names variables: their values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("program", &self.program)
            .field("args", &self.args.len())
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .finish()
    }
}

/// A [`Process`] in the form that exec takes: whatever can be said against it without looking at
/// the file system has been said.
pub(super) struct Ready {
    pub(super) program: CString,
    /// The file to execute in the program's name, once a policy has allowed it.
    pub(super) executable: Option<CString>,
    pub(super) args: Vec<CString>,
    /// Sorted by name.
    pub(super) env: Vec<EnvEntry>,
    pub(super) cwd: Option<CString>,
    pub(super) stdout: Option<CString>,
    pub(super) stderr: Option<CString>,
}

impl Ready {
    /// Refuses what exec would refuse always. `base` is the size of the starter's own environment
    /// and `room` what exec has for arguments and environment, in bytes.
    pub(super) fn new(process: Process, base: usize, room: usize) -> Result<Self, Refusal> {
        let program = path("program", process.program)?;
        let args = (0..).zip(process.args).map(|(n, arg)| argument(n, arg)).collect::<Result<Vec<_>, _>>()?;
        let env = process
            .env
            .into_iter()
            .map(|(name, value)| {
                if RESERVED.contains(&name.as_str()) {
                    return Err(Refusal::new(
                        format!("env.{name}"),
                        "is set by sendoff; choose another name",
                    ));
                }
                EnvEntry::new(&name, &value)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let optional = |field, text: Option<String>| text.map(|text| path(field, text)).transpose();

        let zeroth_and_path = 2 * program.as_bytes_with_nul().len();
        let total = zeroth_and_path
            + args.iter().map(|arg| arg.as_bytes_with_nul().len() + size_of::<usize>()).sum::<usize>()
            + env.iter().map(EnvEntry::bytes).sum::<usize>()
            + base
            + FACTS;
        if total > room {
            return Err(Refusal::new(
                "args",
                format!(
                    "arguments and environment take about {total} bytes and the system allows {room}; \
                     put large data in a file and pass its path"
                ),
            ));
        }
        Ok(Self {
            program,
            executable: None,
            args,
            env,
            cwd: optional("cwd", process.cwd)?,
            stdout: optional("stdout", process.stdout)?,
            stderr: optional("stderr", process.stderr)?,
        })
    }

    /// Whether its paths are those that a policy has allowed, without symbolic links.
    pub(super) fn is_resolved(&self) -> bool {
        self.executable.is_some()
    }
}

fn path(field: &str, path: String) -> Result<CString, Refusal> {
    if path.is_empty() {
        return Err(Refusal::new(field, "is empty; give an absolute path"));
    }
    if !path.starts_with('/') {
        return Err(Refusal::new(field, format!("{path:?} is not an absolute path; it must begin with /")));
    }
    if path.len() >= MAX_PATH {
        return Err(Refusal::new(
            field,
            format!("a path of {} bytes is longer than the {} allowed", path.len(), MAX_PATH - 1),
        ));
    }
    CString::new(path).map_err(|err| Refusal::new(field, format!("has a NUL at byte {}", err.nul_position())))
}

fn argument(number: usize, arg: String) -> Result<CString, Refusal> {
    if arg.len() >= MAX_STRING {
        return Err(too_long(format!("args[{number}]"), arg.len()));
    }
    CString::new(arg).map_err(|err| {
        Refusal::new(format!("args[{number}]"), format!("has a NUL at byte {}", err.nul_position()))
    })
}

fn too_long(field: String, bytes: usize) -> Refusal {
    let most = MAX_STRING - 1;
    Refusal::new(
        field,
        format!(
            "its {bytes} bytes are more than the {most} allowed; put large data in a file and pass its path"
        ),
    )
}

/// `NAME=value`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct EnvEntry {
    text: CString,
    name: usize,
}

impl EnvEntry {
    pub(super) fn new(name: &str, value: &str) -> Result<Self, Refusal> {
        Self::from_bytes(name.as_bytes().to_vec(), value.as_bytes())
    }

    pub(super) fn from_bytes(name: Vec<u8>, value: &[u8]) -> Result<Self, Refusal> {
        let field = |name: &[u8]| {
            // What follows a "=" is a value, and may be a secret.
            let shown = name.split(|&byte| byte == b'=').next().unwrap_or_default();
            format!("env.{}", String::from_utf8_lossy(shown).escape_debug())
        };
        if name.is_empty() {
            return Err(Refusal::new("env", "a name is empty"));
        }
        if name.contains(&b'=') {
            return Err(Refusal::new(field(&name), "a name cannot hold a \"=\""));
        }
        let length = name.len();
        let bytes = length + 1 + value.len();
        if bytes >= MAX_STRING {
            return Err(too_long(field(&name[..length.min(64)]), bytes));
        }
        let mut text = name;
        text.reserve_exact(2 + value.len());
        text.push(b'=');
        text.extend_from_slice(value);
        match CString::new(text) {
            Ok(text) => Ok(Self { text, name: length }),
            Err(err) => {
                let place = err.nul_position();
                let text = err.into_vec();
                let (what, at) =
                    if place < length { ("its name", place) } else { ("its value", place - length - 1) };
                Err(Refusal::new(field(&text[..length]), format!("{what} has a NUL at byte {at}")))
            }
        }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.text.as_bytes()[..self.name]
    }

    pub(super) fn text(&self) -> &CStr {
        &self.text
    }

    /// What exec counts for it: the text, its NUL and a pointer.
    pub(super) fn bytes(&self) -> usize {
        self.text.as_bytes_with_nul().len() + size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 2 * 1024 * 1024;

    fn refused(process: Process) -> (String, String) {
        let refusal = Ready::new(process, 0, ROOM).err().expect("refused");
        (refusal.field, refusal.message)
    }

    #[test]
    fn what_exec_would_refuse_is_refused_with_its_field() {
        let good = || Process::new("/bin/true");
        for (process, field, words) in [
            (Process::new(""), "program", "is empty"),
            (Process::new("true"), "program", "\"true\" is not an absolute path"),
            (Process::new("/bin/\0"), "program", "NUL at byte 5"),
            (Process::new(format!("/{}", "x".repeat(4095))), "program", "4096 bytes"),
            (good().args(["a", "", "b\0"]), "args[2]", "NUL at byte 1"),
            (good().arg("x".repeat(MAX_STRING)), "args[0]", "131072 bytes"),
            (good().env("A", "xy\0"), "env.A", "its value has a NUL at byte 2"),
            (good().env("A\0", "x"), "env.A\\0", "its name has a NUL at byte 1"),
            (good().env("A=hunter2", "x"), "env.A", "cannot hold"),
            (good().env("", "x"), "env", "empty"),
            (good().env("A", "x".repeat(MAX_STRING - 2)), "env.A", "131072 bytes"),
            (good().env("SENDOFF_GUID", "x"), "env.SENDOFF_GUID", "set by sendoff"),
            (good().cwd("tmp"), "cwd", "absolute"),
            (good().cwd(""), "cwd", "empty"),
            (good().stdout("out"), "stdout", "absolute"),
            (good().stderr("/x\0"), "stderr", "NUL"),
            (good().args(vec![String::new(); ROOM / 9]), "args", "the system allows 2097152"),
        ] {
            let (at, message) = refused(process);
            assert_eq!(at, field, "{message}");
            assert!(message.contains(words), "{field}: {message}");
        }
    }

    #[test]
    fn the_longest_argument_and_environment_entry_are_accepted() {
        let process =
            Process::new("/bin/true").arg("x".repeat(MAX_STRING - 1)).env("A", "x".repeat(MAX_STRING - 3));
        assert!(Ready::new(process, 0, ROOM).is_ok());
    }

    #[test]
    fn json_of_the_wrong_shape_is_refused_without_its_values() {
        for (json, field, words) in [
            (r#"{"program":"/bin/true","args":"hunter2"}"#, "args", "expected a sequence"),
            (r#"{"program":"/bin/true","args":["a",{"hunter2":1}]}"#, "args[1]", "expected a string"),
            (r#"{"program":"/bin/true","env":{"A":["hunter2"]}}"#, "env.A", "expected a string"),
            (r#"{"program":"/bin/true","env":["hunter2, expected x"]}"#, "env", "expected a map"),
            (r#""hunter2""#, "", "expected an object"),
            (r#"{"args":[]}"#, "", "missing field `program`"),
            (r#"{"program":"/bin/true","argv":[]}"#, "argv", "unknown field `argv`"),
        ] {
            let payload = serde_json::value::RawValue::from_string(json.to_owned()).unwrap();
            let refusal = Refusal::read::<Process>(&payload).unwrap_err();
            assert_eq!(refusal.field, field, "{json}: {refusal:?}");
            assert!(refusal.message.contains(words), "{json}: {refusal:?}");
            assert!(!refusal.message.contains("hunter2"), "{json}: {refusal:?}");
        }
    }

    #[test]
    fn json_says_only_what_was_given() {
        let json = r#"{"program":"/bin/true"}"#;
        let process: Process = serde_json::from_str(json).unwrap();
        assert_eq!(process, Process::new("/bin/true"));
        assert_eq!(serde_json::to_string(&process).unwrap(), json);
        let full = Process::new("/bin/true").arg("a").env("A", "b").cwd("/").stdout("/o").stderr("/e");
        let json =
            r#"{"program":"/bin/true","args":["a"],"env":{"A":"b"},"cwd":"/","stdout":"/o","stderr":"/e"}"#;
        assert_eq!(serde_json::to_string(&full).unwrap(), json);
        assert_eq!(serde_json::from_str::<Process>(json).unwrap(), full);
    }

    #[test]
    fn debug_leaves_arguments_and_values_out() {
        let shown = format!("{:?}", Process::new("/bin/x").arg("hunter2").env("TOKEN", "hunter3"));
        assert!(shown.contains("/bin/x") && shown.contains("TOKEN") && !shown.contains("hunter"), "{shown}");
    }
}
