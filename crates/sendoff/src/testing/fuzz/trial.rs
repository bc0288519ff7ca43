//! Inputs without libFuzzer: the committed ones as they are, then changes of them. It sees nothing of
//! what an input reaches, so it finds what is near; in exchange it needs nothing but `cargo test`.

use std::{fs, path::Path};

use fastrand::Rng;

use super::Target;

/// The longest input that is made.
const LONGEST: usize = 4 * 1024;

/// What readers tend to trip over.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n\n",
    b"\r",
    b"\n",
    b"\0",
    b"\t",
    b" ",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\r\\n",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b";",
    b"=",
    b"&",
    b"?",
    b"#",
    b"%",
    b"%0d%0a",
    b"%00",
    b"@",
    b"/",
    b"//",
    b"/../",
    b"-",
    b"+",
    b".",
    b"0",
    b"-1",
    b"1e400",
    b"255",
    b"256",
    b"65536",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551616",
    b"null",
    b"true",
    b"false",
    "\u{85}".as_bytes(),
    "\u{2028}".as_bytes(),
    "é".as_bytes(),
    b"\x7f",
    b"\xff",
    b"\xc3",
    b"\xed\xa0\x80",
];

/// How long to try.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Changed inputs for each target, of those that cost nothing.
    pub runs: u32,
    /// Makes the same ones again.
    pub seed: u64,
}

impl Trial {
    /// `SENDOFF_FUZZ` inputs for each target, with the seed `SENDOFF_SEED` or any; else `runs`, always
    /// the same ones, so that a change is judged by nothing else.
    pub fn of_environment(runs: u32) -> Self {
        let variable = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let more = variable("SENDOFF_FUZZ").and_then(|runs| runs.try_into().ok());
        let seed = variable("SENDOFF_SEED");
        Self {
            runs: more.unwrap_or(runs),
            seed: seed.unwrap_or_else(|| if more.is_some() { fastrand::u64(..) } else { 1 }),
        }
    }
}

/// Tries each target with its inputs in `corpus` and changes of them.
///
/// # Panics
/// If a target does, after it was said with which input; if a target has no inputs, or inputs have no
/// target.
pub fn trials(targets: &[&[Target]], corpus: &Path, trial: Trial) {
    println!("SENDOFF_SEED={}", trial.seed);
    for target in targets.iter().copied().flatten() {
        let inputs = inputs(&corpus.join(target.name));
        assert!(!inputs.is_empty(), "{}: no inputs are committed", target.name);
        for (name, input) in &inputs {
            run(target, input, name);
        }
        // Each target has its own, so that one alone repeats what all did.
        let mut rng = Rng::with_seed(trial.seed);
        for number in 0..trial.runs.div_ceil(target.cost) {
            let input = changed(&inputs, &mut rng);
            run(target, &input, &format!("input {number} of SENDOFF_SEED={}", trial.seed));
        }
    }
}

fn inputs(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry of the corpus").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (name, fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display())))
        })
        .collect();
    inputs.sort();
    inputs
}

fn run(target: &Target, input: &[u8], which: &str) {
    /// Says what was tried if that panics.
    struct Tried<'a>(&'a str, &'a str, &'a [u8]);

    impl Drop for Tried<'_> {
        fn drop(&mut self) {
            let Self(target, which, input) = self;
            if std::thread::panicking() {
                eprintln!("{target}: {which}: \"{}\"", input.escape_ascii());
            }
        }
    }

    let tried = Tried(target.name, which, input);
    (target.run)(input);
    drop(tried);
}

/// One of the inputs, changed in a few places.
fn changed(inputs: &[(String, Vec<u8>)], rng: &mut Rng) -> Vec<u8> {
    let mut input = inputs[rng.usize(..inputs.len())].1.clone();
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(..=input.len());
        let end = input.len().min(at + rng.usize(1..=8));
        match rng.u8(..8) {
            0 => drop(input.drain(at..end)),
            1 => insert(&mut input, at, &[rng.u8(..)]),
            2 | 3 => insert(&mut input, at, TOKENS[rng.usize(..TOKENS.len())]),
            4 if at < input.len() => input[at] ^= 1 << rng.u8(..8),
            5 if at < input.len() => input[at] = input[at].wrapping_add(rng.u8(1..=3)).wrapping_sub(2),
            6 => {
                let copied = input[at..end].to_vec();
                let times = rng.usize(1..=4);
                insert(&mut input, at, &copied.repeat(times));
            }
            _ => {
                // The end of another one.
                let other = &inputs[rng.usize(..inputs.len())].1;
                input.truncate(at);
                input.extend_from_slice(&other[at.min(other.len())..]);
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    input.splice(at..at, bytes.iter().copied());
}
