//! `sendoff bench`: what sendoff adds to each kind of start, beside the raw limit.

mod case;
mod machine;
mod part;
mod plot;
mod progress;
mod raw;
mod report;
mod responder;
mod sample;
mod series;
mod table;
mod workload;

use std::{path::Path, process::ExitCode};

pub(crate) use part::run as run_part;

use self::{
    case::{Case, Side},
    machine::Machine,
    part::{Part, Place},
    progress::Progress,
    report::{Measured, Report},
    sample::Sample,
    series::Series,
    workload::Sizes,
};
use crate::{
    args::{BenchArgs, Workload},
    config::DatabaseUrl,
    failure::{Exit, Failure},
    out,
    signals::Signals,
};

/// Measures and reports.
pub(crate) async fn run(args: BenchArgs) -> Result<ExitCode, Failure> {
    let mut signals = Signals::listen()?;
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("sendoff-bench-").tempdir_in(&base).map_err(|err| {
        Failure::usage(format!("--dir: no folder can be made in {}: {err}", base.display()))
    })?;
    let store = tokio::select! {
        store = store(&args) => store?,
        () = signals.next() => return Err(Failure::not_all("interrupted; nothing was measured")),
    };
    measure_and_tell(&args, Place { dir: folder.path().to_owned(), store }, &mut signals).await
}

async fn measure_and_tell(
    args: &BenchArgs,
    place: Place,
    signals: &mut Signals,
) -> Result<ExitCode, Failure> {
    let sizes = Sizes { quick: args.quick, at_most: args.jobs.unwrap_or(u64::MAX), rows: &args.rows };
    let runs = args.runs.unwrap_or(if args.quick { 3 } else { 5 });
    let wanted = args.wanted();
    let mut cases = workload::cases(sizes);
    cases.retain(|case| wanted.iter().any(|name| name == case.workload));
    if let Some(plot) = &args.plot {
        // Better known now than after minutes.
        write(plot, "")?;
    }
    let machine = Machine::look(&place.dir);
    let people = !args.output.json && !args.output.quiet;
    let total = cases.iter().map(|case| case.sides.len()).sum::<usize>() as u64 * u64::from(runs);
    let progress = (!args.output.quiet).then(|| Progress::new(total));
    let mut report = Report { machine, runs, quick: args.quick, wanted: cases.len(), cases: Vec::new() };
    if people {
        out::line(&report.head())?;
    }
    let mut ended = Ok(Exit::Ok.into());
    for case in cases {
        // Children and files go with whoever is waited for.
        let measured = tokio::select! {
            measured = measure(case, runs, &place, progress.as_ref()) => measured,
            () = signals.next() => Err(Failure::not_all("interrupted; the cases before are reported")),
        };
        // What took minutes is told even if the next case fails.
        let measured = match measured {
            Ok(measured) => measured,
            Err(failure) => {
                ended = Err(failure);
                break;
            }
        };
        if people {
            let text = table::case(&measured);
            match &progress {
                Some(progress) => progress.aside(|| out::line(&text))?,
                None => out::line(&text)?,
            }
        }
        report.cases.push(measured);
    }
    drop(progress);
    if let Some(file) = &args.plot {
        write(file, &plot::draw(&report))?;
    }
    if people {
        out::line(&report.foot())?;
    } else if args.output.json {
        out::json(&report.json())?;
    }
    ended
}

fn write(file: &Path, content: &str) -> Result<(), Failure> {
    std::fs::write(file, content)
        .map_err(|err| Failure::usage(format!("--plot: {} cannot be written: {err}", file.display())))
}

/// The URL of the database to measure, if one is wanted.
async fn store(args: &BenchArgs) -> Result<Option<String>, Failure> {
    if !args.wanted().iter().any(|name| *name == Workload::Postgres.name()) {
        return Ok(None);
    }
    let url = args.store.as_deref().and_then(DatabaseUrl::given).ok_or_else(|| {
        Failure::usage("--store: postgres needs the URL of a database of its own, postgres://HOST/NAME")
    })?;
    let whole = url.with_password(std::env::var("PGPASSWORD").ok().as_deref());
    workload::postgres::check(&whole).await?;
    Ok(Some(whole))
}

/// The sides take turns, so that each meets the same noise.
async fn measure(
    case: Case,
    runs: u32,
    place: &Place,
    progress: Option<&Progress>,
) -> Result<Measured, Failure> {
    let mut series: Vec<Series> = case.sides.iter().map(|_| Series::default()).collect();
    let mut folders = Vec::new();
    for side in &case.sides {
        let Some(prepare) = &side.prepare else {
            folders.push(None);
            continue;
        };
        let folder = place.folder()?;
        run_side(&case, side, prepare, place, folder.path(), progress).await?;
        folders.push(Some(folder));
    }
    for _ in 0..runs {
        for ((side, series), shared) in case.sides.iter().zip(&mut series).zip(&folders) {
            let fresh = if shared.is_some() { None } else { Some(place.folder()?) };
            let folder = shared.as_ref().or(fresh.as_ref()).map_or(&*place.dir, |folder| folder.path());
            series.add(run_side(&case, side, &side.part, place, folder, progress).await?);
            if let Some(progress) = progress {
                progress.done();
            }
        }
    }
    Ok(Measured { case, series })
}

async fn run_side(
    case: &Case,
    side: &Side,
    part: &Part,
    place: &Place,
    folder: &Path,
    progress: Option<&Progress>,
) -> Result<Sample, Failure> {
    let name = format!("{} {}: {}", case.workload, case.name, side.name);
    if let Some(progress) = progress {
        progress.begin(&name);
    }
    let in_words = |failure: Failure| Failure { message: format!("{name}: {}", failure.message), ..failure };
    place.measure(part, folder).await.map_err(in_words)
}
