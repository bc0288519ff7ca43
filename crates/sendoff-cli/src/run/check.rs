//! The check of a whole file before anything of it starts.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
};

use sendoff::{Guid, JobSpec};
use sha2::{Digest, Sha256};

use super::{
    lines::{Buffered, Lines},
    source::Source,
};

/// A line that is no job, or one that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Its number, from 1.
    pub(crate) line: u64,
    /// What is wrong.
    pub(crate) message: String,
}

/// What the check found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Good lines.
    pub(crate) jobs: u64,
    /// The first bad ones.
    pub(crate) bad: Vec<Bad>,
    /// How many bad ones there are.
    pub(crate) bad_lines: u64,
}

/// Bad lines that are reported one by one.
pub(crate) const REPORTED: usize = 20;

/// Checks every line from where `lines` stands to its end.
pub(crate) fn check<R: io::BufRead + Buffered>(
    lines: &mut Lines<R>,
    source: &mut Source,
) -> io::Result<Found> {
    let mut found = Found::default();
    let mut names = Names::default();
    while let Some(line) = lines.next()? {
        let job = source.job(&line);
        let number = lines.reached().lines;
        let outcome = match job {
            Ok(None) => continue,
            Ok(Some(job)) => names.note(&job, number),
            Err(message) => Err(message),
        };
        match outcome {
            Ok(()) => found.jobs += 1,
            Err(message) => {
                found.bad_lines += 1;
                if found.bad.len() < REPORTED {
                    found.bad.push(Bad { line: number, message });
                }
            }
        }
    }
    Ok(found)
}

/// The guids and idempotency keys that a file chose, each with the first line that has it. What
/// does not fit is found by the store when the line is accepted.
#[derive(Default)]
struct Names {
    of: HashMap<[u8; 16], First>,
}

#[derive(Clone, Copy)]
struct First {
    line: u64,
    content: [u8; 16],
}

/// Names that are remembered: some 20 MB.
const REMEMBERED: usize = 250_000;

impl Names {
    fn note(&mut self, job: &JobSpec, line: u64) -> Result<(), String> {
        let guid = job.guid.map(|guid| ("guid", name("guid", Guid::as_bytes(&guid))));
        let key = job.idempotency_key.as_ref().map(|key| ("idempotency_key", name("key", key.as_bytes())));
        if guid.is_none() && key.is_none() {
            return Ok(());
        }
        let this = First { line, content: content(job) };
        let mut same = None;
        for (field, name) in guid.into_iter().chain(key) {
            let Some(&first) = self.of.get(&name) else { continue };
            if first.content != this.content {
                return Err(format!("{field}: line {} has the same one for another job", first.line));
            }
            if same.is_some_and(|line| line != first.line) {
                return Err("the guid and the idempotency_key name two different jobs of this file".into());
            }
            same = Some(first.line);
        }
        let first = First { line: same.unwrap_or(line), ..this };
        for (_, name) in guid.into_iter().chain(key) {
            let room = self.of.len() < REMEMBERED;
            if let Entry::Vacant(entry) = self.of.entry(name)
                && room
            {
                entry.insert(first);
            }
        }
        Ok(())
    }
}

fn name(kind: &str, bytes: &[u8]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(kind.as_bytes());
    hasher.update(bytes);
    half(&hasher.finalize())
}

/// The job as JSON with sorted fields, without what names it.
fn content(job: &JobSpec) -> [u8; 16] {
    let mut value = serde_json::to_value(job).expect("a job has a JSON form");
    if let Some(fields) = value.as_object_mut() {
        fields.remove("guid");
        fields.remove("idempotency_key");
    }
    half(&Sha256::digest(value.to_string()))
}

fn half(hash: &[u8]) -> [u8; 16] {
    hash[..16].try_into().expect("a hash has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "018f2b1e-0000-7000-8000-00000000000a";
    const B: &str = "018f2b1e-0000-7000-8000-00000000000b";

    fn verdicts(lines: &[String]) -> Vec<Result<(), String>> {
        let mut names = Names::default();
        let jobs = lines.iter().map(|line| JobSpec::from_json(line.as_bytes()).unwrap());
        jobs.zip(1..).map(|(job, line)| names.note(&job, line)).collect()
    }

    fn job(extra: &str) -> String {
        format!(r#"{{"start":{{"simulated":{{"delay":"1ms"}}}}{extra}}}"#)
    }

    #[test]
    fn equal_jobs_may_repeat_a_name_and_others_may_not() {
        let found = verdicts(&[
            job(&format!(r#","guid":"{A}""#)),
            job(&format!(r#","guid":"{A}""#)),
            job(&format!(r#","guid":"{A}","priority":1"#)),
            job(r#","idempotency_key":"k""#),
            job(r#","idempotency_key":"k","priority":1"#),
            job(""),
        ]);
        assert_eq!(
            found.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, true, false, true, false, true]
        );
        assert!(found[2].as_ref().unwrap_err().starts_with("guid: line 1 "));
        assert!(found[4].as_ref().unwrap_err().starts_with("idempotency_key: line 4 "));
    }

    #[test]
    fn a_guid_and_a_key_of_two_jobs_do_not_go_together() {
        let found = verdicts(&[
            job(&format!(r#","guid":"{A}""#)),
            job(&format!(r#","guid":"{B}","idempotency_key":"k""#)),
            job(&format!(r#","guid":"{A}","idempotency_key":"k""#)),
        ]);
        assert!(found[1].is_ok());
        assert!(found[2].as_ref().unwrap_err().contains("two different jobs"));
    }
}
