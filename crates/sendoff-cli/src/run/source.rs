//! From a line of the input to a job.

use sendoff::JobSpec;
use serde_json::{json, value::to_raw_value};
use sha2::{Digest, Sha256};

use super::{lines::Line, position::hex, program::Lookup};

/// What a line stands for.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// A job as JSON.
    Job,
    /// The text that replaces `{}` in a command.
    Argument(Template),
}

impl Form {
    /// What tells this form from another; see [`Template::fingerprint`].
    pub(crate) fn fingerprint(&self) -> Option<String> {
        match self {
            Self::Job => None,
            Self::Argument(template) => Some(template.fingerprint()),
        }
    }
}

/// A command with `{}` where the line goes.
#[derive(Debug, Clone)]
pub(crate) struct Template(Vec<String>);

impl Template {
    /// From the words after `--`; without `{}` the line becomes a last argument.
    pub(crate) fn new(mut words: Vec<String>) -> Self {
        if !words.iter().any(|word| word.contains("{}")) {
            words.push("{}".into());
        }
        Self(words)
    }

    /// What tells this command from another.
    pub(crate) fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        for word in &self.0 {
            hasher.update((word.len() as u64).to_le_bytes());
            hasher.update(word.as_bytes());
        }
        hex(&hasher.finalize()[..16])
    }

    fn job(&self, line: &str) -> JobSpec {
        let words: Vec<_> = self.0.iter().map(|word| word.replace("{}", line)).collect();
        let (program, args) = words.split_first().expect("a template has a program");
        let payload =
            to_raw_value(&json!({"program": program, "args": args})).expect("strings have a JSON form");
        JobSpec::raw("process", payload)
    }
}

impl std::fmt::Display for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Names what the records name as the submitter: arguments may be secrets.
        let print = hex(&Sha256::digest(self.0.join("\0")))[..8].to_owned();
        write!(f, "{} ({print})", self.0.first().map_or("", String::as_str))
    }
}

/// What the engine would refuse.
pub(crate) type Check = Box<dyn Fn(&JobSpec) -> Result<(), String> + Send>;

/// Reads lines into jobs.
pub(crate) struct Source {
    form: Form,
    lookup: Lookup,
    check: Check,
}

impl Source {
    pub(crate) fn new(form: Form, lookup: Lookup, check: Check) -> Self {
        Self { form, lookup, check }
    }

    /// The job of this line; none if it is blank.
    ///
    /// # Errors
    /// In words, naming the field.
    pub(crate) fn job(&mut self, line: &Line<'_>) -> Result<Option<JobSpec>, String> {
        let bytes = match line {
            Line::Bytes(bytes) => *bytes,
            Line::TooLong(length) => {
                return Err(format!(
                    "a line of {length} bytes is longer than the {} allowed; put large data elsewhere and pass a reference",
                    JobSpec::MAX_BYTES
                ));
            }
        };
        let mut job = match &self.form {
            Form::Job if bytes.trim_ascii().is_empty() => return Ok(None),
            Form::Job => JobSpec::from_json(bytes).map_err(|err| err.to_string())?,
            Form::Argument(_) if bytes.is_empty() => return Ok(None),
            Form::Argument(template) => {
                if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
                    return Err(format!("a NUL at column {}: an argument cannot hold one", at + 1));
                }
                let text = std::str::from_utf8(bytes)
                    .map_err(|err| format!("not UTF-8 after byte {}", err.valid_up_to()))?;
                template.job(text)
            }
        };
        self.lookup.resolve(&mut job)?;
        (self.check)(&job)?;
        Ok(Some(job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str], line: &str) -> String {
        let template = Template::new(words.iter().map(|&word| word.into()).collect());
        template.job(line).start.payload.get().to_owned()
    }

    #[test]
    fn the_line_replaces_every_brace_pair_or_comes_last() {
        assert_eq!(args(&["cp", "{}", "{}.bak"], "a b"), r#"{"args":["a b","a b.bak"],"program":"cp"}"#);
        assert_eq!(args(&["ls", "-l"], "x;y $(z)"), r#"{"args":["-l","x;y $(z)"],"program":"ls"}"#);
        assert_eq!(args(&["./{}"], "run"), r#"{"args":[],"program":"./run"}"#);
        // What the line brings along is not replaced again.
        assert_eq!(args(&["echo", "{}"], "{}"), r#"{"args":["{}"],"program":"echo"}"#);
    }

    #[test]
    fn commands_that_differ_have_other_fingerprints() {
        let fingerprint =
            |words: &[&str]| Template::new(words.iter().map(|&word| word.into()).collect()).fingerprint();
        assert_eq!(fingerprint(&["ls"]), fingerprint(&["ls", "{}"]));
        assert_ne!(fingerprint(&["ls", "a b"]), fingerprint(&["ls", "a", "b"]));
    }
}
