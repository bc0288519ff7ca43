//! `sendoff submit`: one job.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use sendoff::{
    Delivery, Guid, JobSpec,
    starter::{Http, HttpSecret, Process, Simulated},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    http::{Call, Client},
    output::{Output, Record, standing},
    wait,
};
use crate::{
    args::{JobOptions, Patience, SubmitCommand, SubmitHttpArgs, SubmitProcessArgs},
    failure::{Exit, Failure},
    run::Lookup,
};

pub(super) async fn run(client: &Client, output: Output, command: &SubmitCommand) -> Result<Exit, Failure> {
    let options = command.options();
    let mut spec = match command {
        SubmitCommand::Http(args) => JobSpec::new(&http(args)?),
        SubmitCommand::Process(args) => JobSpec::new(&process(args)?),
        SubmitCommand::Simulated(args) => JobSpec::new(&Simulated::new(args.takes.duration())),
        SubmitCommand::Job(args) => JobSpec::from_json(&read(&args.file)?)
            .map_err(|err| Failure::usage(format!("{}: {err}", label(&args.file))))?,
    };
    apply(options, &mut spec);
    let mut lookup = Lookup::of_this_process()
        .map_err(|err| Failure::usage(format!("the working directory cannot be read: {err}")))?;
    lookup.resolve(&mut spec).map_err(Failure::usage)?;
    make_repeatable(&mut spec);

    let json: Box<RawValue> = client.call(&Call::post("/v1/jobs").json(&spec)).await?.json()?;
    let record = Record::read(json)?;
    let Some(patience) = options.wait else {
        output.job(&record, |job| format!("{}  {}", job.guid, standing(job)))?;
        return Ok(Exit::Ok);
    };
    let timeout = match patience {
        Patience::Forever => None,
        Patience::For(timeout) => Some(timeout),
    };
    let record = wait::until_final(client, record.job.guid, wait::deadline(timeout)).await?;
    wait::tell(output, &record)?;
    wait::in_time(wait::exit(&record))
}

/// Gives a job a name that makes a second submit of it the same one, unless it has one. Whether it
/// has a new one now.
pub(super) fn make_repeatable(spec: &mut JobSpec) -> bool {
    let named = spec.guid.is_some() || spec.idempotency_key.is_some();
    if !named {
        spec.guid = Some(Guid::from_bytes(*Uuid::now_v7().as_bytes()));
    }
    !named
}

fn http(args: &SubmitHttpArgs) -> Result<Http, Failure> {
    let mut http = Http::post(&args.url).method(&args.method);
    for (name, value) in &args.header {
        http = http.header(name, value);
    }
    if let Some(text) = &args.data {
        http = http.body(text);
    }
    if let Some(json) = &args.data_json {
        let json = RawValue::from_string(json.clone())
            .map_err(|err| Failure::usage(format!("--data-json is not JSON: {err}")))?;
        http = http.json(&json).map_err(|err| Failure::usage(format!("--data-json: {err}")))?;
    }
    if let Some(file) = &args.data_file {
        let bytes = read(file)?;
        http = match String::from_utf8(bytes) {
            Ok(text) => http.body(text),
            Err(bytes) => http.bytes(bytes.as_bytes()),
        };
    }
    for (name, value) in &args.header_secret {
        http = http.header(name, secret(name, value)?);
    }
    Ok(http)
}

/// A reference to a secret, with what stands before it: `Bearer env:TOKEN`.
fn secret(name: &str, text: &str) -> Result<HttpSecret, Failure> {
    let refers = |rest: &str| rest.starts_with("env:") || rest.starts_with("file:");
    let words = std::iter::once(0).chain(text.match_indices(' ').map(|(at, _)| at + 1));
    let Some(at) = words.into_iter().find(|at| refers(&text[*at..])) else {
        // Not the text: it may be the secret itself.
        return Err(Failure::usage(format!(
            "--header-secret: the value of {name} refers to no secret; write it as NAME=env:VARIABLE, \
             NAME=file:/PATH or \"NAME=Bearer env:VARIABLE\""
        )));
    };
    let (prefix, reference) = text.split_at(at);
    Ok(HttpSecret { secret: reference.to_owned(), prefix: prefix.to_owned() })
}

fn process(args: &SubmitProcessArgs) -> Result<Process, Failure> {
    let [program, words @ ..] = &args.command[..] else {
        return Err(Failure::usage("name the program after --"));
    };
    let mut process = Process::new(program).args(words);
    for (name, value) in &args.env {
        process = process.env(name, value);
    }
    process.cwd = args.cwd.clone();
    process.stdout = args.stdout.clone();
    process.stderr = args.stderr.clone();
    Ok(process)
}

/// What the command line says replaces what the job says.
fn apply(options: &JobOptions, spec: &mut JobSpec) {
    if options.delay.is_some() || options.at.is_some() {
        (spec.delay, spec.run_at) = (options.delay, options.at);
    }
    if options.expires_in.is_some() || options.expires_at.is_some() {
        (spec.expires_in, spec.expires_at) = (options.expires_in, options.expires_at);
    }
    if options.at_most_once {
        spec.delivery = Some(Delivery::AtMostOnce);
    }
    if options.at_least_once {
        spec.delivery = Some(Delivery::AtLeastOnce);
    }
    if let Some(retries) = options.retries {
        spec.retry.max_attempts = Some(retries + 1);
    }
    replace(&mut spec.queue, &options.queue);
    replace(&mut spec.priority, &options.priority);
    replace(&mut spec.start_timeout, &options.start_timeout);
    replace(&mut spec.idempotency_key, &options.key);
    replace(&mut spec.guid, &options.guid);
    spec.labels.extend(options.label.iter().cloned());
}

fn replace<T: Clone>(what: &mut Option<T>, by: &Option<T>) {
    if by.is_some() {
        what.clone_from(by);
    }
}

/// What a file or standard input holds, if that is not too much for a job.
fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    let label = label(file);
    let unreadable = |err: std::io::Error| Failure::usage(format!("{label}: {err}"));
    let most = JobSpec::MAX_BYTES as u64;
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > most {
        return Err(Failure::usage(format!(
            "{label}: it is longer than the {most} bytes allowed; put large data elsewhere and pass a reference"
        )));
    }
    Ok(bytes)
}

fn label(file: &Path) -> String {
    if file == Path::new("-") { "stdin".into() } else { file.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_passed_on_as_a_reference() {
        let read = |text: &str| secret("A", text).map(|secret| (secret.prefix, secret.secret));
        assert_eq!(read("Bearer env:HOOK").unwrap(), ("Bearer ".to_owned(), "env:HOOK".to_owned()));
        assert_eq!(read("file:/run/a b").unwrap(), (String::new(), "file:/run/a b".to_owned()));
        let refused = read("hunter2").unwrap_err();
        assert!(!refused.message.contains("hunter2"), "{refused}");
    }
}
