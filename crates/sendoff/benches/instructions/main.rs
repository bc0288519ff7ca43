//! Counts the instructions of the hot path under valgrind and holds them to the committed
//! `baseline.json`: a count is the same on a busy machine, where a time is not.
//!
//! `cargo bench -p sendoff --bench instructions` fails if a count is more than 5 % above its
//! baseline; with `-- --update` it writes the baseline anew.

mod baseline;
mod load;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use baseline::{Baseline, Judgement};
use load::Load;

const CURE: &str = "valgrind is not installed, and instructions cannot be counted without it: apt install valgrind, or \
     your system's package of that name";

const RUNS: usize = 5;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        ["run", load] => load::run(load).map(|()| true),
        ["--update"] => update().map(|()| true),
        [] => hold(),
        _ => Err("cargo bench -p sendoff --bench instructions [-- --update]".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(err) => {
            eprintln!("instructions: {err}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every count is within its limit.
fn hold() -> Result<bool, String> {
    let baseline = Baseline::read()?;
    let mut held = true;
    for load in load::ALL {
        let wanted = *baseline
            .instructions
            .get(load.name)
            .ok_or_else(|| format!("{} is not in the baseline; {}", load.name, baseline::UPDATE))?;
        let counted = measure(&load)?;
        println!("         {:+.2} % against the baseline", 100.0 * (counted as f64 / wanted as f64 - 1.0));
        match Judgement::of(counted, wanted) {
            Judgement::Held => {}
            Judgement::Better => println!("better by more than 5 %: {}", baseline::UPDATE),
            Judgement::Worse => {
                held = false;
                println!("TOO MANY: more than 5 % above; if that is worth it, {}", baseline::UPDATE);
                println!("`callgrind_annotate {}` shows where they are", profile(load.name).display());
                if let Some(difference) = baseline.difference() {
                    println!("{difference}");
                }
            }
        }
    }
    Ok(held)
}

fn update() -> Result<(), String> {
    let mut counts = Vec::new();
    for load in load::ALL {
        counts.push((load.name.to_owned(), measure(&load)?));
    }
    Baseline::of(counts).write()
}

/// The median of some runs: now and then the store's thread is quicker, and writes as one group what
/// else are two.
fn measure(load: &Load) -> Result<u64, String> {
    let mut counts = (0..RUNS).map(|_| count(load.name)).collect::<Result<Vec<_>, _>>()?;
    counts.sort_unstable();
    let (least, median, most) = (counts[0], counts[RUNS / 2], counts[RUNS - 1]);
    let range = 100.0 * (most - least) as f64 / median as f64;
    println!(
        "{:<8} {} instructions a start; {RUNS} runs within {range:.2} %",
        load.name,
        median / load.starts
    );
    Ok(median)
}

/// Runs a load under valgrind: the instructions of the whole process.
fn count(load: &str) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|err| format!("this program's own path: {err}"))?;
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-line=no"])
        .arg(format!("--callgrind-out-file={}", profile(load).display()))
        .arg(program)
        .args(["run", load])
        .stdin(Stdio::null())
        .output()
        .map_err(|err| match err.kind() {
            std::io::ErrorKind::NotFound => CURE.to_owned(),
            _ => format!("valgrind: {err}"),
        })?;
    let told = String::from_utf8_lossy(&ran.stderr);
    let total = told.lines().find_map(|line| line.split_once("Collected : "));
    match total.and_then(|(_, number)| number.trim().parse().ok()) {
        Some(total) if ran.status.success() => Ok(total),
        _ => Err(format!("valgrind ended with {} and said:\n{told}", ran.status)),
    }
}

fn profile(load: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("callgrind.{load}"))
}
