//! Everything before the first start: what is to be read, where the store is, what of the input is
//! consumed already, and whether the rest is good.

use std::{io::BufReader, path::Path, sync::Arc};

use sendoff::ports::Store;

use super::{
    accept::report,
    again, check, engine,
    input::{Input, Reader},
    lines::Lines,
    place::Place,
    position::{Changed, Position},
    program::Lookup,
    records::Records,
    source::Source,
};
use crate::{args::RunArgs, failure::Failure};

/// A run that may start.
pub(crate) struct Prepared {
    pub(crate) input: Input,
    /// How the run is called, to people.
    pub(crate) name: String,
    /// Whom the records name as their submitter, and the position's name in the store.
    pub(crate) key: String,
    pub(crate) place: Place,
    /// The store is of no use to anybody after this command.
    pub(crate) private: bool,
    pub(crate) store: Arc<dyn Store>,
    /// How far the input is consumed.
    pub(crate) position: Position,
    /// Jobs in all, if that is known.
    pub(crate) total: Option<u64>,
    /// There is nothing left to do.
    pub(crate) finished_before: bool,
    pub(crate) records: Option<Records>,
}

/// What of the input is not consumed yet.
pub(crate) struct Rest {
    pub(crate) lines: Lines<BufReader<Reader>>,
    pub(crate) source: Source,
}

/// Prepares a run. Unless all of it is well, nothing is started and nothing of an earlier run is
/// touched.
pub(crate) async fn prepare(args: &RunArgs) -> Result<(Prepared, Rest), Failure> {
    let input = Input::of(args)?;
    let name = input.name.clone().unwrap_or_else(Input::passing_name);
    let key = format!("run:{name}");
    let place = engine::place(args, &name)?;
    let kept = [args.file.as_deref(), args.each_line.as_deref(), place.path()];
    let kept: Vec<&Path> = kept.into_iter().flatten().collect();
    let records = args.records.as_deref().map(|to| Records::create(to, &kept)).transpose()?;

    let existing = if place.exists() { Some(engine::open(args, &place)?) } else { None };
    let before = match &existing {
        Some(store) => stored_position(store, &key, &place).await?,
        None => None,
    };
    let command = input.form.fingerprint();
    let position = match &before {
        None => Position::start(command),
        Some(before) if args.again => before.again(command),
        Some(before) if before.command != command => {
            return Err(Failure::usage(format!(
                "the run {name} was begun with another command; give this one another name (--run), or start over (--again)"
            )));
        }
        Some(before) => before.clone(),
    };

    let scan = Scan { source: source(args, &input)?, input, position, skip_invalid: args.skip_invalid };
    // On a thread of its own: a long file takes its time, and a pipe may take for ever.
    let scanned = tokio::task::spawn_blocking(move || scan.run());
    let Scanned { input, position, lines, source, found } =
        scanned.await.map_err(|err| Failure::not_all(err.to_string()))??;
    if let Some(found) = &found {
        refuse_bad(&input.label, found, args, &position)?;
    }

    let store = match existing {
        Some(store) => store,
        None => {
            let store = engine::open(args, &place)?;
            if stored_position(&store, &key, &place).await?.is_some() {
                return Err(Failure::store(format!(
                    "{place}: another sendoff has just begun the run {name}; the same command continues it"
                )));
            }
            store
        }
    };
    let failed = |err| engine::failure(&place, &err);
    if position.clearing {
        again::clear(&store, &key, &position).await.map_err(failed)?;
    }
    let counts = store.counts().await.map_err(failed)?;
    let stored: u64 = counts.queues.values().flat_map(|states| states.values()).sum();
    let nothing_new = found.as_ref().is_some_and(|found| found.jobs + found.bad_lines == 0);
    let finished_before = nothing_new && position.complete && counts.unfinished() == 0;
    let private = input.name.is_none() && args.store.is_none();
    let total = found.map(|found| stored + found.jobs);
    let name = if input.name.is_some() { name } else { input.label.clone() };
    let prepared =
        Prepared { input, name, key, place, private, store, position, total, finished_before, records };
    Ok((prepared, Rest { lines, source }))
}

async fn stored_position(
    store: &Arc<dyn Store>,
    key: &str,
    place: &Place,
) -> Result<Option<Position>, Failure> {
    let stored = store.bookmark(key.to_owned()).await.map_err(|err| engine::failure(place, &err))?;
    stored.map(|bytes| Position::read(&bytes)).transpose().map_err(|why| {
        Failure::store(format!("{place}: the run {} cannot be resumed: {why}", &key["run:".len()..]))
    })
}

fn source(args: &RunArgs, input: &Input) -> Result<Source, Failure> {
    let lookup = Lookup::of_this_process()
        .map_err(|err| Failure::usage(format!("the working directory cannot be read: {err}")))?;
    let checker = engine::checker(args)?;
    let check = Box::new(move |job: &sendoff::JobSpec| checker.check(job).map_err(|err| err.to_string()));
    Ok(Source::new(input.form.clone(), lookup, check))
}

fn refuse_bad(label: &str, found: &check::Found, args: &RunArgs, position: &Position) -> Result<(), Failure> {
    let none = found.jobs == 0 && position.lines == 0;
    if found.bad_lines > 0 && (none || !args.skip_invalid) {
        report(label, &found.bad, args.output.json);
        let more = found.bad_lines - found.bad.len() as u64;
        let more = if more > 0 { format!(" ({more} more than are shown)") } else { String::new() };
        let cure = if found.jobs > 0 { "; --skip-invalid starts the others" } else { "" };
        let lines = if found.bad_lines == 1 {
            "1 line is bad".into()
        } else {
            format!("{} lines are bad", found.bad_lines)
        };
        return Err(Failure::usage(format!("{label}: {lines}{more}, and nothing was started{cure}")));
    }
    if none {
        return Err(Failure::usage(no_jobs(label)));
    }
    Ok(())
}

/// The message for an input without a job.
pub(crate) fn no_jobs(label: &str) -> String {
    format!("{label}: there is no job in it; write one JSON object a line, as `sendoff run --help` shows")
}

/// The reading of an input before anything starts.
struct Scan {
    input: Input,
    position: Position,
    source: Source,
    skip_invalid: bool,
}

struct Scanned {
    input: Input,
    position: Position,
    lines: Lines<BufReader<Reader>>,
    source: Source,
    /// What is in the rest; unknown for what arrives bit by bit.
    found: Option<check::Found>,
}

impl Scan {
    fn run(self) -> Result<Scanned, Failure> {
        let Self { input, position, mut source, .. } = self;
        let failed = |err: std::io::Error| Failure::usage(format!("{}: {err}", input.label));
        let mut lines = input.lines()?;
        if position.bytes > 0 {
            let same = position.skip_consumed(&mut lines).map_err(failed)?;
            same.map_err(|changed| Failure::usage(changed_words(&input.label, &changed, &position)))?;
        }
        if input.streams() {
            return Ok(Scanned { input, position, lines, source, found: None });
        }
        let start = lines.reached().clone();
        let found = check::check(&mut lines, &mut source).map_err(failed)?;
        // What is appended from now on was not checked: it belongs to the next time.
        let end = lines.reached().bytes;
        let mut lines = input.lines_from(start)?;
        if !self.skip_invalid {
            lines.limit(end);
        }
        Ok(Scanned { input, position, lines, source, found: Some(found) })
    }
}

fn changed_words(label: &str, changed: &Changed, position: &Position) -> String {
    let what = match changed {
        Changed::Lines { first, last } if first == last => {
            format!("{label}:{first}: this line has changed since the run consumed it")
        }
        Changed::Lines { first, last } => {
            format!("{label}:{first}: a line from here to line {last} has changed since the run consumed it")
        }
        Changed::Shorter { lines } => {
            format!(
                "{label}:{lines}: the input ends here, but the run has consumed {} lines of it",
                position.lines
            )
        }
    };
    format!(
        "{what}; append new jobs after line {}, give the changed input another name (--run), or start over (--again)",
        position.lines
    )
}
