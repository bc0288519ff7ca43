//! The committed counts, and what they were made with.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use serde::{Deserialize, Serialize};

pub(crate) const UPDATE: &str =
    "`cargo bench -p sendoff --bench instructions -- --update` writes the baseline anew; commit it";

#[derive(Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// What changes counts though nobody changed the code.
    made_with: Vec<String>,
    pub(crate) instructions: BTreeMap<String, u64>,
}

pub(crate) enum Judgement {
    Held,
    Better,
    Worse,
}

impl Judgement {
    pub(crate) fn of(counted: u64, wanted: u64) -> Self {
        if counted * 100 > wanted * 105 {
            Self::Worse
        } else if counted * 100 < wanted * 95 {
            Self::Better
        } else {
            Self::Held
        }
    }
}

impl Baseline {
    pub(crate) fn of(counts: Vec<(String, u64)>) -> Self {
        Self { made_with: tools(), instructions: counts.into_iter().collect() }
    }

    pub(crate) fn read() -> Result<Self, String> {
        let path = path();
        let text = fs::read_to_string(&path).map_err(|err| format!("{}: {err}; {UPDATE}", path.display()))?;
        serde_json::from_str(&text).map_err(|err| format!("{}: {err}; {UPDATE}", path.display()))
    }

    pub(crate) fn write(&self) -> Result<(), String> {
        let text = serde_json::to_string_pretty(self).expect("it has a JSON form");
        fs::write(path(), text + "\n").map_err(|err| format!("{}: {err}", path().display()))
    }

    /// How this machine's tools differ from those of the baseline, in words.
    pub(crate) fn difference(&self) -> Option<String> {
        let here = tools();
        let words = |tools: &[String]| tools.join(", ");
        (here != self.made_with).then(|| {
            format!(
                "the baseline was made with {}, this with {}: the change may be theirs",
                words(&self.made_with),
                words(&here)
            )
        })
    }
}

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/baseline.json"))
}

/// The compilers of Rust and C, the C library, valgrind: the first line of what each says of itself.
fn tools() -> Vec<String> {
    let ask = |program: &str, arg: &str| {
        let said = Command::new(program).arg(arg).output().ok()?.stdout;
        Some(String::from_utf8(said).ok()?.lines().next()?.to_owned())
    };
    let asked = [
        ask("rustc", "--version"),
        ask("cc", "--version"),
        ask("getconf", "GNU_LIBC_VERSION"),
        ask("valgrind", "--version"),
    ];
    asked.into_iter().flatten().chain([std::env::consts::ARCH.to_owned()]).collect()
}
