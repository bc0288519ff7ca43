//! `sendoff run`.

mod accept;
mod again;
mod check;
mod engine;
mod feed;
mod held;
mod input;
mod lines;
mod place;
mod position;
mod prepare;
mod program;
mod progress;
mod records;
mod report;
mod source;
mod summary;

use std::{io::IsTerminal, path::Path, process::ExitCode, sync::Arc, time::Duration};

use sendoff::{
    Error, State,
    time::{Clock, SystemClock, Timestamp},
};

use self::{
    accept::{Acceptor, Ended},
    feed::Manner,
    held::Held,
    prepare::{Prepared, Rest, no_jobs, prepare},
    progress::Progress,
    records::Records,
    report::Report,
    summary::Summary,
};
/// How long a store without room for more jobs may take to start those that it has.
const FULL_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) use self::{
    engine::{failure, store_failure},
    lines::{Line, Lines, Reached},
    place::Place,
    program::Lookup,
    report::{counted, grouped, printable, time},
};
use crate::{
    args::RunArgs,
    failure::{Exit, Failure},
    out,
    signals::Signals,
    sink::{Sink, Totals},
};

/// Runs a file of jobs to its end, or until it is interrupted.
pub(crate) async fn run(args: RunArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let (mut prepared, rest) = tokio::select! {
        prepared = prepare(&args) => prepared?,
        () = signals.next() => return Err(Failure::not_all("interrupted before anything was started")),
    };
    let mut outcome = Outcome::default();
    if !prepared.finished_before {
        let sink = match args.sink {
            Some(address) => Some(Sink::plain(address).await?),
            None => None,
        };
        outcome = execute(&args, &mut prepared, rest, &mut signals).await?;
        if let Some(sink) = sink {
            outcome.sink = Some(sink.stop().await?);
        }
    }
    finish(&args, prepared, outcome).await
}

/// How the starting ended.
#[derive(Default)]
struct Outcome {
    /// When this command began to start jobs; none if there was nothing left to start.
    since: Option<Timestamp>,
    /// A signal ended it.
    interrupted: bool,
    /// Why it ended early, or with less than the input asked for.
    failure: Option<Failure>,
    sink: Option<Totals>,
}

/// Starts everything, and waits until it has ended or somebody wants it to stop.
async fn execute(
    args: &RunArgs,
    prepared: &mut Prepared,
    rest: Rest,
    signals: &mut Signals,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome { since: Some(SystemClock.now()), ..Outcome::default() };
    let held = Arc::new(Held(prepared.store.clone()));
    let scheduler = engine::start(args, &prepared.place, held, &prepared.key).await?;
    let manner = Manner { skip_invalid: args.skip_invalid, streams: prepared.input.streams() };
    let mut position = prepared.position.clone();
    position.clearing = false;
    position.complete = false;
    let chunks = feed::read(rest.lines, rest.source, position.clone(), manner)
        .map_err(|err| Failure::not_all(format!("cannot start a thread to read the input: {err}")))?;
    let mut acceptor = Acceptor {
        scheduler: &scheduler,
        key: &prepared.key,
        label: &prepared.input.label,
        skip_invalid: args.skip_invalid,
        print_guids: args.output.quiet,
        json: args.output.json,
        position,
    };
    // Lines for people would be in the way of a program that reads stderr.
    let shown = !args.output.quiet && (!args.output.json || std::io::stderr().is_terminal());
    let progress = shown.then(|| Progress::new(prepared.total));
    let show = async {
        match &progress {
            Some(progress) => progress.run(&prepared.store).await,
            None => std::future::pending().await,
        }
    };
    let work = async {
        let ended = acceptor.run(chunks).await?;
        // What was accepted is started, also if no more could be accepted; but a store without room
        // may have none for starts either.
        let full = matches!(&ended, Ended::Refused(err) if err.is_full());
        let limit = if full { FULL_PATIENCE } else { Duration::MAX };
        let idle = match tokio::time::timeout(limit, scheduler.idle()).await {
            Ok(idle) => idle.map_err(|err| engine::failure(&prepared.place, &err)),
            Err(_) => Ok(()),
        };
        Ok::<_, Failure>((ended, idle))
    };
    tokio::select! {
        done = work => {
            let (ended, idle) = done?;
            outcome.failure = early(&ended, prepared).or(idle.err());
        }
        () = signals.next() => outcome.interrupted = true,
        fatal = scheduler.fatal() => outcome.failure = Some(engine::failure(&prepared.place, &fatal)),
        () = show => {}
    }
    drop(progress);
    let position = acceptor.position;
    prepared.position = position;
    if outcome.interrupted && !args.output.quiet {
        let starting = prepared.store.counts().await.map_or(0, |counts| counts.total(State::Starting));
        let starts = counted(starting, "start");
        note(args, &format!("stopping: {starts} under way may end first; Ctrl-C again ends at once"));
    }
    tokio::select! {
        stopped = scheduler.shutdown(args.grace.duration()) => {
            if let Err(err) = stopped {
                outcome.failure.get_or_insert(engine::failure(&prepared.place, &err));
            }
            Ok(outcome)
        }
        () = signals.next() => Err(Failure::not_all(format!(
            "ended at once, with starts under way; {}",
            resumption(prepared)
        ))),
    }
}

/// Why the input was not accepted to its end.
fn early(ended: &Ended, prepared: &Prepared) -> Option<Failure> {
    let label = &prepared.input.label;
    match ended {
        Ended::Input => None,
        Ended::Bad => Some(Failure::usage(format!(
            "{label}: a bad line ended the reading; what was accepted before was started"
        ))),
        Ended::Unreadable(err) => Some(Failure::usage(format!(
            "{label}: reading ended after line {}: {err}; what was accepted before was started",
            prepared.position.lines
        ))),
        Ended::Refused(err) => Some(engine::failure(&prepared.place, err)),
    }
}

/// Tells what became of the run.
async fn finish(args: &RunArgs, mut prepared: Prepared, outcome: Outcome) -> Result<ExitCode, Failure> {
    let store = prepared.store.clone();
    let place = prepared.place.clone();
    let failed = |err: Error| engine::failure(&place, &err);
    let resumable = is_resumable(&prepared);
    let mut cancelled = 0;
    if outcome.interrupted && !resumable {
        cancelled = again::cancel_pending(&store, &prepared.key).await.map_err(failed)?;
    }
    let mut records = prepared.records.take();
    let (summary, written) = match Summary::of(&store, &prepared.key, outcome.since, records.as_mut()).await {
        Ok(read) => read,
        // A store that failed tells no more.
        Err(err) => return Err(outcome.failure.unwrap_or_else(|| failed(err))),
    };
    let written = written.and_then(|()| records.map_or(Ok(()), Records::finish));

    let mut failure = outcome.failure;
    if summary.all.jobs() == 0 && prepared.position.repeats == 0 && failure.is_none() && !outcome.interrupted
    {
        failure = Some(Failure::usage(no_jobs(&prepared.input.label)));
    }
    let exit = failure.as_ref().map_or_else(|| exit_of(&summary, &prepared), |failure| failure.exit);
    if !args.output.quiet && summary.all.jobs() > 0 {
        let report = Report {
            name: &prepared.name,
            store: place.to_string(),
            position: &prepared.position,
            summary: &summary,
            finished_before: prepared.finished_before,
            sink: outcome.sink,
        };
        if args.output.json {
            out::json(&report.json(exit as u8))?;
        } else {
            out::bytes(report.text().as_bytes())?;
        }
    }
    store.close().await.map_err(failed)?;
    let worthless = exit == Exit::Ok || summary.all.jobs() == 0;
    if let (true, true, Place::File(path)) = (prepared.private, worthless, &place) {
        remove_store(path);
    } else if prepared.private && !args.output.quiet {
        note(args, &format!("the records of this run are kept in {place}"));
    }
    let remaining = summary.all.unfinished();
    if cancelled > 0 {
        let jobs = counted(cancelled as u64, "job");
        note(args, &format!("{jobs} cancelled: {}", resumption(&prepared)));
    } else if remaining > 0 || (outcome.interrupted && !prepared.position.complete) {
        let jobs = counted(remaining, "job");
        note(args, &format!("{jobs} not started yet; {}", resumption(&prepared)));
    }
    if let Some(failure) = failure {
        return Err(failure);
    }
    if let (Err(err), Some(path)) = (written, &args.records) {
        return Err(Failure::not_all(format!("{}: the records are not whole: {err}", path.display())));
    }
    let early = outcome.interrupted && !prepared.position.complete;
    Ok(if early { Exit::NotAll } else { exit }.into())
}

/// Says something to whoever watches, on stderr.
fn note(args: &RunArgs, words: &str) {
    if args.output.json {
        out::note(&serde_json::json!({ "note": words }).to_string());
    } else {
        out::note(words);
    }
}

/// What the state of all jobs of a run means for the exit code.
fn exit_of(summary: &Summary, prepared: &Prepared) -> Exit {
    let started = summary.all.count(State::Started);
    if started == summary.all.jobs() && prepared.position.skipped == 0 { Exit::Ok } else { Exit::NotAll }
}

fn is_resumable(prepared: &Prepared) -> bool {
    prepared.input.name.is_some() && prepared.place != Place::Memory
}

/// How to go on.
fn resumption(prepared: &Prepared) -> String {
    if !is_resumable(prepared) {
        let why =
            if prepared.place == Place::Memory { "a store in memory" } else { "stdin without --run NAME" };
        return format!("a run of {why} cannot be resumed");
    }
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let command: Vec<_> = words.filter(|word| word != "--again").map(|word| quoted(&word)).collect();
    let again = if prepared.input.streams() { ", with the same input from its beginning" } else { "" };
    format!("this goes on{again}:\n  {}", command.join(" "))
}

/// A word as a POSIX shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-=:,@%+{}".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Removes a store that nobody can use any more, with what SQLite and its lock left beside it.
fn remove_store(path: &Path) {
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        // What is not there need not be removed.
        let _ = std::fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_are_quoted_as_a_shell_takes_them() {
        assert_eq!(quoted("jobs.ndjson"), "jobs.ndjson");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("$(x)"), "'$(x)'");
    }
}
